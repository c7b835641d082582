//! From a frame to addresses, ports and offsets: docs/dataplane.md, "Parsing".

mod ip;

pub use ip::{Ipv4Header, Ipv6Header};

use crate::{fragments, packet::Packet, ranges};
use ip::{network_ipv4, network_ipv6};
use proxy_common::{
    headers::{ethernet, icmp, protocol, tcp, udp},
    keys::FlowKey,
    limits,
    verdict::DropReason,
};

/// What a frame turned out to be.
pub enum Parsed {
    /// Nothing for us.
    Pass,
    /// TCP or UDP; its ports are in the key.
    Transport,
    /// The same, of a datagram's first fragment: others follow it.
    FirstFragment,
    /// ICMP or ICMPv6, its header inside the packet.
    Icmp,
}

/// A parsed packet. Offsets count from the start of the frame.
///
/// Offsets are 16 bits wide on purpose: the verifier forgets what it knew of a value stored in two
/// bytes, so that all ways through the parser end in one state and the rest is verified once.
pub struct Headers {
    /// 5-tuple; ports are unset for ICMP.
    pub key: FlowKey,
    /// IPv4 rather than IPv6.
    pub is_ipv4: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags; none in a later fragment.
    pub tcp_flags: u8,
    /// A fragment's number of its datagram as it lies, low half first; of no meaning in other packets.
    pub identification: [u16; 2],
    l3: u16,
    l4: u16,
    end: u16,
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// All of it.
    Whole,
    /// The first fragment: it has the transport header.
    First,
    /// Another one: its ports are those of the first.
    Later,
}

impl Headers {
    /// Whether it is a later fragment, which holds no transport header. Said by [`Headers::l4`], which then is where the IP header
    /// is: with a field of its own the verifier would go all ways behind the parser twice.
    #[inline(always)]
    pub fn is_later(&self) -> bool {
        self.l4 == self.l3
    }

    /// Offset of the IP header.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        usize::from(self.l3)
    }

    /// Offset of the transport or ICMP header.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// Offset of the end of the IP packet.
    #[inline(always)]
    pub fn end(&self) -> usize {
        usize::from(self.end)
    }

    /// Bytes of the IP packet.
    #[inline(always)]
    pub fn ip_length(&self) -> u16 {
        self.end.wrapping_sub(self.l3)
    }
}

/// Parses a frame. `frame_length` tells the bytes of all of it, and is asked only where the linear
/// part is shorter than the IP packet.
///
/// # Errors
/// What is wrong with a packet for a VIP; whatever is wrong with another one, it is
/// [`Parsed::Pass`]. One map lookup, only if something is wrong.
#[inline(always)]
pub fn parse(
    packet: &Packet,
    frame_length: impl Fn() -> usize,
    headers: &mut Headers,
) -> Result<Parsed, DropReason> {
    let Some(is_ipv4) = link(packet, headers) else {
        return Ok(Parsed::Pass);
    };
    headers.is_ipv4 = is_ipv4;
    headers.key.pad = [0; 3];
    headers.tcp_flags = 0;
    let network = if is_ipv4 {
        network_ipv4(packet, frame_length, headers)
    } else {
        network_ipv6(packet, frame_length, headers)
    };
    match network.and_then(|piece| transport(packet, headers, piece)) {
        Ok(parsed) => Ok(parsed),
        Err(Fault::NotOurs) => Ok(Parsed::Pass),
        Err(Fault::Broken(reason)) => {
            if ranges::is_vip(&headers.key.destination) {
                Err(reason)
            } else {
                Ok(Parsed::Pass)
            }
        }
    }
}

/// [`parse`]'s result in one word, for programs that call it as a function: 0 pass, 1 transport,
/// 2 ICMP, 3 first fragment, else 16 and the drop reason's code.
#[inline(always)]
pub fn pack(parsed: Result<Parsed, DropReason>) -> u64 {
    match parsed {
        Ok(Parsed::Pass) => 0,
        Ok(Parsed::Transport) => 1,
        Ok(Parsed::Icmp) => 2,
        Ok(Parsed::FirstFragment) => 3,
        Err(reason) => 16 + reason as u64,
    }
}

/// The inverse of [`pack`].
#[inline(always)]
pub fn unpack(packed: u64) -> Result<Parsed, DropReason> {
    match packed {
        0 => Ok(Parsed::Pass),
        1 => Ok(Parsed::Transport),
        2 => Ok(Parsed::Icmp),
        3 => Ok(Parsed::FirstFragment),
        code => Err(DropReason::from_code((code - 16) as u32)),
    }
}

/// Why parsing ended early.
enum Fault {
    /// Something we don't handle: the stack's.
    NotOurs,
    /// Something to drop, if it is for a VIP.
    Broken(DropReason),
}

/// Ethernet and VLAN tags; whether IPv4 or IPv6 follows.
#[inline(always)]
fn link(packet: &Packet, headers: &mut Headers) -> Option<bool> {
    let first_octet: u8 = packet.read(0)?;
    // The group bit, IEEE 802.3 section 3.2.3.
    if first_octet & 1 != 0 {
        return None;
    }
    let mut offset = ethernet::LENGTH;
    let mut ethertype = u16::from_be(packet.read(offset - 2)?);
    for _ in 0..limits::VLAN_TAGS {
        if ethertype != ethernet::VLAN && ethertype != ethernet::VLAN_SERVICE {
            break;
        }
        offset += ethernet::VLAN_LENGTH;
        ethertype = u16::from_be(packet.read(offset - 2)?);
    }
    headers.l3 = offset as u16;
    match ethertype {
        ethernet::IPV4 => Some(true),
        ethernet::IPV6 => Some(false),
        _ => None,
    }
}

/// The transport header: ports and TCP flags, or ICMP's presence.
#[inline(always)]
fn transport(packet: &Packet, headers: &mut Headers, piece: Piece) -> Result<Parsed, Fault> {
    if piece == Piece::Later {
        return match fragments::complete(headers) {
            true => Ok(Parsed::Transport),
            false => Err(Fault::Broken(DropReason::Fragment)),
        };
    }
    let found = match piece {
        Piece::First => Parsed::FirstFragment,
        _ => Parsed::Transport,
    };
    let l4 = headers.l4();
    let available = headers.end().wrapping_sub(l4);
    match (headers.key.protocol, headers.is_ipv4) {
        (protocol::TCP, _) => {
            let header: [u8; tcp::LENGTH] = packet.read(l4).ok_or(Fault::Broken(DropReason::Truncated))?;
            if available < tcp::LENGTH {
                return Err(Fault::Broken(DropReason::Truncated));
            }
            let data_offset = usize::from(header[12] >> 4) * 4;
            if data_offset < tcp::LENGTH || data_offset > available {
                return Err(Fault::Broken(DropReason::BadHeader));
            }
            headers.tcp_flags = header[tcp::FLAGS_OFFSET];
            headers.key.source_port = u16::from_be_bytes([header[0], header[1]]);
            headers.key.destination_port = u16::from_be_bytes([header[2], header[3]]);
            Ok(found)
        }
        (protocol::UDP, _) => {
            let header: [u16; udp::LENGTH / 2] =
                packet.read(l4).ok_or(Fault::Broken(DropReason::Truncated))?;
            if available < udp::LENGTH {
                return Err(Fault::Broken(DropReason::Truncated));
            }
            let length = usize::from(u16::from_be(header[2]));
            // A first fragment says how long all of them are together.
            if length < udp::LENGTH || length > available && piece == Piece::Whole {
                return Err(Fault::Broken(DropReason::BadHeader));
            }
            headers.key.source_port = u16::from_be(header[0]);
            headers.key.destination_port = u16::from_be(header[1]);
            Ok(found)
        }
        _ if piece == Piece::First => Err(Fault::Broken(DropReason::Fragment)),
        (protocol::ICMP, true) | (protocol::ICMPV6, false) => {
            if available < icmp::LENGTH || packet.at::<[u8; icmp::LENGTH]>(l4).is_none() {
                return Err(Fault::NotOurs);
            }
            Ok(Parsed::Icmp)
        }
        _ => Err(Fault::NotOurs),
    }
}
