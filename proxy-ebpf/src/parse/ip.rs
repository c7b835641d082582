//! IP headers: from the addresses to where the transport header begins, and which fragment a packet is.

use super::{Fault, Headers, Piece};
use crate::{
    fragments,
    packet::{Packet, forgotten},
};
use proxy_common::{
    headers::{ipv4, ipv6},
    limits,
    net::Address,
    verdict::DropReason,
};

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

    /// Version 4, no options.
    #[inline(always)]
    pub fn has_no_options(&self) -> bool {
        self.version_ihl == 0x45
    }

    /// Version 4, no options, not a fragment.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.has_no_options() && u16::from_be(self.fragment) & ipv4::FRAGMENT_MASK == 0
    }
}

/// IPv4 up to the transport header.
#[inline(always)]
pub(super) fn network_ipv4(
    packet: &Packet,
    frame_length: impl Fn() -> usize,
    headers: &mut Headers,
) -> Result<Piece, Fault> {
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
    headers.end = end_offset(l3 + total_length)?;
    headers.l4 = (l3 + header_length) as u16;
    headers.identification = [header.identification, 0];
    let fragment = u16::from_be(header.fragment) & ipv4::FRAGMENT_MASK;
    if fragment == 0 {
        return Ok(Piece::Whole);
    }
    piece(headers, fragment & ipv4::OFFSET_MASK != 0)
}

/// Which fragment a packet is, if such ones are followed.
#[inline(always)]
fn piece(headers: &mut Headers, is_later: bool) -> Result<Piece, Fault> {
    if !fragments::are_followed() {
        return Err(Fault::Broken(DropReason::Fragment));
    }
    if is_later {
        headers.l4 = headers.l3;
        return Ok(Piece::Later);
    }
    Ok(Piece::First)
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

/// IPv6 and its extension headers, up to the transport header.
#[inline(always)]
pub(super) fn network_ipv6(
    packet: &Packet,
    frame_length: impl Fn() -> usize,
    headers: &mut Headers,
) -> Result<Piece, Fault> {
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
    // Anything the verifier doesn't know: it would tell packets with zeros here from fragments, and go on with both.
    headers.identification = [header.payload_length, header.payload_length];
    extension_headers(packet, header.next_header, headers)
}

/// Walks extension headers up to the transport header, or to that of a later fragment; sets its offset and protocol.
#[inline(always)]
fn extension_headers(packet: &Packet, first: u8, headers: &mut Headers) -> Result<Piece, Fault> {
    let mut next = first;
    let mut offset = headers.l3() + ipv6::LENGTH;
    let end = headers.end;
    let mut found = None;
    for walked in 0..=limits::EXTENSION_HEADERS {
        match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {}
            ipv6::FRAGMENT if found.is_none() && fragments::are_followed() => {}
            ipv6::FRAGMENT => return Err(Fault::Broken(DropReason::Fragment)),
            _ => break,
        }
        if walked == limits::EXTENSION_HEADERS {
            return Err(Fault::Broken(DropReason::ExtensionHeaders));
        }
        // Next header, and length in units of 8 bytes beyond the first (RFC 8200 section 4.2).
        let [following, units]: [u8; 2] = packet.read(offset).ok_or(Fault::Broken(DropReason::Truncated))?;
        let at = offset;
        offset += match next {
            ipv6::FRAGMENT => ipv6::FRAGMENT_LENGTH,
            _ => (usize::from(units) + 1) * 8,
        };
        if offset > forgotten(end) {
            return Err(Fault::Broken(DropReason::Truncated));
        }
        offset = forgotten(offset as u16);
        if next == ipv6::FRAGMENT {
            let piece = fragment_header(packet, at, headers)?;
            if piece == Piece::Later {
                return Ok(piece);
            }
            found = Some(piece);
        }
        next = following;
    }
    headers.key.protocol = next;
    headers.l4 = offset as u16;
    Ok(found.unwrap_or(Piece::Whole))
}

/// IPv6's fragment header (RFC 8200 section 4.5). One that says of a whole packet that it is its only fragment changes nothing (RFC
/// 6946).
#[inline(always)]
fn fragment_header(packet: &Packet, at: usize, headers: &mut Headers) -> Result<Piece, Fault> {
    let [_, place, high, low]: [u16; 4] = packet.read(at).ok_or(Fault::Broken(DropReason::Truncated))?;
    let place = u16::from_be(place);
    let is_later = place & ipv6::OFFSET_MASK != 0;
    if !is_later && place & ipv6::MORE_FRAGMENTS == 0 {
        return Ok(Piece::Whole);
    }
    headers.identification = [low, high];
    piece(headers, is_later)
}
