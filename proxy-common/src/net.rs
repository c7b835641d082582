//! Addresses, ports and protocols as the maps hold them.

/// An IPv4 or IPv6 address, 16 bytes in network order. IPv4 is held IPv4-mapped
/// (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), so that one map serves both families.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address {
    /// Network order; bytes 12 to 16 hold an IPv4 address.
    pub bytes: [u8; 16],
}

const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 4);

impl Address {
    /// The IPv4-mapped form of an IPv4 address in network order.
    #[inline(always)]
    pub const fn from_ipv4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self {
            bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
        }
    }

    /// An IPv6 address in network order.
    #[inline(always)]
    pub const fn from_ipv6(bytes: [u8; 16]) -> Self {
        Self { bytes }
    }

    /// Four 32-bit words in memory order (not byte-swapped): fit for copying, comparing and
    /// Internet checksums, which are indifferent to byte order (RFC 1071 section 2 B).
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        let b = &self.bytes;
        [
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ]
    }

    /// The IPv4 address's word in memory order: the last of [`Address::words`].
    #[inline(always)]
    pub const fn ipv4_word(&self) -> u32 {
        self.words()[3]
    }

    /// Whether this is an IPv4-mapped address.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        let words = self.words();
        words[0] == 0 && words[1] == 0 && words[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }
}

#[cfg(any(feature = "user", test))]
mod std_forms {
    use super::Address;
    use core::fmt;
    use std::net::{IpAddr, Ipv6Addr};

    impl From<IpAddr> for Address {
        fn from(address: IpAddr) -> Self {
            match address {
                IpAddr::V4(v4) => Self::from_ipv4(v4.octets()),
                IpAddr::V6(v6) => Self::from_ipv6(v6.octets()),
            }
        }
    }

    impl From<Address> for IpAddr {
        fn from(address: Address) -> Self {
            let v6 = Ipv6Addr::from(address.bytes);
            v6.to_ipv4_mapped().map_or(Self::V6(v6), Self::V4)
        }
    }

    impl fmt::Display for Address {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            IpAddr::from(*self).fmt(f)
        }
    }

    impl fmt::Debug for Address {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }
}

/// Layer 4 protocols that can be balanced, by their IANA protocol numbers.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
}

impl Protocol {
    /// The name used in configs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The protocol with this IANA number, if it can be balanced.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}
