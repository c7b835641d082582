//! The TC programs: unresolved neighbours, and flows whose backend or client is this host.

use crate::{
    events::{What, Witness},
    flow, fragments, icmp,
    packet::Packet,
    parse::{self, Headers, Parsed},
    quic::{self, Said},
    report::{self, TC_PASS},
    rewrite::Ttl,
    route::Hop,
    segment, tc_direct, xdp,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{
        bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
        bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use core::mem::MaybeUninit;
use proxy_common::{
    events::NO_SERVICE,
    headers::{protocol, tcp, udp},
    limits,
    net::Address,
    values::{FlowValue, Handover, ServiceValue, flow_flags, mode},
    verdict::DropReason,
};

/// Bytes made linear before parsing: tagged Ethernet, IPv6 with one extension header, an ICMP
/// error's quoted headers.
const LINEAR: u32 = 192;

/// Sends a packet that `xdp_balancer` translated but had no neighbour for: the kernel resolves
/// the address and queues the packet meanwhile. No lookup for other packets.
#[inline(always)]
pub fn hand_over(ctx: &TcContext) -> i32 {
    // SAFETY: the program's own context.
    let meta = unsafe { Packet::between(&(*ctx.skb.skb).data_meta, &(*ctx.skb.skb).data) };
    let Some(note) = meta.read::<Handover>(0) else {
        return TC_PASS;
    };
    if note.magic != limits::LAYOUT_MAGIC {
        return TC_PASS;
    }
    if note.neighbour.words() == [0; 4] {
        return redirect_to_neighbour(note.ifindex);
    }
    tc_direct::to_neighbour(note.ifindex, &note.neighbour)
}

/// Decides about a packet this host sends. Lookups: 1 for a packet to no service, 2 for a reply of
/// a backend on this host, 3 and a route lookup for a client on it; the counters' 2 apart.
///
/// # Errors
/// Why the packet is dropped.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: the program's own context.
    if unsafe { (*ctx.skb.skb).ingress_ifindex } != 0 {
        // Forwarded, not sent by this host: XDP saw it where it came in.
        return Ok(TC_PASS);
    }
    let mut headers = MaybeUninit::uninit();
    let parsed = parse::unpack(parse_skb(ctx.skb.skb, &mut headers));
    let parsed = parsed.inspect_err(|reason| ctx.tell_unread(*reason))?;
    if let Parsed::Pass = parsed {
        return Ok(TC_PASS);
    }
    // SAFETY: as in the XDP program.
    let headers = unsafe { headers.assume_init_ref() };
    if let Parsed::Icmp = parsed {
        translate_icmp(ctx.skb.skb, headers);
        return Ok(TC_PASS);
    }
    match tc_direct::probe(ctx.skb.skb, headers) {
        tc_direct::NO_PROBE => {}
        action => return Ok(action),
    }
    let service = xdp::service_frame(headers);
    if let Parsed::FirstFragment = parsed {
        fragments::remember(headers, service.is_some());
    }
    match service {
        Some(service) if service.mode != mode::NAT => Ok(tc_direct::forward(ctx.skb.skb, headers, service)),
        service => {
            match transport_frame(ctx.skb.skb, headers, service, said(ctx.skb.skb, headers, service)) {
                action if action >= 0 => Ok(action as i32),
                code => Err(DropReason::from_code((-1 - code) as u32)),
            }
        }
    }
}

/// What a packet to a service says of its backend, in one word.
#[inline(always)]
fn said(skb: *mut __sk_buff, headers: &Headers, service: Option<&ServiceValue>) -> u64 {
    match service {
        Some(service) => quic::of_skb(skb, service, headers).0,
        None => Said::NOTHING.0,
    }
}

/// [`transport`] with a stack frame of its own: a TC action, or -1 less the code of a drop reason.
#[inline(never)]
fn transport_frame(skb: *mut __sk_buff, headers: &Headers, service: Option<&ServiceValue>, said: u64) -> i64 {
    match transport(&TcContext::new(skb), headers, service, Said(said)) {
        Ok(action) => i64::from(action),
        Err(reason) => -1 - reason as i64,
    }
}

/// [`parse::parse`] of a socket buffer, with a stack frame of its own as in the XDP program.
#[inline(never)]
fn parse_skb(skb: *mut __sk_buff, headers: &mut MaybeUninit<Headers>) -> u64 {
    // SAFETY: helpers and fields of the program's own context.
    let (packet, length) = unsafe {
        let length = (*skb).len;
        if (*skb).data_end - (*skb).data < length.min(LINEAR) {
            bpf_skb_pull_data(skb, length.min(LINEAR));
        }
        (packet(skb), (*skb).len as usize)
    };
    // SAFETY: as in the XDP program.
    let headers = unsafe { &mut *headers.as_mut_ptr() };
    parse::pack(parse::parse(&packet, || length, headers))
}

/// The linear part as it is now.
#[inline(always)]
fn packet(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the program's own context.
    unsafe { Packet::between(&(*skb).data, &(*skb).data_end) }
}

#[inline(always)]
fn transport(
    ctx: &TcContext,
    headers: &Headers,
    service: Option<&ServiceValue>,
    said: Said,
) -> Result<i32, DropReason> {
    let index = service.map_or(NO_SERVICE, |service| service.index);
    let flow = match service {
        Some(service) => flow::find_or_open(ctx, headers, service, said, true),
        None => match flow::reply(&headers.key) {
            Some(flow) => Ok(flow),
            None => return Ok(TC_PASS),
        },
    };
    let known = flow::or_null(flow);
    let verdict = flow.and_then(|flow| translate(ctx, headers, flow));
    let Err(reason) = verdict else { return verdict };
    if index != NO_SERVICE {
        report::count_service_drop(index);
    }
    let (index, backends) = flow::parties(known, index);
    ctx.tell(Some(&headers.key), What::dropped(reason, index), backends);
    verdict
}

#[inline(always)]
fn translate(ctx: &TcContext, headers: &Headers, flow: *mut FlowValue) -> Result<i32, DropReason> {
    // SAFETY: a map value's pointer is valid until the program returns.
    let value = unsafe { &*flow };
    if value.flags & flow_flags::FROM_HOST == 0 {
        // A flow of somebody else's with the same addresses: not ours to touch.
        return Ok(TC_PASS);
    }
    flow::note(headers.tcp_flags, flow);
    // SAFETY: the program's own context.
    let (ifindex, length) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).len) };
    let is_reply = value.flags & flow_flags::REPLY != 0;
    let is_to_host = value.flags & flow_flags::TO_HOST != 0;
    let mut hop = Hop::new();
    if !is_to_host && !is_reply {
        hop.find(ctx, headers, &value.source, &value.destination, ifindex, 0)?;
    }
    if headers.tcp_flags & tcp::SYN != 0 {
        segment::lower_skb(ctx.skb.skb, headers, value.service);
    }
    rewrite(ctx.skb.skb, headers, value);
    report::count_forwarded(value, length as usize);
    if is_to_host {
        return Ok(turn_around(ctx.skb.skb, ifindex));
    }
    if is_reply {
        // To a client elsewhere: it is on its way already.
        return Ok(TC_PASS);
    }
    Ok(redirect_to_neighbour(hop.ifindex()))
}

#[inline(always)]
fn redirect_to_neighbour(ifindex: u32) -> i32 {
    // SAFETY: no parameters: the helper resolves the route of the packet itself.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Client and backend are both on this host: what was about to leave comes in again.
#[inline(always)]
fn turn_around(skb: *mut __sk_buff, ifindex: u32) -> i32 {
    // The interface's own MAC, which is the frame's source, or the stack takes it for another's.
    let Some(source) = packet(skb).read::<[u8; 6]>(6) else {
        return TC_PASS;
    };
    store(skb, 0, &source);
    // SAFETY: a helper without memory arguments.
    unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}

#[inline(always)]
fn store<T>(skb: *mut __sk_buff, offset: usize, value: &T) {
    let from = core::ptr::from_ref(value).cast();
    // SAFETY: `from` points to a T of this size; the helper checks the packet's bounds.
    unsafe { bpf_skb_store_bytes(skb, offset as u32, from, size_of::<T>() as u32, 0) };
}

/// Translates by the helpers that know of checksums left to the hardware (CHECKSUM_PARTIAL), as
/// packets of local sockets are. The TTL stays: this host is no hop.
#[inline(never)]
fn rewrite(skb: *mut __sk_buff, headers: &Headers, flow: &FlowValue) -> u32 {
    let is_udp = headers.key.protocol == protocol::UDP;
    let checksum = headers.l4()
        + if is_udp {
            udp::CHECKSUM_OFFSET
        } else {
            tcp::CHECKSUM_OFFSET
        };
    // A UDP checksum of zero stays, and a result of zero becomes all ones.
    let udp_flag = if is_udp {
        u64::from(BPF_F_MARK_MANGLED_0)
    } else {
        0
    };
    let pseudo = udp_flag | u64::from(BPF_F_PSEUDO_HDR);
    // The checksum is in the first fragment, and covers the addresses and ports of all.
    let has_checksum = !headers.is_later();
    let (old, key) = (&headers.key, flow);
    if headers.is_ipv4 {
        for (offset, from, to) in [
            (12, old.source.ipv4_word(), key.source.ipv4_word()),
            (16, old.destination.ipv4_word(), key.destination.ipv4_word()),
        ] {
            // SAFETY: helpers on the program's own context, with values only.
            unsafe {
                if has_checksum {
                    bpf_l4_csum_replace(skb, checksum as u32, u64::from(from), u64::from(to), pseudo | 4);
                }
                bpf_l3_csum_replace(skb, headers.l3() as u32 + 10, u64::from(from), u64::from(to), 4);
            }
            store(skb, headers.l3() + offset, &to);
        }
    } else {
        for (offset, from, to) in [
            (8, &old.source, &key.source),
            (24, &old.destination, &key.destination),
        ] {
            if has_checksum {
                let difference = difference(from, to);
                // SAFETY: as above; a size of 0 means that `to` is a difference.
                unsafe { bpf_l4_csum_replace(skb, checksum as u32, 0, difference as u64, pseudo) };
            }
            store(skb, headers.l3() + offset, &to.bytes);
        }
    }
    if !has_checksum {
        return 0;
    }
    for (offset, from, to) in [
        (0, old.source_port, flow.source_port),
        (2, old.destination_port, flow.destination_port),
    ] {
        let (from, to) = (from.to_be(), to.to_be());
        // SAFETY: as above.
        unsafe { bpf_l4_csum_replace(skb, checksum as u32, u64::from(from), u64::from(to), udp_flag | 2) };
        store(skb, headers.l4() + offset, &to);
    }
    0
}

/// The checksum difference of an address for another.
#[inline(always)]
fn difference(from: &Address, to: &Address) -> i64 {
    let (mut from, mut to) = (from.words(), to.words());
    // SAFETY: both point to 16 bytes on the stack, a multiple of 4.
    unsafe { bpf_csum_diff(from.as_mut_ptr(), 16, to.as_mut_ptr(), 16, 0) }
}

/// An ICMP error this host sends about a flow to a backend on it: a closed port, say. The stack
/// computes its checksum in full, so it is translated in place.
#[inline(never)]
fn translate_icmp(skb: *mut __sk_buff, headers: &Headers) -> u32 {
    let packet = packet(skb);
    let Some([kind, _]) = packet.read::<[u8; 2]>(headers.l4()) else {
        return 0;
    };
    let mut room = MaybeUninit::uninit();
    let Some((flow, quoted)) = icmp::about_flow(&packet, headers, kind, &mut room) else {
        return 0;
    };
    if flow.flags & (flow_flags::FROM_HOST | flow_flags::TO_HOST) != flow_flags::FROM_HOST {
        return 0;
    }
    icmp::translate(&packet, headers, quoted, flow, Ttl::Keep);
    report::count_forwarded(flow, packet.len());
    0
}
