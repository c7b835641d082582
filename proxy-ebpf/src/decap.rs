//! The end of tunnels, on a backend's host: what comes for one of its addresses and holds a packet for a VIP it serves
//! loses the outer headers and goes up the stack (docs/dataplane.md, "The end of tunnels").

use crate::{
    head::Head,
    maps::{DECAP_ADDRESSES, DECAP_COUNTERS, SETTINGS},
    packet::Packet,
    parse::{Ipv4Header, Ipv6Header},
    xdp,
};
use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use proxy_common::{
    checksum::Delta,
    decap::{DecapOutcome, decap_flags},
    headers::{ethernet, ipv4, ipv6, protocol, udp},
    limits,
    net::Address,
};

/// Congestion experienced, the two bits of ECN (RFC 3168 section 5).
const ECN_CE: u8 = 3;

/// Where a tunnelled packet begins, and what it is.
struct Inner {
    /// Offset of its IP header.
    at: usize,
    is_ipv4: bool,
    /// Bytes in front of it, from the outer IP header on.
    outer: usize,
    /// The outer header's ECN bits.
    ecn: u8,
    outcome: DecapOutcome,
}

/// Takes the outer headers off, if they are for us, and says so; whatever else it is, the packet is left as it is. Lookups: none for other
/// protocols, 1 for another host's tunnels, 3 for a packet that is delivered, the counter's among them.
#[inline(always)]
pub fn deliver(ctx: *mut xdp_md) -> bool {
    deliver_inner(ctx) != 0
}

/// [`deliver`], as a global function: the verifier goes through it once, and not once for each state that a caller may be in
/// (kernel/bpf/verifier.c, `do_check_subprogs`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn deliver_inner(ctx: *mut xdp_md) -> u32 {
    take_off(ctx).into()
}

#[inline(always)]
fn take_off(ctx: *mut xdp_md) -> bool {
    let packet = xdp::packet(&XdpContext::new(ctx));
    let Some((l3, is_ipv4)) = link(&packet) else {
        return false;
    };
    let found = if is_ipv4 {
        outer_ipv4(&packet, l3)
    } else {
        outer_ipv6(&packet, l3)
    };
    match found {
        None => false,
        Some(Err(outcome)) => {
            count(outcome);
            false
        }
        Some(Ok(inner)) => {
            let stripped = strip(ctx, &packet, l3, &inner);
            count(stripped.err().unwrap_or(inner.outcome));
            stripped.is_ok()
        }
    }
}

#[inline(always)]
fn count(outcome: DecapOutcome) {
    if let Some(counter) = DECAP_COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own slot; a program isn't preempted by itself on a CPU.
        unsafe { *counter += 1 };
    }
}

/// The IP header's offset behind VLAN tags, and whether it is IPv4's.
#[inline(always)]
pub fn link(packet: &Packet) -> Option<(usize, bool)> {
    let mut l3 = ethernet::LENGTH;
    let mut ethertype = u16::from_be(packet.read(l3 - 2)?);
    for _ in 0..limits::VLAN_TAGS {
        if ethertype != ethernet::VLAN && ethertype != ethernet::VLAN_SERVICE {
            break;
        }
        l3 += ethernet::VLAN_LENGTH;
        ethertype = u16::from_be(packet.read(l3 - 2)?);
    }
    match ethertype {
        ethernet::IPV4 => Some((l3, true)),
        ethernet::IPV6 => Some((l3, false)),
        _ => None,
    }
}

#[inline(always)]
fn has(address: &Address, flag: u32) -> bool {
    // SAFETY: the value isn't kept beyond this comparison.
    unsafe { DECAP_ADDRESSES.get(address) }.is_some_and(|value| value.flags & flag != 0)
}

#[inline(always)]
fn outer_ipv4(packet: &Packet, l3: usize) -> Option<Result<Inner, DecapOutcome>> {
    let header: Ipv4Header = packet.read(l3)?;
    if !header.is_plain() {
        return None;
    }
    let class: u8 = packet.read(l3 + 1)?;
    inner(
        packet,
        l3,
        ipv4::LENGTH,
        header.protocol,
        class,
        &Address::from_ipv4(header.destination),
    )
}

#[inline(always)]
fn outer_ipv6(packet: &Packet, l3: usize) -> Option<Result<Inner, DecapOutcome>> {
    let header: Ipv6Header = packet.read(l3)?;
    if !header.is_plain() {
        return None;
    }
    let [first, second]: [u8; 2] = packet.read(l3)?;
    inner(
        packet,
        l3,
        ipv6::LENGTH,
        header.next_header,
        first << 4 | second >> 4,
        &Address::from_ipv6(header.destination),
    )
}

#[inline(always)]
fn inner(
    packet: &Packet,
    l3: usize,
    network: usize,
    protocol: u8,
    class: u8,
    destination: &Address,
) -> Option<Result<Inner, DecapOutcome>> {
    let mut outer = network;
    let mut outcome = DecapOutcome::Ipip;
    let is_ipv4 = match protocol {
        protocol::IPIP => true,
        protocol::IPV6 => false,
        protocol::UDP => {
            let port: u16 = packet.read(l3 + outer + 2)?;
            if u16::from_be(port) != SETTINGS.get(0)?.gue_port {
                return None;
            }
            outcome = DecapOutcome::Gue;
            outer += udp::LENGTH;
            let first: u8 = packet.read(l3 + outer)?;
            if !has(destination, decap_flags::END) {
                return None;
            }
            match gue(packet, l3 + outer, first) {
                Some((more, is_ipv4)) => {
                    outer += more;
                    is_ipv4
                }
                None => return Some(Err(DecapOutcome::Malformed)),
            }
        }
        _ => return None,
    };
    if !has(destination, decap_flags::END) {
        return None;
    }
    Some(Ok(Inner {
        at: l3 + outer,
        is_ipv4,
        outer,
        ecn: class & ECN_CE,
        outcome,
    }))
}

/// GUE's own header (draft-ietf-intarea-gue-09 section 3): its bytes, none in variant 1, and whether IPv4 follows.
#[inline(always)]
fn gue(packet: &Packet, at: usize, first: u8) -> Option<(usize, bool)> {
    match first >> 4 {
        4 => Some((0, true)),
        6 => Some((0, false)),
        // Variant 0, data, with its fields skipped.
        0 | 1 => {
            let length = 4 + usize::from(first & 0x1f) * 4;
            match packet.read::<u8>(at + 1)? {
                protocol::IPIP => Some((length, true)),
                protocol::IPV6 => Some((length, false)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Takes the outer headers off a packet whose destination is a VIP of ours.
#[inline(always)]
fn strip(ctx: *mut xdp_md, packet: &Packet, l3: usize, inner: &Inner) -> Result<(), DecapOutcome> {
    let malformed = DecapOutcome::Malformed;
    let destination = if inner.is_ipv4 {
        let header: Ipv4Header = packet.read(inner.at).ok_or(malformed)?;
        if !header.is_version_4() {
            return Err(malformed);
        }
        Address::from_ipv4(header.destination)
    } else {
        let header: Ipv6Header = packet.read(inner.at).ok_or(malformed)?;
        if !header.is_plain() {
            return Err(malformed);
        }
        Address::from_ipv6(header.destination)
    };
    if !has(&destination, decap_flags::VIP) {
        return Err(DecapOutcome::NotVip);
    }
    if inner.ecn == ECN_CE {
        mark_congestion(packet, inner).ok_or(malformed)?;
    }
    // The MAC addresses and tags: at most 12 and 8 bytes, and there is more behind them.
    let head = Head::<{ ethernet::LENGTH + 8 }>::of(packet).ok_or(malformed)?;
    let macs = (head.read_u64::<0>(), head.read_u32::<8>());
    let tags = head.read_u64::<12>();
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(ctx, inner.outer as i32) } != 0 {
        return Err(malformed);
    }
    let packet = xdp::packet(&XdpContext::new(ctx));
    let head = Head::<{ ethernet::LENGTH + 8 }>::of(&packet).ok_or(malformed)?;
    head.write_u64::<0>(macs.0);
    head.write_u32::<8>(macs.1);
    if l3 > ethernet::LENGTH {
        head.write_u32::<12>(tags as u32);
    }
    if l3 > ethernet::LENGTH + ethernet::VLAN_LENGTH {
        head.write_u32::<16>((tags >> 32) as u32);
    }
    let ethertype = if inner.is_ipv4 {
        ethernet::IPV4
    } else {
        ethernet::IPV6
    };
    packet.write(l3 - 2, ethertype.to_be()).ok_or(malformed)
}

/// What a router told the outer header the receiver must hear (RFC 6040 section 4.2).
#[inline(always)]
fn mark_congestion(packet: &Packet, inner: &Inner) -> Option<()> {
    let [first, second]: [u8; 2] = packet.read(inner.at)?;
    let class = if inner.is_ipv4 { second } else { second >> 4 };
    if class & ECN_CE == 0 {
        // Its sender doesn't know ECN: the outer header had no mark to lose either.
        return Some(());
    }
    if inner.is_ipv4 {
        let new = [first, second | ECN_CE];
        packet.write(inner.at, new)?;
        let sum: u16 = packet.read(inner.at + 10)?;
        let delta = Delta::new().half(u16::from_ne_bytes([first, second]), u16::from_ne_bytes(new));
        packet.write(inner.at + 10, delta.apply(sum))
    } else {
        packet.write(inner.at + 1, second | ECN_CE << 4)
    }
}
