//! The XDP balancer: parse → service → flow → translate → next hop → out.

use crate::{
    flow, icmp,
    packet::Packet,
    parse::{self, Headers, Parsed},
    report,
    rewrite::{self, Ttl},
    route::{self, NextHop},
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use proxy_common::{
    headers::ethernet,
    limits,
    values::{FlowValue, Handover, flow_flags},
    verdict::{self, DropReason, Verdict},
};

/// Decides about one packet. Lookups: none for other protocols, 1 for a packet to no service, 3
/// and a route lookup for a known flow, 2 and a route lookup for a reply; the counters' 2 apart.
///
/// # Errors
/// Why the packet is dropped.
#[inline(always)]
pub fn balance(ctx: &XdpContext) -> Result<Verdict, DropReason> {
    let mut headers = Headers::new();
    match parse::unpack(parse_frame(ctx.ctx, &mut headers))? {
        Parsed::Pass => Ok(Verdict::Pass),
        Parsed::Transport => transport(ctx, &headers),
        Parsed::Icmp => verdict::unpack(icmp::from_network(ctx.ctx, &headers)),
    }
}

/// [`parse::parse`] with a stack frame of its own: with it inlined the balancer's would pass 512
/// bytes, the verifier's bound.
#[inline(never)]
fn parse_frame(ctx: *mut xdp_md, headers: &mut Headers) -> u64 {
    let ctx = XdpContext::new(ctx);
    parse::pack(parse::parse(&packet(&ctx), frame_length(&ctx), headers))
}

#[inline(always)]
fn transport(ctx: &XdpContext, headers: &Headers) -> Result<Verdict, DropReason> {
    let service = flow::service(headers);
    let flow = match service {
        Some(service) => flow::find_or_open(headers, service, false),
        None => match flow::reply(&headers.key) {
            Some(flow) => Ok(flow),
            None => return Ok(Verdict::Pass),
        },
    };
    let verdict = flow.and_then(|flow| translate(ctx, headers, flow));
    if let (Err(_), Some(service)) = (verdict, service) {
        report::count_service_drop(service.index);
    }
    verdict
}

#[inline(always)]
fn translate(ctx: &XdpContext, headers: &Headers, flow: *mut FlowValue) -> Result<Verdict, DropReason> {
    flow::note(headers, flow);
    // SAFETY: a map value's pointer is valid until the program returns.
    let flow = unsafe { &*flow };
    let next_hop = next_hop(ctx, headers, flow)?;
    if !rewrite_frame(ctx.ctx, headers, flow, next_hop.is_some()) {
        return Err(DropReason::Truncated);
    }
    report::count_forwarded(flow, packet(ctx).len());
    send(ctx, headers, next_hop)
}

/// [`rewrite::transport`] with a stack frame of its own, as [`parse_frame`].
#[inline(never)]
fn rewrite_frame(ctx: *mut xdp_md, headers: &Headers, flow: &FlowValue, is_forwarded: bool) -> bool {
    let ttl = if is_forwarded { Ttl::Decrement } else { Ttl::Keep };
    rewrite::transport(&packet(&XdpContext::new(ctx)), headers, flow, ttl).is_some()
}

/// The next hop of what a flow's packet becomes; none when it is delivered on this host.
#[inline(always)]
pub fn next_hop(
    ctx: &XdpContext,
    headers: &Headers,
    flow: &FlowValue,
) -> Result<Option<NextHop>, DropReason> {
    if flow.flags & flow_flags::TO_HOST != 0 {
        return Ok(None);
    }
    if headers.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let ifindex = ctx.ingress_ifindex() as u32;
    route::lookup(ctx, headers, &flow.source, &flow.destination, ifindex).map(Some)
}

/// Sends a translated packet on: by the next hop's interface, or up the stack.
#[inline(always)]
pub fn send(ctx: &XdpContext, headers: &Headers, next_hop: Option<NextHop>) -> Result<Verdict, DropReason> {
    let Some(next_hop) = next_hop else {
        return Ok(Verdict::Pass);
    };
    let Some(macs) = next_hop.macs else {
        return hand_over(ctx, headers, next_hop.ifindex);
    };
    if next_hop.ifindex == ctx.ingress_ifindex() as u32 {
        packet(ctx).write(0, macs).ok_or(DropReason::Truncated)?;
        return Ok(Verdict::Transmit);
    }
    strip_tags(ctx, headers)?;
    packet(ctx).write(0, macs).ok_or(DropReason::Truncated)?;
    Ok(Verdict::Redirect(next_hop.ifindex))
}

/// Removes the VLAN tags: they belong to the segment the packet came from. The MAC addresses are
/// left behind with them.
#[inline(always)]
fn strip_tags(ctx: &XdpContext, headers: &Headers) -> Result<(), DropReason> {
    let tags = headers.l3 - ethernet::LENGTH;
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
    let note = Packet::new(ctx.metadata(), ctx.metadata_end());
    note.write(
        0,
        Handover {
            magic: limits::LAYOUT_MAGIC,
            ifindex,
        },
    )
    .ok_or(DropReason::NeighbourUnresolved)?;
    Ok(Verdict::Pass)
}

/// The frame as it is now.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> Packet {
    Packet::new(ctx.data(), ctx.data_end())
}

/// Bytes of the whole frame, beyond the linear part too.
#[inline(always)]
fn frame_length(ctx: &XdpContext) -> usize {
    // SAFETY: a helper on the program's own context.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}
