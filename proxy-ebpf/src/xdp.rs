//! The XDP balancer: parse → service → flow → translate → next hop → out.

use crate::{
    complain::{self, Complaint},
    decap, dsr,
    events::{Backends, What, Witness},
    fast, flow, fragments, guard, icmp,
    packet::Packet,
    parse::{self, Headers, Parsed},
    quic, report,
    rewrite::{self, Ttl},
    route::{Hop, Reach},
    segment,
    words::KeyWords,
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use core::mem::MaybeUninit;
use proxy_common::{
    events::NO_SERVICE,
    headers::{ethernet, tcp},
    limits,
    net::Address,
    values::{FlowValue, Handover, ServiceValue, flow_flags, mode},
    verdict::{self, DropReason, Verdict},
};

/// Decides about one packet. Lookups: none for other protocols, 1 for a packet to no service, 3
/// and a route lookup for a known flow, 2 and a route lookup for a reply; the counters' 2 apart.
///
/// # Errors
/// Why the packet is dropped.
#[inline(always)]
pub fn balance(ctx: &XdpContext) -> Result<Verdict, DropReason> {
    match fast::decide(ctx.ctx) {
        fast::LONG_WAY => {}
        packed => return verdict::unpack(packed),
    }
    let mut headers = MaybeUninit::uninit();
    let parsed = parse::unpack(parse_frame(ctx.ctx, &mut headers));
    let parsed = parsed.inspect_err(|reason| ctx.tell_unread(*reason))?;
    if let Parsed::Pass = parsed {
        decap::deliver(ctx.ctx);
        return Ok(Verdict::Pass);
    }
    // SAFETY: parsed as something else than Pass, all fields are set; the verifier checks it too.
    let headers = unsafe { headers.assume_init_mut() };
    if let Parsed::Icmp = parsed {
        if let Some(service) = icmp::about_service(ctx.ctx, headers) {
            return verdict::unpack(dsr::forward_error(ctx.ctx, headers, service));
        }
        return verdict::unpack(icmp::from_network(ctx.ctx, headers));
    }
    let service = service_frame(headers);
    if let Some(service) = service {
        admit(ctx, headers, service)?;
    }
    if let Parsed::FirstFragment = parsed {
        fragments::remember(headers, service.is_some());
    }
    verdict::unpack(match service {
        Some(service) if service.mode != mode::NAT => dsr::forward_frame(ctx.ctx, headers, service),
        None if flow::is_gue(&headers.key) && decap::deliver(ctx.ctx) => return Ok(Verdict::Pass),
        service => transport_frame(ctx.ctx, headers, service),
    })
}

/// Holds a client's packet against the service's rules and limits, if it has some.
#[inline(always)]
fn admit(ctx: &XdpContext, headers: &Headers, service: &ServiceValue) -> Result<(), DropReason> {
    if service.flags & guard::GUARDED == 0 {
        return Ok(());
    }
    let opens = tcp::opens(headers.tcp_flags) || quic::of_frame(ctx.ctx, service, headers).opens();
    let admitted = guard::check(KeyWords::view(&headers.key), service, opens);
    if let Err(reason) = admitted {
        report::count_service_drop(service.index);
        ctx.tell(
            Some(&headers.key),
            What::dropped(reason, service.index),
            Backends::NONE,
        );
    }
    admitted
}

/// [`parse::parse`] with a stack frame of its own: with it inlined the balancer's would pass 512
/// bytes, the verifier's bound.
#[inline(never)]
fn parse_frame(ctx: *mut xdp_md, headers: &mut MaybeUninit<Headers>) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: parsing only writes fields, and reads those it wrote. Zeroing all of them first
    // would cost a loop over bytes.
    let headers = unsafe { &mut *headers.as_mut_ptr() };
    parse::pack(parse::parse(&packet(&ctx), || frame_length(&ctx), headers))
}

/// [`flow::service`] with a stack frame of its own.
#[inline(never)]
pub fn service_frame(headers: &Headers) -> Option<&'static ServiceValue> {
    flow::service(&headers.key)
}

/// [`transport`] with a stack frame of its own, beside ICMP's.
#[inline(never)]
fn transport_frame(ctx: *mut xdp_md, headers: &Headers, service: Option<&ServiceValue>) -> u64 {
    verdict::pack(transport(&XdpContext::new(ctx), headers, service))
}

#[inline(always)]
fn transport(
    ctx: &XdpContext,
    headers: &Headers,
    service: Option<&ServiceValue>,
) -> Result<Verdict, DropReason> {
    let index = service.map_or(NO_SERVICE, |service| service.index);
    let flow = match service {
        Some(service) => {
            let said = quic::of_frame(ctx.ctx, service, headers);
            flow::find_or_open(ctx, headers, service, said, false)
        }
        None => match flow::reply(&headers.key) {
            Some(flow) => Ok(flow),
            None => return Ok(Verdict::Pass),
        },
    };
    let mut mtu = 0;
    let known = flow::or_null(flow);
    let verdict = flow.and_then(|flow| verdict::unpack(translate_frame(ctx.ctx, headers, flow, &mut mtu)));
    let Err(reason) = verdict else { return verdict };
    if index != NO_SERVICE {
        report::count_service_drop(index);
    }
    let (index, backends) = flow::parties(known, index);
    ctx.tell(Some(&headers.key), What::dropped(reason, index), backends);
    // Nobody is told of a later fragment (RFC 1122 section 3.2.2).
    if complain::is_heard(reason) && !headers.is_later() {
        let complaint = Complaint::new(headers.l3(), headers.is_ipv4, reason, mtu);
        if complain::answer(ctx.ctx, complaint) {
            report::count_drop(reason);
            ctx.tell(Some(&headers.key), What::answered(reason, index), backends);
            return Ok(Verdict::Transmit);
        }
    }
    verdict
}

/// [`translate`] with a stack frame of its own: it isn't beneath that of opening a flow.
#[inline(never)]
fn translate_frame(ctx: *mut xdp_md, headers: &Headers, flow: *mut FlowValue, mtu: &mut u32) -> u64 {
    verdict::pack(translate(&XdpContext::new(ctx), headers, flow, mtu))
}

#[inline(always)]
fn translate(
    ctx: &XdpContext,
    headers: &Headers,
    flow: *mut FlowValue,
    mtu: &mut u32,
) -> Result<Verdict, DropReason> {
    flow::note(headers.tcp_flags, flow);
    // SAFETY: a map value's pointer is valid until the program returns.
    let flow = unsafe { &*flow };
    let mut hop = Hop::new();
    let reach = reach(ctx, headers, flow, &mut hop);
    if reach.is_err() {
        *mtu = hop.mtu();
    }
    let reach = reach?;
    if headers.tcp_flags & tcp::SYN != 0 {
        segment::lower_xdp(ctx.ctx, headers, flow.service);
    }
    if !rewrite_frame(ctx.ctx, headers, flow, !matches!(reach, Reach::Host)) {
        return Err(DropReason::Truncated);
    }
    let verdict = send(ctx, headers, reach, &hop)?;
    report::count_forwarded(flow, headers.end());
    Ok(verdict)
}

/// [`rewrite::transport`] with a stack frame of its own, as [`parse_frame`].
#[inline(never)]
fn rewrite_frame(ctx: *mut xdp_md, headers: &Headers, flow: &FlowValue, is_forwarded: bool) -> bool {
    let ttl = if is_forwarded { Ttl::Decrement } else { Ttl::Keep };
    rewrite::transport(&packet(&XdpContext::new(ctx)), headers, flow, ttl).is_some()
}

/// Where a flow's packet goes once translated; for a neighbour, `hop` says by what way.
#[inline(always)]
pub fn reach(
    ctx: &XdpContext,
    headers: &Headers,
    flow: &FlowValue,
    hop: &mut Hop,
) -> Result<Reach, DropReason> {
    if flow.flags & flow_flags::TO_HOST != 0 {
        return Ok(Reach::Host);
    }
    if headers.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let ifindex = ctx.ingress_ifindex() as u32;
    hop.find(
        ctx,
        headers,
        &flow.source,
        &flow.destination,
        ifindex,
        headers.ip_length(),
    )
}

/// Sends a translated packet on: by the next hop's interface, or up the stack.
#[inline(always)]
pub fn send(ctx: &XdpContext, headers: &Headers, reach: Reach, hop: &Hop) -> Result<Verdict, DropReason> {
    match reach {
        Reach::Host => return Ok(Verdict::Pass),
        Reach::Unresolved => return hand_over(ctx, headers, hop.ifindex()),
        Reach::Neighbour => {}
    }
    if hop.ifindex() == ctx.ingress_ifindex() as u32 {
        hop.write_macs(&packet(ctx)).ok_or(DropReason::Truncated)?;
        return Ok(Verdict::Transmit);
    }
    strip_tags(ctx, headers)?;
    hop.write_macs(&packet(ctx)).ok_or(DropReason::Truncated)?;
    // SAFETY: a helper without memory arguments; it takes note of where to.
    unsafe { bpf_redirect(hop.ifindex(), 0) };
    Ok(Verdict::Redirect)
}

/// Removes the VLAN tags: they belong to the segment the packet came from. The MAC addresses are
/// left behind with them.
#[inline(always)]
fn strip_tags(ctx: &XdpContext, headers: &Headers) -> Result<(), DropReason> {
    let tags = headers.l3() - ethernet::LENGTH;
    if tags == 0 {
        return Ok(());
    }
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    match unsafe { bpf_xdp_adjust_head(ctx.ctx, tags as i32) } {
        0 => Ok(()),
        _ => Err(DropReason::Truncated),
    }
}

/// Leaves a note for `tc_ingress` in front of the packet and passes it: the stack's neighbour table
/// resolves the address and holds the packet meanwhile, which XDP can't.
#[inline(always)]
fn hand_over(ctx: &XdpContext, headers: &Headers, ifindex: u32) -> Result<Verdict, DropReason> {
    let macs: [u8; 12] = packet(ctx).read(0).ok_or(DropReason::Truncated)?;
    strip_tags(ctx, headers)?;
    // The frame keeps this host's MAC as its destination, or the stack would drop it.
    packet(ctx).write(0, macs).ok_or(DropReason::Truncated)?;
    // SAFETY: as above.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<Handover>() as i32)) } != 0 {
        return Err(DropReason::NeighbourUnresolved);
    }
    // SAFETY: the program's own context.
    let note = unsafe { Packet::between(&(*ctx.ctx).data_meta, &(*ctx.ctx).data) };
    note.write(
        0,
        Handover {
            magic: limits::LAYOUT_MAGIC,
            ifindex,
            neighbour: Address { bytes: [0; 16] },
        },
    )
    .ok_or(DropReason::NeighbourUnresolved)?;
    Ok(Verdict::Pass)
}

/// The frame as it is now.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> Packet {
    // SAFETY: the program's own context.
    unsafe { Packet::between(&(*ctx.ctx).data, &(*ctx.ctx).data_end) }
}

/// Bytes of the whole frame, beyond the linear part too.
#[inline(always)]
pub fn frame_length(ctx: &XdpContext) -> usize {
    // SAFETY: a helper on the program's own context.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}
