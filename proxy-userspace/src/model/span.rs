//! The addresses and ports of an L4 service, from its first one on.

use super::ListenAddr;
use std::net::{IpAddr, SocketAddr};

/// How far a service reaches beyond its address and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Bits of the address that count; the rest of it is zero. 32 (IPv4) or 128 for one address.
    pub prefix_bits: u8,
    /// Last port, itself included; the service's own port for one alone. 65,535 where that one is 0: all ports.
    pub last_port: u16,
}

impl Span {
    /// One address and port.
    pub fn single(address: ListenAddr) -> Self {
        Self {
            prefix_bits: width(address.0.ip()),
            last_port: address.0.port(),
        }
    }

    /// Whether it is more than one address and port.
    pub fn is_range(&self, first: ListenAddr) -> bool {
        *self != Self::single(first)
    }

    /// Whether a service that begins with `first` has this address and port.
    pub fn contains(&self, first: ListenAddr, address: SocketAddr) -> bool {
        let ports = first.0.port()..=self.last_port;
        let differ = match (first.0.ip(), address.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
            (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
            _ => return false,
        };
        let same = differ.leading_zeros() >= u32::from(self.prefix_bits);
        same && ports.contains(&address.port())
    }

    /// As a user types it.
    pub fn text(&self, first: ListenAddr) -> String {
        let ip = first.0.ip();
        let prefix = if self.prefix_bits == width(ip) {
            ip.to_string()
        } else {
            format!("{ip}/{}", self.prefix_bits)
        };
        let host = if ip.is_ipv6() {
            format!("[{prefix}]")
        } else {
            prefix
        };
        match (first.0.port(), self.last_port) {
            (0, _) => format!("{host}:0"),
            (port, last) if port == last => format!("{host}:{port}"),
            (port, last) => format!("{host}:{port}-{last}"),
        }
    }
}

/// Bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_it_says() {
        let cases = [
            (
                "192.0.2.10:80",
                32,
                80,
                "192.0.2.10:80",
                "192.0.2.10:80",
                "192.0.2.10:81",
            ),
            (
                "192.0.2.10:80",
                32,
                90,
                "192.0.2.10:80-90",
                "192.0.2.10:90",
                "192.0.2.10:91",
            ),
            (
                "192.0.2.10:0",
                32,
                65_535,
                "192.0.2.10:0",
                "192.0.2.10:9",
                "192.0.2.11:9",
            ),
            (
                "192.0.2.0:53",
                28,
                53,
                "192.0.2.0/28:53",
                "192.0.2.15:53",
                "192.0.2.16:53",
            ),
            (
                "[2001:db8::]:53",
                64,
                53,
                "[2001:db8::/64]:53",
                "[2001:db8::9]:53",
                "[2001:db8:0:1::]:53",
            ),
            ("0.0.0.0:53", 0, 53, "0.0.0.0/0:53", "198.51.100.1:53", "[::]:53"),
        ];
        for (first, prefix_bits, last_port, text, inside, outside) in cases {
            let first = ListenAddr(first.parse().unwrap());
            let span = Span {
                prefix_bits,
                last_port,
            };
            assert_eq!(span.text(first), text);
            assert!(
                span.contains(first, inside.parse().unwrap()),
                "{text} has {inside}"
            );
            assert!(
                !span.contains(first, outside.parse().unwrap()),
                "{text} has {outside}"
            );
        }
    }
}
