//! From a frame to addresses, ports and offsets: docs/dataplane.md, "Parsing".

use crate::{maps::VIPS, packet::Packet};
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
pub struct Headers {
    /// 5-tuple; ports are zero for ICMP.
    pub key: FlowKey,
    /// IPv4 rather than IPv6.
    pub is_ipv4: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport or ICMP header.
    pub l4: usize,
    /// Offset of the end of the IP packet.
    pub end: usize,
}

impl Headers {
    /// Nothing parsed yet.
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            key: FlowKey::default(),
            is_ipv4: false,
            ttl: 0,
            tcp_flags: 0,
            l3: 0,
            l4: 0,
            end: 0,
        }
    }

    /// Bytes of the IP packet.
    #[inline(always)]
    pub fn ip_length(&self) -> usize {
        self.end - self.l3
    }
}

/// Parses a frame of `frame_length` bytes, whose linear part lies from `start` to `end`.
///
/// # Errors
/// What is wrong with a packet for a VIP; whatever is wrong with another one, it is
/// [`Parsed::Pass`]. One map lookup, only if something is wrong.
#[inline(always)]
pub fn parse(packet: &Packet, frame_length: usize, headers: &mut Headers) -> Result<Parsed, DropReason> {
    let Some(is_ipv4) = link(packet, headers) else {
        return Ok(Parsed::Pass);
    };
    headers.is_ipv4 = is_ipv4;
    let network = if is_ipv4 {
        network_ipv4(packet, frame_length, headers)
    } else {
        network_ipv6(packet, frame_length, headers)
    };
    match network.and_then(|()| transport(packet, headers)) {
        Ok(parsed) => Ok(parsed),
        Err(Fault::NotOurs) => Ok(Parsed::Pass),
        Err(Fault::Broken(reason)) => {
            // SAFETY: the value isn't kept beyond this comparison.
            if unsafe { VIPS.get(&headers.key.destination) }.is_some() {
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
    headers.l3 = offset;
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
    /// Version 4, no options, not a fragment.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_ihl == 0x45 && u16::from_be(self.fragment) & ipv4::FRAGMENT_MASK == 0
    }
}

#[inline(always)]
fn network_ipv4(packet: &Packet, frame_length: usize, headers: &mut Headers) -> Result<(), Fault> {
    let header: Ipv4Header = packet.read(headers.l3).ok_or(Fault::NotOurs)?;
    headers.key.source = Address::from_ipv4(header.source);
    headers.key.destination = Address::from_ipv4(header.destination);
    headers.key.protocol = header.protocol;
    headers.ttl = header.ttl;
    let header_length = usize::from(header.version_ihl & 0x0f) * 4;
    let total_length = usize::from(u16::from_be(header.total_length));
    if header_length > total_length || headers.l3 + header_length > frame_length {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    if header.version_ihl >> 4 != 4 || header_length < ipv4::LENGTH {
        return Err(Fault::Broken(DropReason::BadHeader));
    }
    if headers.l3 + total_length > frame_length {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    if u16::from_be(header.fragment) & ipv4::FRAGMENT_MASK != 0 {
        return Err(Fault::Broken(DropReason::Fragment));
    }
    headers.l4 = headers.l3 + header_length;
    headers.end = headers.l3 + total_length;
    Ok(())
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
fn network_ipv6(packet: &Packet, frame_length: usize, headers: &mut Headers) -> Result<(), Fault> {
    let header: Ipv6Header = packet.read(headers.l3).ok_or(Fault::NotOurs)?;
    headers.key.source = Address::from_ipv6(header.source);
    headers.key.destination = Address::from_ipv6(header.destination);
    headers.ttl = header.hop_limit;
    if header.version_class >> 4 != 6 {
        return Err(Fault::Broken(DropReason::BadHeader));
    }
    headers.end = headers.l3 + ipv6::LENGTH + usize::from(u16::from_be(header.payload_length));
    if headers.end > frame_length {
        return Err(Fault::Broken(DropReason::Truncated));
    }
    extension_headers(packet, header.next_header, headers)
}

/// Walks extension headers up to the transport header; sets its offset and protocol.
#[inline(always)]
fn extension_headers(packet: &Packet, first: u8, headers: &mut Headers) -> Result<(), Fault> {
    let mut next = first;
    let mut offset = headers.l3 + ipv6::LENGTH;
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
        if offset > headers.end {
            return Err(Fault::Broken(DropReason::Truncated));
        }
        next = following;
    }
    headers.key.protocol = next;
    headers.l4 = offset;
    Ok(())
}

/// The transport header: ports and TCP flags, or ICMP's presence.
#[inline(always)]
fn transport(packet: &Packet, headers: &mut Headers) -> Result<Parsed, Fault> {
    let available = headers.end - headers.l4;
    match (headers.key.protocol, headers.is_ipv4) {
        (protocol::TCP, _) => {
            let header: [u8; tcp::LENGTH] = packet
                .read(headers.l4)
                .ok_or(Fault::Broken(DropReason::Truncated))?;
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
            let header: [u16; udp::LENGTH / 2] = packet
                .read(headers.l4)
                .ok_or(Fault::Broken(DropReason::Truncated))?;
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
            if available < icmp::LENGTH || packet.at::<[u8; icmp::LENGTH]>(headers.l4).is_none() {
                return Err(Fault::NotOurs);
            }
            Ok(Parsed::Icmp)
        }
        _ => Err(Fault::NotOurs),
    }
}
