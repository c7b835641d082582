//! Offsets, lengths and numbers of the headers on the packet path, with their sources.

/// Ethernet II (IEEE 802.3): destination, source, type.
pub mod ethernet {
    /// Header length in bytes.
    pub const LENGTH: usize = 14;
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const VLAN_SERVICE: u16 = 0x88a8;
    /// Length of one tag: control information and the next type.
    pub const VLAN_LENGTH: usize = 4;
}

/// IPv4 (RFC 791).
pub mod ipv4 {
    /// Length without options.
    pub const LENGTH: usize = 20;
    /// More fragments, and the fragment offset, of the 16 bits at offset 6.
    pub const FRAGMENT_MASK: u16 = 0x3fff;
    /// The fragment offset alone.
    pub const OFFSET_MASK: u16 = 0x1fff;
}

/// IPv6 (RFC 8200) and its extension headers.
pub mod ipv6 {
    /// Length of the fixed header.
    pub const LENGTH: usize = 40;
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Length of the fragment header.
    pub const FRAGMENT_LENGTH: usize = 8;
    /// The fragment offset, of the 16 bits at offset 2 of the fragment header.
    pub const OFFSET_MASK: u16 = 0xfff8;
    /// More fragments, of the same.
    pub const MORE_FRAGMENTS: u16 = 1;
    /// Destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// IANA protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv4 in IP (RFC 2003).
    pub const IPIP: u8 = 4;
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
}

/// TCP (RFC 9293).
pub mod tcp {
    /// Length without options.
    pub const LENGTH: usize = 20;
    /// Offset of the flag byte.
    pub const FLAGS_OFFSET: usize = 13;
    /// Offset of the checksum.
    pub const CHECKSUM_OFFSET: usize = 16;
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether a packet with these flags opens a connection: SYN without ACK, FIN or RST.
    #[inline(always)]
    pub const fn opens(flags: u8) -> bool {
        flags & (SYN | ACK | FIN | RST) == SYN
    }
}

/// UDP (RFC 768).
pub mod udp {
    /// Header length.
    pub const LENGTH: usize = 8;
    /// Offset of the checksum.
    pub const CHECKSUM_OFFSET: usize = 6;
}

/// ICMP (RFC 792) and ICMPv6 (RFC 4443).
pub mod icmp {
    /// Header length of the messages handled.
    pub const LENGTH: usize = 8;
    /// ICMP echo request.
    pub const ECHO: u8 = 8;
    /// ICMP echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// ICMP destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// The code of "unreachable" for a packet that is too large (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// ICMPv6 packet too big.
    pub const V6_TOO_BIG: u8 = 2;
    /// ICMPv6 time exceeded.
    pub const V6_TIME_EXCEEDED: u8 = 3;
    /// ICMP time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// ICMP parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// ICMPv6 echo request.
    pub const V6_ECHO: u8 = 128;
    /// ICMPv6 echo reply.
    pub const V6_ECHO_REPLY: u8 = 129;
    /// ICMPv6 errors are the types below this one: 1 to 4 are defined.
    pub const V6_ERRORS: core::ops::RangeInclusive<u8> = 1..=4;
}
