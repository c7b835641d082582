//! Builds frames, by etherparse's headers and checksums.

use super::{
    parse::{ICMP, ICMPV6, TCP, UDP},
    translate::{End, octets},
};
use etherparse::{
    IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, TcpHeader, UdpHeader,
    checksum::Sum16BitWords,
};
use std::net::IpAddr;

/// What the checksum of the transport header is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// Right.
    Right,
    /// Wrong by this much.
    Wrong(u16),
    /// Zero: none, in UDP over IPv4.
    Zero,
}

/// A frame to be built; start from [`Frame::tcp`], [`Frame::udp`] or [`Frame::icmp`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Destination and source MAC.
    pub macs: [u8; 12],
    /// VLAN tags, outermost first: EtherType and tag control information.
    pub tags: Vec<(u16, u16)>,
    /// Sender.
    pub source: End,
    /// Receiver.
    pub destination: End,
    /// The IP protocol.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN: TOS or traffic class.
    pub class: u8,
    /// IPv4's identification, and whether it may not be fragmented.
    pub identification: (u16, bool),
    /// IPv4 options: a multiple of 4 bytes, up to 40.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and how many 8-byte units beyond the first.
    pub extensions: Vec<(u8, u8)>,
    /// IPv4: more fragments, and the offset in units of 8 bytes.
    pub fragment: (bool, u16),
    /// TCP's flag byte.
    pub flags: u8,
    /// TCP options: a multiple of 4 bytes, up to 40.
    pub tcp_options: Vec<u8>,
    /// ICMP's type and code.
    pub icmp: (u8, u8),
    /// What the transport header carries; for ICMP everything after the checksum.
    pub payload: Vec<u8>,
    /// Bytes after the IP packet.
    pub padding: usize,
    /// The transport header's checksum.
    pub checksum: Checksum,
}

impl Frame {
    /// A TCP segment with these flags and 8 bytes of payload.
    pub fn tcp(source: End, destination: End, flags: u8) -> Self {
        Self {
            flags,
            ..Self::plain(source, destination, TCP)
        }
    }

    /// A UDP datagram with 8 bytes of payload.
    pub fn udp(source: End, destination: End) -> Self {
        Self::plain(source, destination, UDP)
    }

    /// An ICMP or ICMPv6 message; `rest` is what follows the checksum.
    pub fn icmp(source: IpAddr, destination: IpAddr, kind: (u8, u8), rest: Vec<u8>) -> Self {
        let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
        Self {
            icmp: kind,
            payload: rest,
            ..Self::plain((source, 0), (destination, 0), protocol)
        }
    }

    /// Any other protocol.
    pub fn plain(source: End, destination: End, protocol: u8) -> Self {
        Self {
            macs: [0x02, 0, 0, 0, 0xaa, 1, 0x02, 0, 0, 0, 0xcc, 1],
            tags: Vec::new(),
            source,
            destination,
            protocol,
            ttl: 64,
            class: 0,
            identification: (0x1234, true),
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: (false, 0),
            flags: 0,
            tcp_options: Vec::new(),
            icmp: (0, 0),
            payload: b"payload!".to_vec(),
            padding: 0,
            checksum: Checksum::Right,
        }
    }

    /// The bytes of the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let packet = self.packet();
        let mut bytes = Vec::with_capacity(22 + packet.len() + self.padding);
        bytes.extend(self.macs);
        for (kind, control) in &self.tags {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(control.to_be_bytes());
        }
        let kind: u16 = if self.destination.0.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        bytes.extend(kind.to_be_bytes());
        bytes.extend(packet);
        bytes.resize(bytes.len() + self.padding, 0x5a);
        bytes
    }

    /// The IP packet alone.
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    time_to_live: self.ttl,
                    dscp: IpDscp::try_new(self.class >> 2).unwrap_or_default(),
                    ecn: IpEcn::try_new(self.class & 3).unwrap_or_default(),
                    protocol: IpNumber(self.protocol),
                    source: source.octets(),
                    destination: destination.octets(),
                    more_fragments: self.fragment.0,
                    fragment_offset: IpFragOffset::try_new(self.fragment.1).unwrap_or_default(),
                    identification: self.identification.0,
                    dont_fragment: self.identification.1,
                    options: Ipv4Options::try_from(self.options.as_slice()).unwrap_or_default(),
                    ..Ipv4Header::default()
                };
                header.total_len = (header.header_len() + transport.len()) as u16;
                header.header_checksum = header.calc_header_checksum();
                [header.to_bytes().as_slice(), &transport].concat()
            }
            (source, destination) => {
                let (first, extensions) = self.extension_bytes();
                let header = Ipv6Header {
                    payload_length: (extensions.len() + transport.len()) as u16,
                    next_header: IpNumber(first),
                    hop_limit: self.ttl,
                    traffic_class: self.class,
                    source: sixteen(source),
                    destination: sixteen(destination),
                    ..Ipv6Header::default()
                };
                [header.to_bytes().as_slice(), &extensions, &transport].concat()
            }
        }
    }

    /// The number of the first extension header, or of the protocol, and the headers' bytes.
    fn extension_bytes(&self) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        for (at, (_, units)) in self.extensions.iter().enumerate() {
            let next = self
                .extensions
                .get(at + 1)
                .map_or(self.protocol, |(kind, _)| *kind);
            bytes.extend([next, *units]);
            // PadN of all that is left (RFC 8200 section 4.2).
            let rest = 6 + 8 * usize::from(*units);
            bytes.extend([1, (rest - 2) as u8]);
            bytes.resize(bytes.len() + rest - 2, 0);
        }
        (
            self.extensions.first().map_or(self.protocol, |(kind, _)| *kind),
            bytes,
        )
    }

    fn transport(&self) -> Vec<u8> {
        let (mut bytes, field) = match self.protocol {
            TCP => (self.tcp_bytes(), 16),
            UDP => (self.udp_bytes(), 6),
            ICMP | ICMPV6 => (self.icmp_bytes(), 2),
            _ => return self.payload.clone(),
        };
        let right = u16::from_be_bytes([bytes[field], bytes[field + 1]]);
        let checksum = match self.checksum {
            Checksum::Right => right,
            Checksum::Wrong(by) => right ^ by,
            Checksum::Zero => 0,
        };
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn tcp_bytes(&self) -> Vec<u8> {
        let mut header = TcpHeader::new(self.source.1, self.destination.1, 0x0102_0304, 4096);
        header.acknowledgment_number = 0x0506_0708;
        let _ = header.set_options_raw(&self.tcp_options);
        header.checksum = 0;
        let mut bytes = [header.to_bytes().as_slice(), &self.payload].concat();
        bytes[13] = self.flags;
        let sum = self.sum(&bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn udp_bytes(&self) -> Vec<u8> {
        let header = UdpHeader {
            source_port: self.source.1,
            destination_port: self.destination.1,
            length: (8 + self.payload.len()) as u16,
            checksum: 0,
        };
        let mut bytes = [header.to_bytes().as_slice(), &self.payload].concat();
        let sum = match self.sum(&bytes) {
            0 => 0xffff,
            sum => sum,
        };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn icmp_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.icmp.0, self.icmp.1, 0, 0];
        bytes.extend(&self.payload);
        let sum = if self.protocol == ICMPV6 {
            self.sum(&bytes)
        } else {
            Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be()
        };
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The checksum over the pseudo header and these bytes.
    fn sum(&self, bytes: &[u8]) -> u16 {
        Sum16BitWords::new()
            .add_slice(&octets(self.source.0))
            .add_slice(&octets(self.destination.0))
            .add_2bytes([0, self.protocol])
            .add_4bytes((bytes.len() as u32).to_be_bytes())
            .add_slice(bytes)
            .ones_complement()
            .to_be()
    }
}

/// An IPv6 address's octets; an IPv4 one's in the mapped form.
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketHeaders, TransportHeader};

    fn end(address: &str, port: u16) -> End {
        (address.parse().unwrap(), port)
    }

    #[test]
    fn etherparse_reads_what_was_built() {
        for (source, destination) in [("192.0.2.1", "198.18.0.1"), ("2001:db8::1", "2001:db8::2")] {
            let mut frame = Frame::tcp(end(source, 40_000), end(destination, 80), 0x02);
            frame.tags = vec![(0x88a8, 7), (0x8100, 8)];
            let bytes = frame.bytes();
            let headers = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
            assert_eq!(headers.link_exts.len(), 2);
            let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
                panic!("no TCP in {bytes:02x?}");
            };
            assert!(tcp.syn && !tcp.ack);
            let sum = match (frame.source.0, frame.destination.0) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), b"payload!")
                }
                (from, to) => tcp.calc_checksum_ipv6_raw(sixteen(from), sixteen(to), b"payload!"),
            };
            assert_eq!(sum.unwrap(), tcp.checksum);
        }
    }
}
