//! Address and port translation in a linear packet, with incremental checksums (RFC 1624).

use crate::{packet::Packet, parse::Headers};
use proxy_common::{
    checksum::Delta,
    headers::{ipv4, protocol, tcp, udp},
    net::Address,
    values::FlowValue,
};

/// Offset of the IPv4 TTL, and of the 16-bit word it shares with the protocol.
const IPV4_TTL: usize = 8;
/// Offset of the IPv4 header checksum.
pub const IPV4_CHECKSUM: usize = 10;
/// Offset of the IPv4 source address; the destination follows.
const IPV4_ADDRESSES: usize = 12;
/// Offset of the IPv6 hop limit.
const IPV6_HOP_LIMIT: usize = 7;
/// Offset of the IPv6 source address; the destination follows.
const IPV6_ADDRESSES: usize = 8;

/// How a hop changes the TTL or hop limit.
#[derive(Clone, Copy)]
pub enum Ttl {
    /// Delivered on this host: kept.
    Keep,
    /// Forwarded: one less.
    Decrement,
    /// A new packet: set to the usual 64 (RFC 1700's recommendation).
    Fresh,
}

/// Replaces an IP header's addresses and TTL. The IPv4 checksum follows; returned is the change
/// for checksums with a pseudo-header. `None` if the header isn't in the linear part.
#[inline(always)]
pub fn network(
    packet: &Packet,
    l3: usize,
    is_ipv4: bool,
    source: &Address,
    destination: &Address,
    ttl: Ttl,
) -> Option<Delta> {
    if is_ipv4 {
        let new = [source.ipv4_word(), destination.ipv4_word()];
        let delta = packet.replace(l3 + IPV4_ADDRESSES, new, Delta::new())?;
        let old_ttl: [u8; 2] = packet.read(l3 + IPV4_TTL)?;
        let new_ttl = [changed(old_ttl[0], ttl), old_ttl[1]];
        packet.write(l3 + IPV4_TTL, new_ttl)?;
        let checksum: u16 = packet.read(l3 + IPV4_CHECKSUM)?;
        let header = delta.half(u16::from_ne_bytes(old_ttl), u16::from_ne_bytes(new_ttl));
        packet.write(l3 + IPV4_CHECKSUM, header.apply(checksum))?;
        Some(delta)
    } else {
        let hop_limit: u8 = packet.read(l3 + IPV6_HOP_LIMIT)?;
        packet.write(l3 + IPV6_HOP_LIMIT, changed(hop_limit, ttl))?;
        let source = address_ipv6(packet.start(), packet.end(), l3 + IPV6_ADDRESSES, source);
        let destination = address_ipv6(
            packet.start(),
            packet.end(),
            l3 + IPV6_ADDRESSES + 16,
            destination,
        );
        if source == FAILED || destination == FAILED {
            return None;
        }
        Some(Delta::from_bits(source).and(Delta::from_bits(destination)))
    }
}

/// Replaces one IPv6 address; the change's bits, or [`FAILED`]. Not inlined: LLVM would read both
/// addresses before it writes one, and spill the lot.
#[inline(never)]
fn address_ipv6(start: usize, end: usize, offset: usize, new: &Address) -> u64 {
    match Packet::new(start, end).replace(offset, new.words(), Delta::new()) {
        Some(delta) => delta.bits(),
        None => FAILED,
    }
}

/// [`network`] with a stack frame of its own, for the rare callers that have no room. At most five
/// arguments: the offset, the family and the TTL travel in one.
#[inline(never)]
pub fn network_frame(start: usize, end: usize, what: u64, source: &Address, destination: &Address) -> u64 {
    let ttl = match what >> 16 & 0xff {
        0 => Ttl::Keep,
        1 => Ttl::Decrement,
        _ => Ttl::Fresh,
    };
    let l3 = (what & 0xffff) as usize;
    match network(
        &Packet::new(start, end),
        l3,
        what >> 24 != 0,
        source,
        destination,
        ttl,
    ) {
        Some(delta) => delta.bits(),
        None => FAILED,
    }
}

/// Stands for `None` where a delta's bits are returned: those stay below 2^48.
const FAILED: u64 = u64::MAX;

/// Calls [`network_frame`].
#[inline(always)]
pub fn network_outlined(
    packet: &Packet,
    l3: usize,
    is_ipv4: bool,
    source: &Address,
    destination: &Address,
    ttl: Ttl,
) -> Option<Delta> {
    let ttl = match ttl {
        Ttl::Keep => 0,
        Ttl::Decrement => 1,
        Ttl::Fresh => 2,
    };
    let what = l3 as u64 | ttl << 16 | (is_ipv4 as u64) << 24;
    match network_frame(packet.start(), packet.end(), what, source, destination) {
        FAILED => None,
        bits => Some(Delta::from_bits(bits)),
    }
}

#[inline(always)]
fn changed(ttl: u8, how: Ttl) -> u8 {
    match how {
        Ttl::Keep => ttl,
        Ttl::Decrement => ttl.wrapping_sub(1),
        Ttl::Fresh => 64,
    }
}

/// Replaces the ports of TCP or UDP and its checksum, given the addresses' change. Returned are
/// both ports before and after, and the checksum before and after, as words in memory order, for
/// a checksum that covers them.
#[inline(always)]
pub fn ports(
    packet: &Packet,
    l4: usize,
    protocol: u8,
    ports: (u16, u16),
    addresses: Delta,
    end: usize,
) -> Option<Changes> {
    let old: [u16; 2] = packet.read(l4)?;
    let new = [ports.0.to_be(), ports.1.to_be()];
    packet.write(l4, new)?;
    let mut changes = Changes {
        ports: (old, new),
        checksum: (0, 0),
    };
    let delta = addresses.half(old[0], new[0]).half(old[1], new[1]);
    let is_udp = protocol == protocol::UDP;
    let offset = l4
        + if is_udp {
            udp::CHECKSUM_OFFSET
        } else {
            tcp::CHECKSUM_OFFSET
        };
    // Inside an ICMP error the packet may end before TCP's checksum.
    if offset + 2 > end {
        return Some(changes);
    }
    let before: u16 = packet.read(offset)?;
    let after = match (is_udp, before) {
        // RFC 768, and RFC 6935 for IPv6: no checksum was sent.
        (true, 0) => 0,
        (true, _) => delta.apply_udp(before),
        (false, _) => delta.apply(before),
    };
    packet.write(offset, after)?;
    changes.checksum = (before, after);
    Some(changes)
}

/// What [`ports`] changed.
pub struct Changes {
    ports: ([u16; 2], [u16; 2]),
    checksum: (u16, u16),
}

impl Changes {
    /// Adds them to the change of a checksum that covers the packet.
    #[inline(always)]
    pub fn covered_by(&self, delta: Delta) -> Delta {
        let (old, new) = self.ports;
        delta
            .half(old[0], new[0])
            .half(old[1], new[1])
            .half(self.checksum.0, self.checksum.1)
    }
}

/// Translates a TCP or UDP packet. `None` can't happen for a parsed packet: the verifier wants it.
#[inline(always)]
pub fn transport(packet: &Packet, headers: &Headers, flow: &FlowValue, ttl: Ttl) -> Option<()> {
    let addresses = network(
        packet,
        headers.l3(),
        headers.is_ipv4,
        &flow.source,
        &flow.destination,
        ttl,
    )?;
    // The checksum is in the first fragment, and covers the addresses and ports of all.
    if headers.is_later() {
        return Some(());
    }
    let ports_wanted = (flow.source_port, flow.destination_port);
    ports(
        packet,
        headers.l4(),
        headers.key.protocol,
        ports_wanted,
        addresses,
        usize::MAX - 2,
    )?;
    Some(())
}

/// The change of an inner IPv4 header's own checksum, for the ICMP checksum that covers it:
/// applied to the header, and returned with the addresses' change.
#[inline(always)]
pub fn inner_network(
    packet: &Packet,
    l3: usize,
    is_ipv4: bool,
    source: &Address,
    destination: &Address,
) -> Option<(Delta, Delta)> {
    let before: u16 = if is_ipv4 {
        packet.read(l3 + IPV4_CHECKSUM)?
    } else {
        0
    };
    let addresses = network_outlined(packet, l3, is_ipv4, source, destination, Ttl::Keep)?;
    let after: u16 = if is_ipv4 {
        packet.read(l3 + IPV4_CHECKSUM)?
    } else {
        0
    };
    Some((addresses, addresses.half(before, after)))
}

const _: () = assert!(IPV4_ADDRESSES + 8 == ipv4::LENGTH);
