//! Reads a frame by the rules of docs/dataplane.md, section "Parsing".

use proxy_common::verdict::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LENGTH: usize = 14;
const TAG: usize = 4;
const TAGS_WALKED: usize = 2;
const EXTENSIONS_WALKED: usize = 6;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;

/// An IP packet found in a frame, before anything in its header is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    /// Where the IP header starts.
    pub network: usize,
    /// Where the packet says it goes.
    pub destination: IpAddr,
}

/// Which part of its datagram a packet is, and the datagram's identification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The first fragment.
    First(u32),
    /// Another fragment: it has no transport header.
    Later(u32),
}

/// A packet whose IP header is in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Where the IP header starts.
    pub network: usize,
    /// Where what it carries starts.
    pub transport: usize,
    /// Where the IP length ends; a frame may go on (padding).
    pub end: usize,
    /// The protocol it carries.
    pub protocol: u8,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Which part of its datagram it is.
    pub piece: Piece,
}

impl Packet {
    /// TCP's flag byte; zero in what has none.
    pub fn tcp_flags(&self, frame: &[u8]) -> u8 {
        match (self.protocol, self.piece) {
            (TCP, Piece::Whole | Piece::First(_)) => frame[self.transport + 13],
            _ => 0,
        }
    }
}

/// Two bytes in network order.
pub fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The address of this many bytes, 4 or 16, in network order.
pub fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
        Err(_) => {
            let mut octets = [0; 16];
            octets.copy_from_slice(bytes);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

/// Finds the IP packet of a frame and its destination. None: such a frame passes.
pub fn locate(frame: &[u8]) -> Option<Located> {
    if frame.len() < ETHERNET_LENGTH || frame[0] & 1 != 0 {
        return None;
    }
    let mut network = ETHERNET_LENGTH;
    let mut tags = 0;
    while matches!(half(frame, network - 2), 0x8100 | 0x88a8) {
        tags += 1;
        network += TAG;
        if tags > TAGS_WALKED || frame.len() < network {
            return None;
        }
    }
    let destination = match half(frame, network - 2) {
        0x0800 => address(frame.get(network + 16..network + 20)?),
        0x86dd => {
            let addresses = frame.get(network + 8..network + 40)?;
            // An IPv4-mapped address never stands in an IPv6 header on a wire (RFC 4291 section
            // 2.5.5.2, RFC 6890 table 20), and the maps hold IPv4 addresses in that very form.
            if is_mapped(&addresses[..16]) || is_mapped(&addresses[16..]) {
                return None;
            }
            address(&addresses[16..])
        }
        _ => return None,
    };
    Some(Located { network, destination })
}

fn is_mapped(octets: &[u8]) -> bool {
    octets[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}

/// Reads the IP header (rules 3 and 4). `follow`: fragments are no reason to drop it.
///
/// # Errors
/// Why the packet is dropped if it is for a VIP.
pub fn headers(frame: &[u8], located: &Located, follow: bool) -> Result<Packet, DropReason> {
    match located.destination {
        IpAddr::V4(_) => ipv4(frame, located, follow),
        IpAddr::V6(_) => ipv6(frame, located, follow),
    }
}

fn ipv4(frame: &[u8], located: &Located, follow: bool) -> Result<Packet, DropReason> {
    let header = &frame[located.network..];
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total_length = usize::from(half(header, 2));
    if header_length > header.len() || header_length > total_length {
        return Err(DropReason::Truncated);
    }
    if header[0] >> 4 != 4 || header_length < 20 {
        return Err(DropReason::BadHeader);
    }
    if total_length > header.len() {
        return Err(DropReason::Truncated);
    }
    let identification = u32::from(half(header, 4));
    let (more, offset) = (half(header, 6) & 0x2000 != 0, half(header, 6) & 0x1fff);
    let piece = match (more, offset) {
        (false, 0) => Piece::Whole,
        _ if !follow => return Err(DropReason::Fragment),
        (true, 0) => Piece::First(identification),
        _ => Piece::Later(identification),
    };
    Ok(Packet {
        network: located.network,
        transport: located.network + header_length,
        end: located.network + total_length,
        protocol: header[9],
        source: address(&header[12..16]),
        destination: located.destination,
        piece,
    })
}

fn ipv6(frame: &[u8], located: &Located, follow: bool) -> Result<Packet, DropReason> {
    let header = &frame[located.network..];
    if header[0] >> 4 != 6 {
        return Err(DropReason::BadHeader);
    }
    let end = 40 + usize::from(half(header, 4));
    if end > header.len() {
        return Err(DropReason::Truncated);
    }
    let (mut protocol, mut at, mut walked) = (header[6], 40, 0);
    let mut pieces = Vec::new();
    while matches!(protocol, 0 | 43 | 60 | 44) && !matches!(pieces[..], [Piece::Later(_)]) {
        let is_fragment = protocol == 44;
        if is_fragment && (!follow || !pieces.is_empty()) {
            return Err(DropReason::Fragment);
        }
        if walked == EXTENSIONS_WALKED {
            return Err(DropReason::ExtensionHeaders);
        }
        if at + 2 > end {
            return Err(DropReason::Truncated);
        }
        let length = if is_fragment {
            8
        } else {
            (usize::from(header[at + 1]) + 1) * 8
        };
        if at + length > end {
            return Err(DropReason::Truncated);
        }
        if is_fragment {
            pieces.push(piece_ipv6(&header[at..at + 8]));
        }
        protocol = header[at];
        at += length;
        walked += 1;
    }
    Ok(Packet {
        network: located.network,
        transport: located.network + at,
        end: located.network + end,
        protocol,
        source: address(&header[8..24]),
        destination: located.destination,
        piece: pieces.pop().unwrap_or(Piece::Whole),
    })
}

/// What a fragment header says (RFC 8200 section 4.5).
fn piece_ipv6(header: &[u8]) -> Piece {
    let identification = u32::from(half(header, 4)) << 16 | u32::from(half(header, 6));
    let place = half(header, 2);
    match (place >> 3, place & 1) {
        // RFC 6946: the only fragment is handled as if the header weren't there.
        (0, 0) => Piece::Whole,
        (0, _) => Piece::First(identification),
        _ => Piece::Later(identification),
    }
}

/// Checks the TCP or UDP header (rule 5) and reads its ports, source first.
///
/// # Errors
/// Why the packet is dropped if it is for a VIP.
pub fn ports(frame: &[u8], packet: &Packet) -> Result<(u16, u16), DropReason> {
    let segment = &frame[packet.transport..packet.end];
    let least = if packet.protocol == TCP { 20 } else { 8 };
    if segment.len() < least {
        return Err(DropReason::Truncated);
    }
    let in_order = if packet.protocol == TCP {
        let header_length = usize::from(segment[12] >> 4) * 4;
        (20..=segment.len()).contains(&header_length)
    } else {
        let length = usize::from(half(segment, 4));
        let is_first = matches!(packet.piece, Piece::First(_));
        length >= 8 && (is_first || length <= segment.len())
    };
    if !in_order {
        return Err(DropReason::BadHeader);
    }
    Ok((half(segment, 0), half(segment, 2)))
}
