//! From a frame to addresses, ports and offsets: docs/dataplane.md, "Parsing".

use crate::{packet::Packet, ranges};
use proxy_common::{
    headers::{ethernet, icmp, ipv4, ipv6, protocol, tcp, udp},
    keys::FlowKey,
    limits,
    net::Address,
    verdict::DropReason,
};

/// What a frame turned out to be.
pub enum Parsed {
    /// Nothing for us.
    Pass,
    /// TCP or UDP; its ports are in the key.
    Transport,
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
    /// TCP flags.
    pub tcp_flags: u8,
    l3: u16,
    l4: u16,
    end: u16,
}

impl Headers {
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
    match network.and_then(|()| transport(packet, headers)) {
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
/// 2 ICMP, else 16 and the drop reason's code.
#[inline(always)]
pub fn pack(parsed: Result<Parsed, DropReason>) -> u64 {
    match parsed {
        Ok(Parsed::Pass) => 0,
        Ok(Parsed::Transport) => 1,
        Ok(Parsed::Icmp) => 2,
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

/// The IPv4 fields that are read, as they lie (RFC 791).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == ipv4::LENGTH);

impl Ipv4Header {
    /// Version 4.
    #[inline(always)]
    pub fn is_version_4(&self) -> bool {
        self.version_ihl >> 4 == 4
    }

    /// Version 4, no options, not a fragment.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_ihl == 0x45 && u16::from_be(self.fragment) & ipv4::FRAGMENT_MASK == 0
    }
}

#[inline(always)]
fn network_ipv4(
    packet: &Packet,
    frame_length: impl Fn() -> usize,
    headers: &mut Headers,
) -> Result<(), Fault> {
    let l3 = headers.l3();
    let header: Ipv4Header = packet.read(l3).ok_or(Fault::NotOurs)?;
    headers.key.source = Address::from_ipv4(header.source);
    headers.key.destination = Address::from_ipv4(header.destination);
    headers.key.protocol = header.protocol;
    headers.ttl = header.ttl;
    let header_length = usize::from(header.version_ihl & 0x0f) * 4;
    let total_length = usize::from(u16::from_be(header.total_length));
    if header_length > total_length || is_beyond(packet, &frame_length, l3 + header_length) {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    if header.version_ihl >> 4 != 4 || header_length < ipv4::LENGTH {
        return Err(Fault::Broken(DropReason::BadHeader));
    }
    if is_beyond(packet, &frame_length, l3 + total_length) {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    if u16::from_be(header.fragment) & ipv4::FRAGMENT_MASK != 0 {
        return Err(Fault::Broken(DropReason::Fragment));
    }
    headers.l4 = (l3 + header_length) as u16;
    headers.end = end_offset(l3 + total_length)?;
    Ok(())
}

/// Whether an offset lies beyond the frame's end.
#[inline(always)]
fn is_beyond(packet: &Packet, frame_length: &impl Fn() -> usize, offset: usize) -> bool {
    offset > packet.len() && offset > frame_length()
}

/// The offset of a packet's end, in 16 bits. Only a local socket's segment of nearly 64 KiB behind
/// VLAN tags could be beyond them, and no interface takes that.
#[inline(always)]
fn end_offset(end: usize) -> Result<u16, Fault> {
    if end > 0xffff {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    Ok(end as u16)
}

/// The IPv6 fixed header, as it lies (RFC 8200 section 3).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ipv6Header {
    version_class: u8,
    class_label: [u8; 3],
    payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

const _: () = assert!(size_of::<Ipv6Header>() == ipv6::LENGTH);

impl Ipv6Header {
    /// Version 6.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_class >> 4 == 6
    }
}

#[inline(always)]
fn network_ipv6(
    packet: &Packet,
    frame_length: impl Fn() -> usize,
    headers: &mut Headers,
) -> Result<(), Fault> {
    let l3 = headers.l3();
    let header: Ipv6Header = packet.read(l3).ok_or(Fault::NotOurs)?;
    headers.key.source = Address::from_ipv6(header.source);
    headers.key.destination = Address::from_ipv6(header.destination);
    headers.ttl = header.hop_limit;
    // The maps hold IPv4 as IPv4-mapped addresses, which no host may send (RFC 4291 section
    // 2.5.5.2 gives them to sockets only): such a packet must not find IPv4's services.
    if headers.key.source.is_ipv4() || headers.key.destination.is_ipv4() {
        return Err(Fault::NotOurs);
    }
    if header.version_class >> 4 != 6 {
        return Err(Fault::Broken(DropReason::BadHeader));
    }
    let end = l3 + ipv6::LENGTH + usize::from(u16::from_be(header.payload_length));
    if is_beyond(packet, &frame_length, end) {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    headers.end = end_offset(end)?;
    extension_headers(packet, header.next_header, headers)
}

/// Walks extension headers up to the transport header; sets its offset and protocol.
#[inline(always)]
fn extension_headers(packet: &Packet, first: u8, headers: &mut Headers) -> Result<(), Fault> {
    let mut next = first;
    let mut offset = headers.l3() + ipv6::LENGTH;
    let end = headers.end();
    for walked in 0..=limits::EXTENSION_HEADERS {
        match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {}
            ipv6::FRAGMENT => return Err(Fault::Broken(DropReason::Fragment)),
            _ => break,
        }
        if walked == limits::EXTENSION_HEADERS {
            return Err(Fault::Broken(DropReason::ExtensionHeaders));
        }
        // Next header, and length in units of 8 bytes beyond the first (RFC 8200 section 4.2).
        let [following, units]: [u8; 2] = packet.read(offset).ok_or(Fault::Broken(DropReason::Truncated))?;
        offset += (usize::from(units) + 1) * 8;
        if offset > end {
            return Err(Fault::Broken(DropReason::Truncated));
        }
        next = following;
    }
    headers.key.protocol = next;
    headers.l4 = offset as u16;
    Ok(())
}

/// The transport header: ports and TCP flags, or ICMP's presence.
#[inline(always)]
fn transport(packet: &Packet, headers: &mut Headers) -> Result<Parsed, Fault> {
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
            Ok(Parsed::Transport)
        }
        (protocol::UDP, _) => {
            let header: [u16; udp::LENGTH / 2] =
                packet.read(l4).ok_or(Fault::Broken(DropReason::Truncated))?;
            if available < udp::LENGTH {
                return Err(Fault::Broken(DropReason::Truncated));
            }
            let length = usize::from(u16::from_be(header[2]));
            if length < udp::LENGTH || length > available {
                return Err(Fault::Broken(DropReason::BadHeader));
            }
            headers.key.source_port = u16::from_be(header[0]);
            headers.key.destination_port = u16::from_be(header[1]);
            Ok(Parsed::Transport)
        }
        (protocol::ICMP, true) | (protocol::ICMPV6, false) => {
            if available < icmp::LENGTH || packet.at::<[u8; icmp::LENGTH]>(l4).is_none() {
                return Err(Fault::NotOurs);
            }
            Ok(Parsed::Icmp)
        }
        _ => Err(Fault::NotOurs),
    }
}
