//! Flows of slots that moved: ARCHITECTURE.md, "Just enough flow tracking".

use crate::{
    affinity, budget,
    events::{Backends, Occupant, What, Witness},
    flow,
    job::Job,
    maps::{BACKENDS, TRACKED_FLOWS},
    report,
};
use aya_ebpf::bindings::BPF_ANY;
use proxy_common::{
    headers::{protocol, tcp},
    limits,
    values::{
        BackendValue, NO_BACKEND, ServiceValue, TrackedFlow, backend_flags, seen, service_flags, slot_state,
    },
};

/// No room to store a flow that must be.
pub const FULL: u64 = u64::MAX;
/// The same for a host that stores as many new flows as it may.
pub const LIMITED: u64 = u64::MAX - 1;

/// The backend of a packet whose slot isn't plain, or all of whose service's flows are stored; its index, or [`FULL`] or
/// [`LIMITED`].
/// Two lookups (entry, its backend), and an insert for a flow that has none.
///
/// 1. An entry of this service whose backend lives wins, unless the packet opens a new flow that this backend must not get.
/// 2. A slot that isn't moving: its backend. Stored if all flows are.
/// 3. A moving one: a packet that opens a flow goes to the slot's backend, any other to the one before, if it lives. Stored.
///    An entry that didn't win changes nothing of that: it may be of long ago, and the flow the slot's since.
///
/// With affinity a packet that opens a flow goes to the source's backend instead of the slot's, if its flow can be stored. All such a
/// service's flows are stored, or not taken: a datagram without an entry opens one.
#[inline(never)]
pub fn choose<W: Witness>(
    witness: &W,
    job: &Job,
    service: &ServiceValue,
    current: u32,
    previous: u32,
) -> u64 {
    let mut stale = Occupant::NONE;
    if let Some(flow) = TRACKED_FLOWS.get_ptr_mut(job.key.key()) {
        // SAFETY: a map value's pointer is valid until the program returns; other CPUs write the same bits.
        let flow = unsafe { &mut *flow };
        if flow.service == service.index && is_good(job, flow) {
            if !job.is_about {
                note(job, flow);
            }
            return u64::from(flow.backend);
        }
        stale = Occupant::new(flow.backend, flow.incarnation);
    }
    if job.is_about {
        return u64::from(live(previous).map_or(current, |_| previous));
    }
    let is_moving = previous != slot_state::PLAIN && previous != slot_state::TRACKED;
    if !is_moving && service.flags & service_flags::TRACK_ALWAYS == 0 {
        forget(witness, job, service, current, stale);
        return u64::from(current);
    }
    let before = if is_moving { live(previous) } else { None };
    open(witness, job, service, (current, previous, before), stale)
}

/// Removes an entry that didn't win, in whose place none is needed.
#[inline(always)]
fn forget<W: Witness>(witness: &W, job: &Job, service: &ServiceValue, current: u32, stale: Occupant) {
    if stale == Occupant::NONE {
        return;
    }
    // An error means that somebody else removed it.
    let _ = TRACKED_FLOWS.remove(job.key.key());
    if let Some(backend) = live(current) {
        let backends = Backends::after(Occupant::new(current, backend.incarnation), stale);
        if backends.are_two() {
            tell(witness, job, service, backends);
        }
    }
}

/// What a slot says: its backend, the one before it, and this one if the slot is moving and it lives.
type Slot = (u32, u32, Option<&'static BackendValue>);

/// Chooses a backend for a flow that is to be stored, and stores it.
#[inline(always)]
fn open<W: Witness>(
    witness: &W,
    job: &Job,
    service: &ServiceValue,
    (current, previous, before): Slot,
    stale: Occupant,
) -> u64 {
    let has_affinity = service.flags & service_flags::AFFINITY != 0;
    let opens = job.opens || has_affinity && job.key.protocol() == protocol::UDP;
    let unstored = match before {
        Some(_) if !opens => previous,
        _ => current,
    };
    let mut chosen = unstored;
    if has_affinity && opens {
        let found = affinity::find(&job.key, service);
        if found != NO_BACKEND {
            chosen = found;
        }
    }
    let Some(backend) = BACKENDS.get(chosen) else {
        return u64::from(chosen);
    };
    let flow = TrackedFlow {
        backend: chosen,
        incarnation: backend.incarnation,
        service: service.index,
        seen: state(job),
        last_seen: flow::now(),
    };
    // A flow in another's place makes the table no fuller, and that one's entry would decide its next packets.
    let is_limited = stale == Occupant::NONE && !budget::take();
    if !is_limited
        && TRACKED_FLOWS
            .insert(job.key.key(), &flow, u64::from(BPF_ANY))
            .is_ok()
    {
        // Of a dead one the packet's drop is told.
        if backend.flags & backend_flags::DEAD == 0 {
            let backends = Backends::after(Occupant::new(chosen, backend.incarnation), stale);
            tell(witness, job, service, backends);
            if has_affinity && opens {
                affinity::store(&job.key, service, chosen, backend.incarnation);
            }
        }
        return u64::from(chosen);
    }
    report::count_untracked(service.index);
    // Without an entry the flow's next packets go to the backend before: so must this one, if it may. Datagrams of a service with
    // affinity would follow the source's backend of that time.
    let dropped = if is_limited { LIMITED } else { FULL };
    match before {
        _ if opens && !job.opens => dropped,
        Some(backend) if opens && backend.flags & backend_flags::DRAINING == 0 => u64::from(previous),
        Some(_) if opens => dropped,
        _ => u64::from(unstored),
    }
}

/// Tells whose flow this is from here on.
#[inline(always)]
fn tell<W: Witness>(witness: &W, job: &Job, service: &ServiceValue, backends: Backends) {
    let what = What::stored(service.index, backends);
    witness.tell(Some(job.key.key()), what, backends);
}

/// A backend that lives.
#[inline(always)]
pub fn live(index: u32) -> Option<&'static BackendValue> {
    let backend = BACKENDS.get(index)?;
    (backend.incarnation != 0 && backend.flags & backend_flags::DEAD == 0).then_some(backend)
}

#[inline(always)]
fn is_good(job: &Job, flow: &TrackedFlow) -> bool {
    let Some(backend) = live(flow.backend) else {
        return false;
    };
    if backend.incarnation != flow.incarnation {
        return false;
    }
    if job.opens {
        // A SYN once more, or the same ports used anew.
        let is_draining = backend.flags & backend_flags::DRAINING != 0;
        return !flow.is_closing() && (!is_draining || flow.is_opening());
    }
    true
}

/// What a packet says of its flow.
#[inline(always)]
fn state(job: &Job) -> u32 {
    let mut bits = seen::PACKET;
    if !job.opens {
        bits |= seen::GOING;
    }
    if job.tcp_flags & tcp::FIN != 0 {
        bits |= seen::FIN;
    }
    if job.tcp_flags & tcp::RST != 0 {
        bits |= seen::RST;
    }
    u32::from(bits)
}

/// Notes that the connection which an entry was stored for goes on: what opens one from the same port is another one. One lookup; of
/// the packets of an established connection nobody asks that.
#[inline(never)]
pub fn note_handshake(job: &Job, service: &ServiceValue) -> u32 {
    let Some(flow) = TRACKED_FLOWS.get_ptr_mut(job.key.key()) else {
        return 0;
    };
    // SAFETY: as in `choose`.
    let flow = unsafe { &mut *flow };
    if flow.service == service.index && flow.backend == job.index {
        note(job, flow);
    }
    0
}

#[inline(always)]
fn note(job: &Job, flow: &mut TrackedFlow) {
    let now = flow::now();
    if now.wrapping_sub(flow.last_seen) > limits::LAST_SEEN_GRAIN_NS {
        flow.last_seen = now;
    }
    let bits = state(job);
    if bits & !flow.seen != 0 {
        flow.seen |= bits;
    }
}
