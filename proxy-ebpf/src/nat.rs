//! The short way of NAT: packets of flows that are open, translated by words. Whatever is out of the ordinary takes the long
//! way ([`crate::xdp`]), from here too: nothing is changed before all is known.

use crate::{
    encap::Macs,
    fast::LONG_WAY,
    flow,
    head::Head,
    job::Job,
    maps::{FLOWS, NEXT_HOPS},
    packet::Packet,
    report, route,
    words::{last_word, words},
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_jiffies64, bpf_redirect},
};
use proxy_common::{
    checksum::Delta,
    headers::{ethernet, ipv4, ipv6, protocol, tcp, udp},
    limits,
    values::{FlowValue, NextHop, flow_flags},
    verdict::{self, Verdict},
};

const L3: usize = ethernet::LENGTH;

/// A client's packet to a service. Lookups: flow, backend, next hop, two counters; and a route lookup once in
/// [`limits::NEXT_HOP_JIFFIES`] a backend.
///
/// A function of its own, as the next one: what it keeps on the stack isn't beneath what services without NAT do.
#[inline(never)]
pub fn to_backend(ctx: *mut xdp_md, job: &mut Job) -> u64 {
    let Some(flow) = FLOWS.get_ptr_mut(job.key.key()) else {
        return LONG_WAY;
    };
    // SAFETY: a map value's pointer is valid until the program returns.
    let entry = unsafe { &*flow };
    if !is_usual(job, entry) || !flow::is_good(job.opens, entry) {
        return LONG_WAY;
    }
    let Some(hop) = NEXT_HOPS.get_ptr_mut(entry.backend) else {
        return LONG_WAY;
    };
    // SAFETY: as above; another CPU may be writing the same answer.
    let known = unsafe { &*hop };
    // SAFETY: the program's own context, and a helper without arguments.
    let (arrived, now) = unsafe { ((*ctx).ingress_ifindex, bpf_jiffies64() as u32) };
    let is_fresh = known.until.wrapping_sub(now).wrapping_sub(1) < limits::NEXT_HOP_JIFFIES;
    let is_same = known.incarnation == entry.incarnation && known.arrived == arrived;
    let is_known = is_fresh && is_same;
    if !is_known && !refresh(ctx, job, entry, hop) {
        return LONG_WAY;
    }
    if job.length > known.mtu {
        return LONG_WAY;
    }
    job.macs = Macs::of(known);
    translate(ctx, job, flow, known.ifindex)
}

/// A backend's packet to a client. Lookups: flow, two counters, and a route lookup.
#[inline(never)]
pub fn to_client(ctx: *mut xdp_md, job: &mut Job) -> u64 {
    let Some(flow) = FLOWS.get_ptr_mut(job.key.key()) else {
        return verdict::pack(Ok(Verdict::Pass));
    };
    // SAFETY: a map value's pointer is valid until the program returns.
    let entry = unsafe { &*flow };
    if entry.flags & flow_flags::REPLY == 0 {
        return verdict::pack(Ok(Verdict::Pass));
    }
    if !is_usual(job, entry) {
        return LONG_WAY;
    }
    match way(ctx, job, entry) {
        NO_WAY => LONG_WAY,
        ifindex => translate(ctx, job, flow, ifindex as u32),
    }
}

/// What is forwarded, and changes no more of its flow than a stamp.
#[inline(always)]
fn is_usual(job: &Job, flow: &FlowValue) -> bool {
    job.ttl > 1 && job.tcp_flags & tcp::SYN == 0 && flow.flags & flow_flags::TO_HOST == 0
}

const NO_WAY: u64 = u64::MAX;

/// Asks the routing table for the way that the packet takes once it is translated, leaves MAC addresses in the job and returns the
/// interface.
#[inline(never)]
fn way(ctx: *mut xdp_md, job: &mut Job, flow: &FlowValue) -> u64 {
    let mut fib = route::between(&flow.source, &flow.destination, flow.protocol as u8);
    // SAFETY: the program's own context.
    fib.ifindex = unsafe { (*ctx).ingress_ifindex };
    if route::look_up(ctx, &mut fib, 0).is_err() || job.length > route::mtu(&fib) {
        return NO_WAY;
    }
    job.macs = Macs::of_fib(&fib);
    u64::from(fib.ifindex)
}

/// The same for a backend, for its element of `next_hops`. False if there is no way, or the neighbour is unresolved.
#[inline(never)]
fn refresh(ctx: *mut xdp_md, job: &Job, flow: &FlowValue, hop: *mut NextHop) -> bool {
    let mut fib = route::between(&flow.source, &flow.destination, job.key.words()[9] as u8);
    // SAFETY: the program's own context.
    let arrived = unsafe { (*ctx).ingress_ifindex };
    fib.ifindex = arrived;
    if route::look_up(ctx, &mut fib, 0).is_err() {
        return false;
    }
    // SAFETY: a map value's pointer is valid until the program returns. Others may write the same answer at the same time.
    let hop = unsafe { &mut *hop };
    hop.until = 0;
    route::write_macs(&fib, &mut hop.macs);
    hop.ifindex = fib.ifindex;
    hop.mtu = route::mtu(&fib);
    hop.incarnation = flow.incarnation;
    hop.arrived = arrived;
    // SAFETY: a helper without arguments.
    hop.until = unsafe { bpf_jiffies64() as u32 }.wrapping_add(limits::NEXT_HOP_JIFFIES);
    true
}

/// Writes the flow's addresses and ports, counts, and sends the packet on.
#[inline(never)]
fn translate(ctx: *mut xdp_md, job: &mut Job, flow: *mut FlowValue, ifindex: u32) -> u64 {
    flow::note(job.tcp_flags, flow);
    // SAFETY: a map value's pointer is valid until the program returns.
    let flow = unsafe { &*flow };
    // SAFETY: the program's own context.
    let (packet, arrived) = unsafe {
        (
            Packet::between(&(*ctx).data, &(*ctx).data_end),
            (*ctx).ingress_ifindex,
        )
    };
    let is_written = if job.is_ipv4 {
        write_ipv4(&packet, job, flow).is_some()
    } else {
        ipv6_frame(packet.start(), packet.end(), job, flow)
    };
    if !is_written {
        // Not for a packet that was read before: the verifier wants it.
        return LONG_WAY;
    }
    report::count_forwarded(flow, job.length as usize + L3);
    if ifindex == arrived {
        return verdict::pack(Ok(Verdict::Transmit));
    }
    // SAFETY: a helper without memory arguments; it takes note of where to.
    unsafe { bpf_redirect(ifindex, 0) };
    verdict::pack(Ok(Verdict::Redirect))
}

/// The flow's ports as they lie in a packet.
#[inline(always)]
fn ports(flow: &FlowValue) -> u32 {
    u32::from(flow.source_port.to_be()) | u32::from(flow.destination_port.to_be()) << 16
}

/// A checksum of UDP or TCP after a change.
#[inline(always)]
fn changed(is_udp: bool, delta: Delta, before: u16) -> u16 {
    match (is_udp, before) {
        // RFC 768, and RFC 6935 for IPv6: no checksum was sent.
        (true, 0) => 0,
        (true, _) => delta.apply_udp(before),
        (false, _) => delta.apply(before),
    }
}

#[inline(always)]
fn write_ipv4(packet: &Packet, job: &Job, flow: &FlowValue) -> Option<()> {
    const L4: usize = L3 + ipv4::LENGTH;
    let head = Head::<{ L4 + tcp::LENGTH }>::of(packet)?;
    let (source, destination, ports) = (last_word(&flow.source), last_word(&flow.destination), ports(flow));
    let addresses = Delta::new()
        .word(head.read_u32::<{ L3 + 12 }>(), source)
        .word(head.read_u32::<{ L3 + 16 }>(), destination);
    let all = addresses.word(head.read_u32::<L4>(), ports);
    let old = head.read_u16::<{ L3 + 8 }>();
    let new = old.wrapping_sub(1);
    let header = addresses.half(old, new).apply(head.read_u16::<{ L3 + 10 }>());
    job.macs.write(head);
    head.write_u16::<{ L3 + 8 }>(new);
    head.write_u16::<{ L3 + 10 }>(header);
    head.write_u32::<{ L3 + 12 }>(source);
    head.write_u32::<{ L3 + 16 }>(destination);
    head.write_u32::<L4>(ports);
    if is_udp(job) {
        let sum = changed(true, all, head.read_u16::<{ L4 + udp::CHECKSUM_OFFSET }>());
        head.write_u16::<{ L4 + udp::CHECKSUM_OFFSET }>(sum);
    } else {
        let sum = changed(false, all, head.read_u16::<{ L4 + tcp::CHECKSUM_OFFSET }>());
        head.write_u16::<{ L4 + tcp::CHECKSUM_OFFSET }>(sum);
    }
    Some(())
}

#[inline(always)]
fn is_udp(job: &Job) -> bool {
    job.key.words()[9] == u32::from(protocol::UDP)
}

/// [`write_ipv6`] with a stack frame of its own.
#[inline(never)]
fn ipv6_frame(start: usize, end: usize, job: &Job, flow: &FlowValue) -> bool {
    write_ipv6(&Packet::new(start, end), job, flow).is_some()
}

#[inline(always)]
fn write_ipv6(packet: &Packet, job: &Job, flow: &FlowValue) -> Option<()> {
    const L4: usize = L3 + ipv6::LENGTH;
    let head = Head::<{ L4 + udp::LENGTH }>::of(packet)?;
    let ports = ports(flow);
    let mut delta = Delta::new().word(head.read_u32::<L4>(), ports);
    macro_rules! replace {
        ($address:expr, $at:literal) => {
            let [a, b, c, d] = words($address);
            delta = delta
                .word(head.read_u32::<{ L3 + $at }>(), a)
                .word(head.read_u32::<{ L3 + $at + 4 }>(), b)
                .word(head.read_u32::<{ L3 + $at + 8 }>(), c)
                .word(head.read_u32::<{ L3 + $at + 12 }>(), d);
            head.write_u32::<{ L3 + $at }>(a);
            head.write_u32::<{ L3 + $at + 4 }>(b);
            head.write_u32::<{ L3 + $at + 8 }>(c);
            head.write_u32::<{ L3 + $at + 12 }>(d);
        };
    }
    let is_udp = is_udp(job);
    // Before anything is written: a frame that is too short for TCP can't be here, which the verifier doesn't know.
    let tcp_head = Head::<{ L4 + tcp::LENGTH }>::of(packet);
    if !is_udp && tcp_head.is_none() {
        return None;
    }
    replace!(&flow.source, 8);
    replace!(&flow.destination, 24);
    job.macs.write(head);
    head.write_u8::<{ L3 + 7 }>(job.ttl.wrapping_sub(1));
    head.write_u32::<L4>(ports);
    match tcp_head {
        Some(head) if !is_udp => {
            let sum = changed(false, delta, head.read_u16::<{ L4 + tcp::CHECKSUM_OFFSET }>());
            head.write_u16::<{ L4 + tcp::CHECKSUM_OFFSET }>(sum);
        }
        _ => {
            let sum = changed(true, delta, head.read_u16::<{ L4 + udp::CHECKSUM_OFFSET }>());
            head.write_u16::<{ L4 + udp::CHECKSUM_OFFSET }>(sum);
        }
    }
    Some(())
}
