//! The flow table: finding a packet's flow, opening one, and keeping its state.

use crate::{
    affinity, budget,
    events::{Backends, Occupant, What, Witness},
    maps::{BACKENDS, FLOWS, SERVICES, SETTINGS, SLOTS},
    parse::Headers,
    quic::Said,
    ranges, report,
    words::KeyWords,
};
use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_ktime_get_coarse_ns};
use core::ptr;
use proxy_common::{
    hash,
    headers::{protocol, tcp},
    keys::FlowKey,
    limits,
    values::{
        FlowValue, NO_BACKEND, SAME_PORT, ServiceValue, Settings, backend_flags, flow_flags, seen,
        service_flags,
    },
    verdict::DropReason,
};

/// `-EEXIST`, what `BPF_NOEXIST` returns for a key that is there.
const EXISTS: i32 = -17;

/// Finds the flow of a client's packet to `service`, or opens one. The pointer stays valid for the
/// program's run. Lookups: a flow that is known takes 2 (flow, backend); a new one 4 more and 2
/// inserts, with affinity 4 and an insert on top.
///
/// # Errors
/// No backend, port or room for a new flow.
#[inline(always)]
pub fn find_or_open(
    ctx: &impl Witness,
    headers: &Headers,
    service: &ServiceValue,
    said: Said,
    from_host: bool,
) -> Result<*mut FlowValue, DropReason> {
    let key = &headers.key;
    let mut previous = Occupant::NONE;
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: a map value's pointer is valid until the program returns.
        let entry = unsafe { &*flow };
        let opens = tcp::opens(headers.tcp_flags) || said.opens();
        let is_named = said.backend() == NO_BACKEND || said.backend() == entry.backend;
        if is_named && is_good(opens, entry) {
            return Ok(flow);
        }
        previous = occupant(flow);
        forget(key, flow);
    }
    // A flow in another's place makes the table no fuller.
    if previous == Occupant::NONE && !budget::take() {
        return Err(DropReason::FlowLimit);
    }
    let hash = hash_of(key);
    // Here, not in `open`: one more call below it would pass the verifier's 512 bytes for a chain of calls.
    let slot_hash = match service.flags {
        0 => hash,
        flags => narrow_hash_of(key, flags),
    };
    let slot = hash::slot(slot_hash, service.table_size);
    let has_affinity = service.flags & service_flags::AFFINITY != 0;
    let mut choice = u64::from(slot) << 32 | u64::from(said.backend());
    if has_affinity {
        choice = u64::from(slot) << 32 | u64::from(affinity::find(KeyWords::view(key), service));
    }
    match open_flow(key, service, from_host.into(), hash, choice) {
        // Looked up again rather than carried over, since another CPU may have opened it first.
        0 => {
            let flow = FLOWS.get_ptr_mut(key).ok_or(DropReason::FlowTableFull)?;
            if has_affinity {
                // SAFETY: a map value's pointer is valid until the program returns.
                let (backend, incarnation) = unsafe { ((*flow).backend, (*flow).incarnation) };
                affinity::store(KeyWords::view(key), service, backend, incarnation);
            }
            let backends = Backends::after(occupant(flow), previous);
            ctx.tell(Some(key), What::stored(service.index, backends), backends);
            Ok(flow)
        }
        NO_BACKEND_CODE => Err(DropReason::NoBackend),
        PORT_CODE => Err(DropReason::PortExhausted),
        _ => Err(DropReason::FlowTableFull),
    }
}

/// Removes both entries of a flow.
#[inline(never)]
fn forget(key: &FlowKey, flow: *mut FlowValue) {
    // SAFETY: a map value's pointer is valid until the program returns, and it is read before the entry is removed.
    let peer = unsafe { (*flow).peer_key() };
    // Errors mean somebody else removed them first.
    let _ = FLOWS.remove(&peer);
    let _ = FLOWS.remove(key);
}

/// Whose flow it is.
#[inline(always)]
fn occupant(flow: *mut FlowValue) -> Occupant {
    // SAFETY: a map value's pointer is valid until the program returns.
    let flow = unsafe { &*flow };
    Occupant::new(flow.backend, flow.incarnation)
}

/// The service and the backend of a packet that is dropped, as far as they are known: its flow may be null.
#[inline(always)]
pub fn parties(flow: *mut FlowValue, service: u32) -> (u32, Backends) {
    if flow.is_null() {
        return (service, Backends::NONE);
    }
    // SAFETY: a map value's pointer is valid until the program returns.
    unsafe { ((*flow).service, Backends::only((*flow).backend)) }
}

/// The flow, or null: a result's other half is undefined, and the verifier refuses a register with that even where nobody looks at it.
#[inline(always)]
pub fn or_null(flow: Result<*mut FlowValue, DropReason>) -> *mut FlowValue {
    flow.unwrap_or(ptr::null_mut())
}

/// Whether an entry may go on being used by a packet, of which `opens` says whether it opens a connection; docs/dataplane.md, "Client to backend", 1.
#[inline(always)]
pub fn is_good(opens: bool, flow: &FlowValue) -> bool {
    let Some(backend) = BACKENDS.get(flow.backend) else {
        return false;
    };
    if backend.incarnation != flow.incarnation || backend.flags & backend_flags::DEAD != 0 {
        return false;
    }
    if opens {
        let draining = backend.flags & backend_flags::DRAINING != 0;
        return !flow.is_closing() && (!draining || flow.is_opening());
    }
    true
}

const NO_BACKEND_CODE: i32 = 1;
const PORT_CODE: i32 = 2;
const FULL_CODE: i32 = 3;

/// Opens a flow: picks the backend, a port, and inserts both entries. 0, or one of the codes above. `choice`: the slot in the high
/// half, in the low one the backend that a connection ID or the source's affinity names, or [`NO_BACKEND`].
///
/// A function with a frame of its own, and a global one: the verifier goes through it once, and not once for each state that a caller
/// may be in (kernel/bpf/verifier.c, `do_check_subprogs`). Pointers of such are checked here, since any caller may be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn open_flow(
    key: *const FlowKey,
    service: *const ServiceValue,
    from_host: u64,
    hash: u64,
    choice: u64,
) -> i32 {
    if key.is_null() || service.is_null() {
        return NO_BACKEND_CODE;
    }
    // SAFETY: what callers pass lives as long as the call.
    let (key, service) = unsafe { (&*key, &*service) };
    open(key, service, from_host != 0, hash, choice)
}

#[inline(always)]
fn open(key: &FlowKey, service: &ServiceValue, from_host: bool, hash: u64, choice: u64) -> i32 {
    let Some(index) = chosen(service, choice) else {
        return NO_BACKEND_CODE;
    };
    let Some(backend) = BACKENDS.get(index) else {
        return NO_BACKEND_CODE;
    };
    if backend.incarnation == 0 || backend.flags & backend_flags::DEAD != 0 {
        return NO_BACKEND_CODE;
    }
    let is_local = backend.flags & backend_flags::LOCAL != 0;
    // A packet whose source is one of this host's addresses would be dropped on its way in, so
    // what is delivered here keeps the client's address, or the VIP where the client is here too.
    let source = match (is_local, from_host) {
        (false, _) => backend.source,
        (true, false) => key.source,
        (true, true) => key.destination,
    };
    let mut flow = FlowValue {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        flags: flow_flags::REPLY
            | if is_local { flow_flags::FROM_HOST } else { 0 }
            | if from_host { flow_flags::TO_HOST } else { 0 },
        seen: 0,
        peer_seen: 0,
        service: service.index,
        backend: index,
        incarnation: backend.incarnation,
        protocol: u32::from(key.protocol),
        last_seen: now(),
    };
    let mut reply = FlowKey {
        source: backend.address,
        destination: source,
        source_port: match backend.port {
            SAME_PORT => key.destination_port,
            port => port,
        },
        destination_port: 0,
        protocol: key.protocol,
        pad: [0; 3],
    };
    let code = insert_reply(&mut reply, &flow, hash);
    if code != 0 {
        return code;
    }
    flow.source = reply.destination;
    flow.destination = reply.source;
    flow.source_port = reply.destination_port;
    flow.destination_port = reply.source_port;
    flow.flags =
        if is_local { flow_flags::TO_HOST } else { 0 } | if from_host { flow_flags::FROM_HOST } else { 0 };
    match FLOWS.insert(key, &flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            report::count_flow(service.index, index);
            0
        }
        Err(error) => {
            let _ = FLOWS.remove(&reply);
            // Another CPU was faster: the flow is open.
            if error == EXISTS { 0 } else { FULL_CODE }
        }
    }
}

/// Whom affinity names, or else the slot.
#[inline(always)]
fn chosen(service: &ServiceValue, choice: u64) -> Option<u32> {
    let affine = choice as u32;
    if affine != NO_BACKEND {
        return Some(affine);
    }
    let slot = (choice >> 32) as u32;
    let index = SLOTS.get_value(service.index, &slot)?.backend;
    (index != NO_BACKEND).then_some(index)
}

/// [`hash::flow_hash`] with a stack frame of its own.
#[inline(never)]
fn hash_of(key: &FlowKey) -> u64 {
    hash::flow_hash(key)
}

/// [`hash::slot_hash`] alike.
#[inline(never)]
fn narrow_hash_of(key: &FlowKey, flags: u32) -> u64 {
    hash::slot_hash(key, flags)
}

/// Finds a free source port towards the backend, completes the key for replies with it, and inserts
/// their entry. 0, or a code.
#[inline(never)]
fn insert_reply(reply: &mut FlowKey, flow: &FlowValue, hash: u64) -> i32 {
    let Some(settings) = SETTINGS.get(0) else {
        return PORT_CODE;
    };
    let first = u32::from(settings.nat_port_first);
    let count = u32::from(settings.nat_port_last)
        .wrapping_sub(first)
        .wrapping_add(1)
        & 0x1_ffff;
    // The low half of the hash: the high one picked the slot, so it says little within a backend.
    let mut offset = hash::slot(hash << 32, count);
    for probe in 0..limits::PORT_PROBES {
        if probe >= count {
            break;
        }
        reply.destination_port = (first + offset) as u16;
        match FLOWS.insert(&*reply, flow, u64::from(BPF_NOEXIST)) {
            Ok(()) => return 0,
            Err(EXISTS) => {}
            Err(_) => return FULL_CODE,
        }
        offset += 1;
        if offset >= count {
            offset = 0;
        }
    }
    PORT_CODE
}

/// The service a packet is addressed to. One lookup; up to three more where there are ranges and it is none's first port.
#[inline(always)]
pub fn service(key: &FlowKey) -> Option<&'static ServiceValue> {
    // SAFETY: the daemon replaces values whole, and an entry reused under us is another service's
    // for one packet: the same as if the packet had come a moment later.
    match unsafe { SERVICES.get(&key.service()) } {
        None if ranges::are_there() => ranges::service(KeyWords::view(key)),
        found => found,
    }
}

/// The flow of a backend's reply. One lookup, and none for ports that NAT doesn't hand out.
#[inline(always)]
pub fn reply(key: &FlowKey) -> Option<*mut FlowValue> {
    if !is_nat_port(key.destination_port) {
        return None;
    }
    let flow = FLOWS.get_ptr_mut(key)?;
    // SAFETY: a map value's pointer is valid until the program returns.
    if unsafe { (*flow).flags } & flow_flags::REPLY == 0 {
        return None;
    }
    Some(flow)
}

/// Whether a port is one that NAT hands out.
#[inline(always)]
pub fn is_nat_port(port: u16) -> bool {
    match SETTINGS.get(0) {
        Some(settings) => (settings.nat_port_first..=settings.nat_port_last).contains(&port),
        None => false,
    }
}

/// Whether a packet may be one of a GUE tunnel's.
#[inline(always)]
pub fn is_gue(key: &FlowKey) -> bool {
    key.protocol == protocol::UDP
        && SETTINGS
            .get(0)
            .is_some_and(|settings| settings.gue_port == key.destination_port)
}

/// What a packet to no service may be by its destination port.
#[derive(Clone, Copy)]
pub enum Ours {
    /// Nothing of ours.
    No,
    /// A backend's reply.
    Reply,
    /// GUE, or a reply.
    Tunnel,
}

/// Whether a packet to no service may be something else of ours.
#[inline(always)]
pub fn may_be_ours(port: u16) -> Ours {
    match SETTINGS.get(0) {
        Some(settings) if settings.gue_port == port => Ours::Tunnel,
        Some(settings) if (settings.nat_port_first..=settings.nat_port_last).contains(&port) => Ours::Reply,
        _ => Ours::No,
    }
}

/// Stamps a flow and records what its packet says about its state. No lookup, but one for
/// the first packet, FIN or RST of a direction.
#[inline(always)]
pub fn note(tcp_flags: u8, flow: *mut FlowValue) {
    // SAFETY: a map value's pointer is valid until the program returns. Other CPUs may write the
    // same fields: stamps differ by nothing that matters, and each direction sets its own bits.
    let flow = unsafe { &mut *flow };
    let now = now();
    if now.wrapping_sub(flow.last_seen) > limits::LAST_SEEN_GRAIN_NS {
        flow.last_seen = now;
    }
    let mut bits = seen::PACKET;
    if tcp_flags & tcp::FIN != 0 {
        bits |= seen::FIN;
    }
    if tcp_flags & tcp::RST != 0 {
        bits |= seen::RST;
    }
    if bits & !flow.seen != 0 {
        flow.seen |= bits;
        if let Some(peer) = FLOWS.get_ptr_mut(flow.peer_key()) {
            // SAFETY: as above.
            unsafe { (*peer).peer_seen |= bits };
        }
    }
}

/// The clock of [`FlowValue::last_seen`].
#[inline(always)]
pub fn now() -> u64 {
    let offset = SETTINGS
        .get(0)
        .map_or(0, |settings: &Settings| settings.clock_offset_ns);
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }.wrapping_add(offset)
}
