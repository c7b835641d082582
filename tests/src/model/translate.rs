//! Writes new addresses, ports and checksums into a frame.

use super::{
    parse::{ICMPV6, Packet, Piece, TCP, UDP, half},
    sum,
};
use std::net::IpAddr;

/// One end of a flow: address and port.
pub type End = (IpAddr, u16);

/// What a packet's two ends become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The new source.
    pub source: End,
    /// The new destination.
    pub destination: End,
}

/// The octets of an address: 4 or 16.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where the addresses of an IP header lie, and how long each is.
fn addresses(frame: &[u8], network: usize) -> (usize, usize) {
    if frame[network] >> 4 == 4 {
        (network + 12, 4)
    } else {
        (network + 8, 16)
    }
}

/// Changes part of a frame and updates the checksum at `field` by what that did to the sum of the
/// covered ranges. The field itself must lie outside them or count as zero: `covered` must skip it.
fn with_checksum(
    frame: &mut [u8],
    field: Option<usize>,
    covered: &dyn Fn(&[u8]) -> u64,
    change: &mut dyn FnMut(&mut [u8]),
) -> Option<(u64, u64)> {
    let before = field.map(|at| sum::error(half(frame, at), covered(frame)));
    change(frame);
    before.map(|error| (error, covered(frame)))
}

/// The sum of a range without the two bytes of a checksum inside it.
fn sum_without(frame: &[u8], from: usize, to: usize, field: usize) -> u64 {
    sum::sum(&frame[from..field]) + sum::sum(&frame[field + 2..to])
}

/// Gives an IP header new addresses and updates its checksum if it has one.
fn set_addresses(frame: &mut [u8], network: usize, source: IpAddr, destination: IpAddr) {
    let (at, length) = addresses(frame, network);
    update_ipv4_header(frame, network, &mut |frame| {
        put(frame, at, &octets(source));
        put(frame, at + length, &octets(destination));
    });
}

/// Changes an IP header, with its checksum where it is IPv4.
fn update_ipv4_header(frame: &mut [u8], network: usize, change: &mut dyn FnMut(&mut [u8])) {
    if frame[network] >> 4 != 4 {
        change(frame);
        return;
    }
    let end = network + usize::from(frame[network] & 0x0f) * 4;
    let field = network + 10;
    let covered = |frame: &[u8]| sum_without(frame, network, end, field);
    if let Some((error, after)) = with_checksum(frame, Some(field), &covered, change) {
        put(frame, field, &sum::field(error, after).to_be_bytes());
    }
}

/// Sets the TTL or hop limit.
pub fn set_ttl(frame: &mut [u8], network: usize, ttl: u8) {
    let at = network + if frame[network] >> 4 == 4 { 8 } else { 7 };
    update_ipv4_header(frame, network, &mut |frame| frame[at] = ttl);
}

/// The TTL or hop limit.
pub fn ttl(frame: &[u8], network: usize) -> u8 {
    frame[network + if frame[network] >> 4 == 4 { 8 } else { 7 }]
}

/// Gives a TCP or UDP packet new ends.
///
/// The pseudo header's length and protocol are the same before and after, so they are left out.
/// A UDP checksum of zero means that there is none (RFC 768, RFC 6935).
fn set_ends(frame: &mut [u8], network: usize, transport: usize, end: usize, protocol: u8, ends: &Ends) {
    let (at, length) = addresses(frame, network);
    let field = transport + if protocol == TCP { 16 } else { 6 };
    let absent = field + 2 > end || protocol == UDP && half(frame, field) == 0;
    let covered =
        |frame: &[u8]| sum::sum(&frame[at..at + 2 * length]) + sum_without(frame, transport, end, field);
    let mut change = |frame: &mut [u8]| {
        set_addresses(frame, network, ends.source.0, ends.destination.0);
        put(frame, transport, &ends.source.1.to_be_bytes());
        put(frame, transport + 2, &ends.destination.1.to_be_bytes());
    };
    let result = with_checksum(frame, (!absent).then_some(field), &covered, &mut change);
    if let Some((error, after)) = result {
        let checksum = if protocol == UDP {
            sum::udp_field(error, after)
        } else {
            sum::field(error, after)
        };
        put(frame, field, &checksum.to_be_bytes());
    }
}

/// Translates a TCP or UDP packet (rule 4). A later fragment has neither ports nor their checksum.
pub fn packet(frame: &mut [u8], packet: &Packet, ends: &Ends) {
    if let Piece::Later(_) = packet.piece {
        return set_addresses(frame, packet.network, ends.source.0, ends.destination.0);
    }
    set_ends(
        frame,
        packet.network,
        packet.transport,
        packet.end,
        packet.protocol,
        ends,
    );
}

/// Lowers the MSS option of a TCP packet (RFC 9293, section 3.1): kind 2 of 4 bytes, among options that each say how long they are, but
/// for 0, which ends them, and 1, which is a byte of nothing.
pub fn lower_segment(frame: &mut [u8], packet: &Packet, most: u16) {
    let end = packet.transport + usize::from(frame[packet.transport + 12] >> 4) * 4;
    let mut at = packet.transport + 20;
    while at + 4 <= end {
        at += match (frame[at], usize::from(frame[at + 1])) {
            (2, 4) => break,
            (1, _) => 1,
            (0, _) | (_, 0) => return,
            (_, length) => length,
        };
    }
    if at + 4 > end || half(frame, at + 2) <= most {
        return;
    }
    let field = packet.transport + 16;
    let covered = |frame: &[u8]| sum_without(frame, packet.transport, packet.end, field);
    let mut change = |frame: &mut [u8]| put(frame, at + 2, &most.to_be_bytes());
    if let Some((error, after)) = with_checksum(frame, Some(field), &covered, &mut change) {
        put(frame, field, &sum::field(error, after).to_be_bytes());
    }
}

/// Changes an ICMP message and perhaps its packet's addresses, and updates its checksum.
/// ICMPv6's covers the addresses as well (RFC 4443 section 2.3).
fn update_icmp(frame: &mut [u8], packet: &Packet, change: &mut dyn FnMut(&mut [u8])) {
    let field = packet.transport + 2;
    let (at, length) = addresses(frame, packet.network);
    let covered = |frame: &[u8]| {
        let message = sum_without(frame, packet.transport, packet.end, field);
        if packet.protocol == ICMPV6 {
            message + sum::sum(&frame[at..at + 2 * length])
        } else {
            message
        }
    };
    if let Some((error, after)) = with_checksum(frame, Some(field), &covered, change) {
        put(frame, field, &sum::field(error, after).to_be_bytes());
    }
}

/// Turns an echo request into its reply.
pub fn echo(frame: &mut [u8], packet: &Packet, reply_type: u8) {
    update_icmp(frame, packet, &mut |frame| {
        set_addresses(frame, packet.network, packet.destination, packet.source);
        frame[packet.transport] = reply_type;
    });
    set_ttl(frame, packet.network, 64);
    let (destination, source) = (frame[0..6].to_vec(), frame[6..12].to_vec());
    put(frame, 0, &source);
    put(frame, 6, &destination);
}

/// Translates an ICMP error and the packet inside it.
pub fn icmp_error(
    frame: &mut [u8],
    packet: &Packet,
    source: IpAddr,
    destination: IpAddr,
    inner: &Packet,
    inner_ends: &Ends,
) {
    update_icmp(frame, packet, &mut |frame| {
        set_addresses(frame, packet.network, source, destination);
        set_ends(
            frame,
            inner.network,
            inner.transport,
            inner.end,
            inner.protocol,
            inner_ends,
        );
    });
}
