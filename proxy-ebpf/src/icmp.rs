//! ICMP: echo to a VIP, and errors about translated packets (RFC 5508).

use crate::{
    events::Witness,
    flow,
    maps::FLOWS,
    packet::Packet,
    parse::{Headers, Ipv4Header, Ipv6Header},
    ranges, report,
    rewrite::{self, Ttl},
    route::{Hop, Reach},
    xdp,
};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use core::mem::MaybeUninit;
use proxy_common::{
    checksum::Delta,
    headers::{icmp, ipv4, ipv6, protocol},
    keys::FlowKey,
    net::Address,
    values::{FlowValue, ServiceValue, flow_flags, mode},
    verdict::{self, DropReason, Verdict},
};

/// Offset of the checksum in an ICMP or ICMPv6 header.
const CHECKSUM: usize = 2;

/// The packet quoted in an error.
pub struct Quoted {
    /// Its 5-tuple reversed: the key of the flow entry whose output it would answer.
    pub reversed: FlowKey,
    /// Offset of its IP header; 16 bits wide as in [`Headers`].
    l3: u16,
    /// Offset of its ports.
    l4: u16,
}

/// Decides about an ICMP packet that arrived; the verdict comes packed ([`verdict::pack`]).
///
/// Not inlined: it is rare, and its variables would overflow the balancer's stack frame.
#[inline(never)]
pub fn from_network(ctx: *mut xdp_md, headers: &Headers) -> u64 {
    let ctx = XdpContext::new(ctx);
    verdict::pack(decide(&ctx, headers).inspect_err(|reason| ctx.tell_unread(*reason)))
}

#[inline(always)]
fn decide(ctx: &XdpContext, headers: &Headers) -> Result<Verdict, DropReason> {
    let packet = xdp::packet(ctx);
    let Some([kind, code]) = packet.read::<[u8; 2]>(headers.l4()) else {
        return Ok(Verdict::Pass);
    };
    if is_echo(headers, kind, code) {
        return verdict::unpack(echo_frame(packet.start(), packet.end(), headers));
    }
    let mut room = MaybeUninit::uninit();
    let Some((flow, quoted)) = about_flow(&packet, headers, kind, &mut room) else {
        return Ok(Verdict::Pass);
    };
    let mut hop = Hop::new();
    let reach = xdp::reach(ctx, headers, flow, &mut hop)?;
    let ttl = if let Reach::Host = reach {
        Ttl::Keep
    } else {
        Ttl::Decrement
    };
    if !translate(&xdp::packet(ctx), headers, quoted, flow, ttl) {
        return Err(DropReason::Truncated);
    }
    let verdict = xdp::send(ctx, headers, reach, &hop)?;
    report::count_forwarded(flow, headers.end());
    Ok(verdict)
}

#[inline(always)]
fn is_echo(headers: &Headers, kind: u8, code: u8) -> bool {
    let request = if headers.is_ipv4 {
        icmp::ECHO
    } else {
        icmp::V6_ECHO
    };
    kind == request && code == 0 && ranges::is_vip(&headers.key.destination)
}

/// [`echo`] with a stack frame of its own.
#[inline(never)]
fn echo_frame(start: usize, end: usize, headers: &Headers) -> u64 {
    verdict::pack(Ok(
        echo(&Packet::new(start, end), headers).unwrap_or(Verdict::Pass)
    ))
}

/// Turns an echo request into its reply in place (RFC 792, RFC 4443 section 4.2).
#[inline(always)]
fn echo(packet: &Packet, headers: &Headers) -> Option<Verdict> {
    let [destination, source]: [[u8; 6]; 2] = packet.read(0)?;
    packet.write(0, [source, destination])?;
    // Swapped addresses leave every sum as it was; the TTL is new, as for any packet a host sends.
    let key = &headers.key;
    rewrite::network_outlined(
        packet,
        headers.l3(),
        headers.is_ipv4,
        &key.destination,
        &key.source,
        Ttl::Fresh,
    )?;
    let old: [u8; 2] = packet.read(headers.l4())?;
    let new = [
        if headers.is_ipv4 {
            icmp::ECHO_REPLY
        } else {
            icmp::V6_ECHO_REPLY
        },
        0,
    ];
    packet.write(headers.l4(), new)?;
    let checksum: u16 = packet.read(headers.l4() + CHECKSUM)?;
    let delta = Delta::new().half(u16::from_ne_bytes(old), u16::from_ne_bytes(new));
    packet.write(headers.l4() + CHECKSUM, delta.apply(checksum))?;
    Some(Verdict::Transmit)
}

/// The service without NAT that an error is about: what one of its backends sent from the VIP. The headers' key is then that of the
/// flow's own packets, from the client: the hash says which backend it is, on any balancer. At most one lookup.
#[inline(never)]
pub fn about_service(ctx: *mut xdp_md, headers: &mut Headers) -> Option<&'static ServiceValue> {
    let packet = xdp::packet(&XdpContext::new(ctx));
    let kind: u8 = packet.read(headers.l4())?;
    if !is_error(headers, kind) {
        return None;
    }
    let mut room = MaybeUninit::uninit();
    if !quoted_frame(packet.start(), packet.end(), headers, &mut room) {
        return None;
    }
    // SAFETY: true means that all fields are set.
    let quoted = unsafe { room.assume_init_ref() };
    if quoted.reversed.destination != headers.key.destination {
        return None;
    }
    let service = flow::service(&quoted.reversed)?;
    if service.mode == mode::NAT {
        return None;
    }
    headers.key = quoted.reversed;
    Some(service)
}

#[inline(always)]
fn is_error(headers: &Headers, kind: u8) -> bool {
    if headers.is_ipv4 {
        matches!(
            kind,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM
        )
    } else {
        icmp::V6_ERRORS.contains(&kind)
    }
}

/// The flow that an ICMP error is about, and the packet quoted in it. At most one lookup.
#[inline(always)]
pub fn about_flow<'a>(
    packet: &Packet,
    headers: &Headers,
    kind: u8,
    quoted: &'a mut MaybeUninit<Quoted>,
) -> Option<(&'static FlowValue, &'a Quoted)> {
    if !is_error(headers, kind) {
        return None;
    }
    if !quoted_frame(packet.start(), packet.end(), headers, quoted) {
        return None;
    }
    // SAFETY: true means that all fields are set.
    let quoted = unsafe { quoted.assume_init_ref() };
    // An error goes to whoever sent the packet it quotes.
    if quoted.reversed.destination != headers.key.destination {
        return None;
    }
    let flow = FLOWS.get_ptr_mut(&quoted.reversed)?;
    // SAFETY: a map value's pointer is valid until the program returns.
    let flow: &FlowValue = unsafe { &*flow };
    let is_reply = flow.flags & flow_flags::REPLY != 0;
    if is_reply && !flow::is_nat_port(quoted.reversed.destination_port) {
        return None;
    }
    Some((flow, quoted))
}

/// [`quoted`] with a stack frame of its own; false for none.
#[inline(never)]
fn quoted_frame(start: usize, end: usize, headers: &Headers, room: &mut MaybeUninit<Quoted>) -> bool {
    // SAFETY: only written to here.
    let room = unsafe { &mut *room.as_mut_ptr() };
    quoted(&Packet::new(start, end), headers, room).is_some()
}

/// Reads the quoted packet: a plain IP header and the first 8 bytes of TCP or UDP.
#[inline(always)]
fn quoted(packet: &Packet, headers: &Headers, quoted: &mut Quoted) -> Option<()> {
    let l3 = headers.l4() + icmp::LENGTH;
    let reversed = &mut quoted.reversed;
    reversed.pad = [0; 3];
    let l4 = if headers.is_ipv4 {
        let header: Ipv4Header = packet.read(l3)?;
        if !header.is_plain() {
            return None;
        }
        reversed.source = Address::from_ipv4(header.destination);
        reversed.destination = Address::from_ipv4(header.source);
        reversed.protocol = header.protocol;
        l3 + ipv4::LENGTH
    } else {
        let header: Ipv6Header = packet.read(l3)?;
        if !header.is_plain() {
            return None;
        }
        reversed.source = Address::from_ipv6(header.destination);
        reversed.destination = Address::from_ipv6(header.source);
        reversed.protocol = header.next_header;
        l3 + ipv6::LENGTH
    };
    if reversed.protocol != protocol::TCP && reversed.protocol != protocol::UDP {
        return None;
    }
    // RFC 792 quotes 8 bytes at least; ports and UDP's checksum lie in them.
    if l4 + 8 > headers.end() {
        return None;
    }
    let [source, destination, ..]: [u16; 4] = packet.read(l4)?;
    reversed.source_port = u16::from_be(destination);
    reversed.destination_port = u16::from_be(source);
    quoted.l3 = l3 as u16;
    quoted.l4 = l4 as u16;
    Some(())
}

/// Translates an error about a flow's packet: outside to where the packet came from, inside to
/// what its sender sent. False can't happen for a parsed packet: the verifier wants it.
#[inline(always)]
pub fn translate(packet: &Packet, headers: &Headers, quoted: &Quoted, flow: &FlowValue, ttl: Ttl) -> bool {
    match ttl {
        Ttl::Decrement => translate_frame::<true>(packet.start(), packet.end(), headers, quoted, flow),
        _ => translate_frame::<false>(packet.start(), packet.end(), headers, quoted, flow),
    }
}

/// Not inlined, for a stack frame of its own; BPF functions take five arguments at most.
#[inline(never)]
fn translate_frame<const FORWARDED: bool>(
    start: usize,
    end: usize,
    headers: &Headers,
    quoted: &Quoted,
    flow: &FlowValue,
) -> bool {
    let ttl = if FORWARDED { Ttl::Decrement } else { Ttl::Keep };
    rewrite_error(&Packet::new(start, end), headers, quoted, flow, ttl).is_some()
}

#[inline(always)]
fn rewrite_error(
    packet: &Packet,
    headers: &Headers,
    quoted: &Quoted,
    flow: &FlowValue,
    ttl: Ttl,
) -> Option<()> {
    // RFC 5508 section 4.2: what leaves for the client's side carries our own address there, the
    // VIP; towards a backend the router's address is kept.
    let is_reply = flow.flags & flow_flags::REPLY != 0;
    let source = if is_reply {
        &flow.source
    } else {
        &headers.key.source
    };
    let outer = rewrite::network_outlined(
        packet,
        headers.l3(),
        headers.is_ipv4,
        source,
        &flow.destination,
        ttl,
    )?;
    let (addresses, covered) = rewrite::inner_network(
        packet,
        usize::from(quoted.l3),
        headers.is_ipv4,
        &flow.destination,
        &flow.source,
    )?;
    let ports = (flow.destination_port, flow.source_port);
    let changes = rewrite::ports(
        packet,
        usize::from(quoted.l4),
        quoted.reversed.protocol,
        ports,
        addresses,
        headers.end(),
    )?;
    let mut delta = changes.covered_by(covered);
    if !headers.is_ipv4 {
        // ICMPv6 has a pseudo-header (RFC 4443 section 2.3), ICMP has none.
        delta = delta.and(outer);
    }
    let checksum: u16 = packet.read(headers.l4() + CHECKSUM)?;
    packet.write(headers.l4() + CHECKSUM, delta.apply(checksum))
}
