//! Direct server return: the backend is chosen by the slot alone, the packet reaches it as the client sent it, and
//! answers don't come back this way (docs/dataplane.md, "Direct server return").

use crate::{
    complain::{self, Complaint},
    encap::{self, Macs},
    events::{self, Backends, What, Witness},
    guard,
    head::Head,
    job::Job,
    maps::{BACKENDS, NEXT_HOPS, SLOTS},
    next_hop::{self, Way},
    parse::Headers,
    quic::{self, Said},
    report, tags, tracked,
    words::{self, KeyWords},
    xdp,
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_meta},
    programs::XdpContext,
};
use core::mem::MaybeUninit;
use proxy_common::{
    hash,
    headers::{ethernet, ipv4, ipv6, tcp, udp},
    limits,
    net::Address,
    values::{Handover, NO_BACKEND, NextHop, ServiceValue, backend_flags, mode, service_flags, slot_state},
    verdict::{self, DropReason, Verdict},
};

/// Sends a packet without VLAN tags on its way. Six lookups, seven where the slot isn't plain; and a route lookup once in
/// [`limits::NEXT_HOP_JIFFIES`] a backend.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn forward(ctx: *mut xdp_md, job: &mut Job, service: &ServiceValue) -> Result<Verdict, DropReason> {
    job.index = NO_BACKEND;
    if service.flags & service_flags::QUIC != 0 {
        let start = if job.is_ipv4 { ipv4::LENGTH } else { ipv6::LENGTH } + ethernet::LENGTH + udp::LENGTH;
        let end = job.length + ethernet::LENGTH as u32;
        job.heed(service, Said(quic::read_frame(ctx, service, start as u32, end)));
    }
    if service.flags & guard::GUARDED != 0 {
        guard::check(&job.key, service, job.opens)?;
    }
    choose(&XdpContext::new(ctx), job, service)?;
    let verdict = if job.backend.flags & backend_flags::LOCAL != 0 {
        Verdict::Pass
    } else {
        let found = find_way(ctx, job, service)?;
        send(ctx, job, service, found)?
    };
    report::count_client(
        service.index,
        job.index,
        job.length + ethernet::LENGTH as u32,
        job.opens,
    );
    Ok(verdict)
}

/// The same for a packet that may have VLAN tags: they are kept on the interface it came by, and taken away towards another
/// one. The verdict comes packed.
#[inline(never)]
pub fn forward_frame(ctx: *mut xdp_md, headers: &Headers, service: &ServiceValue) -> u64 {
    let mut job = MaybeUninit::uninit();
    // SAFETY: all fields are written before any is read.
    let job: &mut Job = unsafe { &mut *job.as_mut_ptr() };
    let verdict = read(ctx, headers, job)
        .ok_or(DropReason::Truncated)
        .and_then(|()| {
            job.heed(service, quic::of_frame(ctx, service, headers));
            forward_untagged(ctx, headers, job, service)
        });
    match verdict {
        // Nobody is told of a later fragment (RFC 1122 section 3.2.2).
        Err(reason) if headers.is_later() => drop_silently(ctx, job, service.index, reason),
        Err(reason) => drop(ctx, job, headers.l3() as u32, service.index, reason),
        verdict => verdict::pack(verdict),
    }
}

/// Counts a packet that is dropped, and whose sender is not to be told. The verdict comes packed.
#[inline(always)]
fn drop_silently(ctx: *mut xdp_md, job: &Job, service: u32, reason: DropReason) -> u64 {
    report::count_service_drop(service);
    let (key, backends) = (Some(job.key.key()), Backends::only(job.index));
    events::tell_xdp(ctx, key, What::dropped(reason, service), backends);
    verdict::pack(Err(reason))
}

/// Counts a packet that is dropped, and tells its sender where that helps. The verdict comes packed.
#[inline(never)]
pub fn drop(ctx: *mut xdp_md, job: &Job, l3: u32, service: u32, reason: DropReason) -> u64 {
    report::count_service_drop(service);
    let (key, backends) = (Some(job.key.key()), Backends::only(job.index));
    events::tell_xdp(ctx, key, What::dropped(reason, service), backends);
    if complain::is_heard(reason) {
        let complaint = Complaint::new(l3 as usize, job.is_ipv4, reason, job.mtu);
        if complain::answer(ctx, complaint) {
            report::count_drop(reason);
            events::tell_xdp(ctx, key, What::answered(reason, service), backends);
            return verdict::pack(Ok(Verdict::Transmit));
        }
    }
    verdict::pack(Err(reason))
}

/// Sends an ICMP error on to the backend of the flow that it is about: the headers' key is what the flow's own packets have. The
/// verdict comes packed.
#[inline(never)]
pub fn forward_error(ctx: *mut xdp_md, headers: &Headers, service: &ServiceValue) -> u64 {
    let mut job = MaybeUninit::uninit();
    // SAFETY: as in `forward_frame`.
    let job: &mut Job = unsafe { &mut *job.as_mut_ptr() };
    let read = read(ctx, headers, job);
    job.opens = false;
    job.is_about = true;
    let verdict = read
        .ok_or(DropReason::Truncated)
        .and_then(|()| forward_untagged(ctx, headers, job, service));
    match verdict {
        // No sender is told of an error about an error (RFC 1122 section 3.2.2).
        Err(reason) => drop_silently(ctx, job, service.index, reason),
        verdict => verdict::pack(verdict),
    }
}

#[inline(always)]
fn read(ctx: *mut xdp_md, headers: &Headers, job: &mut Job) -> Option<()> {
    // What `drop` tells of, whatever comes.
    job.key = KeyWords::of(&headers.key);
    job.index = NO_BACKEND;
    let packet = xdp::packet(&XdpContext::new(ctx));
    let [first, second]: [u8; 2] = packet.read(headers.l3())?;
    job.length = u32::from(headers.ip_length());
    job.is_ipv4 = headers.is_ipv4;
    job.ttl = headers.ttl;
    job.class = if headers.is_ipv4 {
        second
    } else {
        first << 4 | second >> 4
    };
    job.tcp_flags = headers.tcp_flags;
    job.mtu = 0;
    job.is_about = false;
    job.opens = headers.tcp_flags != 0 && tcp::opens(headers.tcp_flags);
    Some(())
}

#[inline(always)]
fn forward_untagged(
    ctx: *mut xdp_md,
    headers: &Headers,
    job: &mut Job,
    service: &ServiceValue,
) -> Result<Verdict, DropReason> {
    choose(&XdpContext::new(ctx), job, service)?;
    if job.backend.flags & backend_flags::LOCAL != 0 {
        report::count_client(service.index, job.index, headers.end() as u32, job.opens);
        return Ok(Verdict::Pass);
    }
    let (_, hop) = find_way(ctx, job, service)?;
    verdict::unpack(send_untagged(ctx, headers, job, service, hop))
}

/// What comes once the way is known; its stack frame isn't beneath those of finding it. The verdict comes packed.
#[inline(never)]
fn send_untagged(
    ctx: *mut xdp_md,
    headers: &Headers,
    job: &mut Job,
    service: &ServiceValue,
    hop: &NextHop,
) -> u64 {
    verdict::pack(send_past_tags(ctx, headers, job, service, hop))
}

#[inline(always)]
fn send_past_tags(
    ctx: *mut xdp_md,
    headers: &Headers,
    job: &mut Job,
    service: &ServiceValue,
    hop: &NextHop,
) -> Result<Verdict, DropReason> {
    let bytes = headers.l3() - ethernet::LENGTH;
    let mut kept = 0;
    if bytes != 0 {
        kept = tags::take(ctx, bytes);
        if kept == tags::NONE {
            return Err(DropReason::Truncated);
        }
    }
    // Said by the hop itself: a sixth argument there is no register for.
    let way = if hop.until == 0 {
        Way::Unresolved
    } else {
        Way::Known
    };
    let verdict = send(ctx, job, service, (way, hop))?;
    if let (true, Verdict::Transmit) = (bytes != 0, verdict)
        && !tags::put(ctx, bytes, kept)
    {
        return Err(DropReason::NoHeadroom);
    }
    report::count_client(service.index, job.index, headers.end() as u32, job.opens);
    Ok(verdict)
}

/// The backend of a packet, alive: that of the job, if one is named. Three lookups, four where the slot isn't plain.
///
/// # Errors
/// There is none, or the flow can't be stored.
#[inline(always)]
pub fn choose<W: Witness>(witness: &W, job: &mut Job, service: &ServiceValue) -> Result<(), DropReason> {
    let hash = match (job.is_ipv4, service.flags & NARROW) {
        (true, 0) => {
            let [.., source, _, _, _, destination, ports, protocol] = *job.key.words();
            hash::flow_hash_ipv4(source, destination, ports, protocol)
        }
        (_, flags) => hash_frame(&job.key, flags),
    };
    job.hash = hash as u32;
    let index = match job.index {
        NO_BACKEND => by_slot(witness, job, service, hash)?,
        named => named,
    };
    if index == NO_BACKEND {
        return Err(DropReason::NoBackend);
    }
    let backend = BACKENDS.get(index).ok_or(DropReason::NoBackend)?;
    if backend.incarnation == 0 || backend.flags & backend_flags::DEAD != 0 {
        return Err(DropReason::NoBackend);
    }
    job.index = index;
    job.backend = backend;
    Ok(())
}

/// The backend of the hash's slot, or of the flow where it has an entry.
#[inline(always)]
fn by_slot<W: Witness>(witness: &W, job: &Job, service: &ServiceValue, hash: u64) -> Result<u32, DropReason> {
    let slot = hash::slot(hash, service.table_size);
    let slot = SLOTS
        .get_value(service.index, &slot)
        .ok_or(DropReason::NoBackend)?;
    Ok(
        if slot.previous == slot_state::PLAIN && service.flags & service_flags::TRACK_ALWAYS == 0 {
            slot.backend
        } else {
            match tracked::choose(witness, job, service, slot.backend, slot.previous) {
                tracked::FULL => return Err(DropReason::FlowTableFull),
                tracked::LIMITED => return Err(DropReason::FlowLimit),
                index => index as u32,
            }
        },
    )
}

/// [`hash::slot_hash`] of other flows, with a stack frame of its own.
#[inline(never)]
fn hash_frame(key: &KeyWords, flags: u32) -> u64 {
    let [a, b, c, d, e, f, g, h, mut ports, mut protocol] = *key.words();
    let mut destination = [e, f, g, h];
    if flags & NARROW != 0 {
        (ports, protocol) = (0, 0);
    }
    if flags & service_flags::HASH_SOURCE != 0 {
        destination = [0; 4];
    }
    if words::is_ipv4([a, b, c, d]) {
        hash::flow_hash_ipv4(d, destination[3], ports, protocol)
    } else {
        hash::flow_hash_ipv6([a, b, c, d], destination, ports, protocol)
    }
}

/// Fields of the 5-tuple are left out.
const NARROW: u32 = service_flags::HASH_SOURCE | service_flags::HASH_ADDRESSES;

/// The way to the backend, if the packet can go it: nothing is changed yet.
#[inline(always)]
fn find_way(
    ctx: *mut xdp_md,
    job: &mut Job,
    service: &ServiceValue,
) -> Result<(Way, &'static NextHop), DropReason> {
    if job.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let hop = NEXT_HOPS.get_ptr_mut(job.index).ok_or(DropReason::NoBackend)?;
    let is_l2 = service.mode == mode::DSR_L2;
    let way = next_hop::way(ctx, hop, job.backend, is_l2)?;
    // SAFETY: a map value's pointer is valid until the program returns. Another CPU may be writing the same answer.
    let hop = unsafe { &*hop };
    let outer = encap::overhead(service.mode, &job.backend.address);
    if job.length + outer > hop.mtu {
        job.mtu = hop.mtu.wrapping_sub(outer);
        return Err(DropReason::MtuExceeded);
    }
    Ok((way, hop))
}

#[inline(always)]
fn send(
    ctx: *mut xdp_md,
    job: &mut Job,
    service: &ServiceValue,
    (way, hop): (Way, &NextHop),
) -> Result<Verdict, DropReason> {
    let is_l2 = service.mode == mode::DSR_L2;
    let packet = xdp::packet(&XdpContext::new(ctx));
    let head = Head::<{ ethernet::LENGTH }>::of(&packet).ok_or(DropReason::Truncated)?;
    job.macs = match way {
        Way::Known => Macs::of(hop),
        // This host's own, or the stack would take the frame for another's.
        Way::Unresolved => Macs::of_head(head),
    };
    encap::lower_ttl(job, &packet).ok_or(DropReason::Truncated)?;
    if is_l2 {
        job.macs.write(head);
    } else {
        encap::encapsulate(ctx, job, service.mode)?;
    }
    // SAFETY: the program's own context.
    let arrived = unsafe { (*ctx).ingress_ifindex };
    match way {
        Way::Unresolved => {
            if hand_over(ctx, hop.ifindex, job, is_l2) {
                Ok(Verdict::Pass)
            } else {
                Err(DropReason::NeighbourUnresolved)
            }
        }
        Way::Known if hop.ifindex == arrived => Ok(Verdict::Transmit),
        Way::Known => {
            // SAFETY: a helper without memory arguments; it takes note of where to.
            unsafe { bpf_redirect(hop.ifindex, 0) };
            Ok(Verdict::Redirect)
        }
    }
}

/// Leaves a note for `tc_ingress`, as [`xdp::send`] does. False if there is no room for it.
#[inline(never)]
fn hand_over(ctx: *mut xdp_md, ifindex: u32, job: &Job, is_l2: bool) -> bool {
    // SAFETY: a helper on the program's own context.
    if unsafe { bpf_xdp_adjust_meta(ctx, -(size_of::<Handover>() as i32)) } != 0 {
        return false;
    }
    let neighbour = if is_l2 {
        job.backend.address
    } else {
        Address { bytes: [0; 16] }
    };
    // SAFETY: the program's own context.
    let note = unsafe { crate::packet::Packet::between(&(*ctx).data_meta, &(*ctx).data) };
    note.write(
        0,
        Handover {
            magic: limits::LAYOUT_MAGIC,
            ifindex,
            neighbour,
        },
    )
    .is_some()
}
