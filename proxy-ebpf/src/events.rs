//! Events for `weir monitor`: rare things that happen to packets, told only while somebody listens.
//!
//! Forwarding a packet of a known flow never comes here. Records are written where they lie, in the ring: a function
//! here takes next to nothing of the 512 bytes of stack.

use crate::maps::{EVENT_LOSSES, EVENTS, SETTINGS};
use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{
        bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
    },
    programs::{TcContext, XdpContext},
};
use proxy_common::{
    events::{Event, EventKind, NO_SERVICE, SNAPSHOT, wanted},
    keys::FlowKey,
    values::NO_BACKEND,
    verdict::DropReason,
};

/// What happened, and to which service, in one word: it takes no stack on its way.
#[derive(Clone, Copy)]
pub struct What(u64);

impl What {
    #[inline(always)]
    fn new(kind: EventKind, reason: u32, service: u32) -> Self {
        Self(kind as u64 | u64::from(reason as u8) << 8 | u64::from(service) << 32)
    }

    /// A packet of a service was dropped.
    #[inline(always)]
    pub fn dropped(reason: DropReason, service: u32) -> Self {
        Self::new(EventKind::Dropped, reason as u32, service)
    }

    /// Its sender was told why.
    #[inline(always)]
    pub fn answered(reason: DropReason, service: u32) -> Self {
        Self::new(EventKind::Answered, reason as u32, service)
    }

    /// A flow has an entry.
    #[inline(always)]
    pub fn stored(service: u32, backends: Backends) -> Self {
        let kind = if backends.are_two() {
            EventKind::Moved
        } else {
            EventKind::Opened
        };
        Self::new(kind, 0, service)
    }
}

/// The packet's backend, and the one that its flow had before, in one word.
#[derive(Clone, Copy)]
pub struct Backends(u64);

impl Backends {
    /// Of a packet whose backend isn't known.
    pub const NONE: Self = Self(u64::MAX);

    /// A backend, or [`NO_BACKEND`].
    #[inline(always)]
    pub fn only(backend: u32) -> Self {
        Self(u64::from(backend) | u64::from(NO_BACKEND) << 32)
    }

    /// A backend, after another one: an index alone doesn't tell, since it may be used anew.
    #[inline(always)]
    pub fn after(backend: Occupant, previous: Occupant) -> Self {
        if backend == previous {
            return Self::only(backend.0 as u32);
        }
        Self(backend.0 & 0xffff_ffff | previous.0 << 32)
    }

    /// Whether there is one that the flow had before.
    #[inline(always)]
    pub fn are_two(self) -> bool {
        self.previous() != NO_BACKEND
    }

    #[inline(always)]
    fn previous(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A backend's index, and its incarnation in the high half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Occupant(u64);

impl Occupant {
    /// Nobody.
    pub const NONE: Self = Self(NO_BACKEND as u64);

    /// Who has the index.
    #[inline(always)]
    pub fn new(index: u32, incarnation: u32) -> Self {
        Self(u64::from(index) | u64::from(incarnation) << 32)
    }
}

/// A program's context that events can be told of.
pub trait Witness {
    /// Tells of a packet; its key is none where it wasn't read.
    fn tell(&self, key: Option<&FlowKey>, what: What, backends: Backends);

    /// Tells of a packet that is dropped before its service is known.
    #[inline(always)]
    fn tell_unread(&self, reason: DropReason) {
        self.tell(None, What::dropped(reason, NO_SERVICE), Backends::NONE);
    }
}

impl Witness for XdpContext {
    #[inline(always)]
    fn tell(&self, key: Option<&FlowKey>, what: What, backends: Backends) {
        tell_xdp(self.ctx, key, what, backends);
    }
}

impl Witness for TcContext {
    #[inline(always)]
    fn tell(&self, key: Option<&FlowKey>, what: What, backends: Backends) {
        tell_skb(self.skb.skb, key, what, backends);
    }
}

/// Tells of a frame that arrived. One lookup while nobody listens.
#[inline(never)]
pub fn tell_xdp(ctx: *mut xdp_md, key: Option<&FlowKey>, what: What, backends: Backends) -> u32 {
    if !is_wanted() {
        return 0;
    }
    // SAFETY: helpers and a field of the program's own context.
    let (ifindex, length) = unsafe { ((*ctx).ingress_ifindex, bpf_xdp_get_buff_len(ctx) as u32) };
    write(key, what, backends, ifindex, length, |frame, captured| {
        // SAFETY: the helper writes `captured` bytes, which the record has room for.
        unsafe { bpf_xdp_load_bytes(ctx, 0, frame.cast(), captured) == 0 }
    })
}

/// Tells of a packet that this host sends. One lookup while nobody listens.
#[inline(never)]
fn tell_skb(skb: *mut __sk_buff, key: Option<&FlowKey>, what: What, backends: Backends) -> u32 {
    if !is_wanted() {
        return 0;
    }
    // SAFETY: fields of the program's own context.
    let (ifindex, length) = unsafe { ((*skb).ifindex, (*skb).len) };
    write(key, what, backends, ifindex, length, |frame, captured| {
        // SAFETY: as in `tell_xdp`.
        unsafe { bpf_skb_load_bytes(skb.cast(), 0, frame.cast(), captured) == 0 }
    })
}

/// Whether somebody listens, and this event is one of those to be told.
#[inline(always)]
fn is_wanted() -> bool {
    let Some(settings) = SETTINGS.get(0) else {
        return false;
    };
    let flags = settings.flags;
    if flags & wanted::EVENTS == 0 {
        return false;
    }
    let rate = (flags >> wanted::RATE_SHIFT) as u32;
    // At random: a counter would see one kind alone where two take turns.
    // SAFETY: a helper without arguments.
    rate <= 1 || unsafe { bpf_get_prandom_u32() } % rate == 0
}

/// Writes a record.
#[inline(always)]
fn write(
    key: Option<&FlowKey>,
    what: What,
    backends: Backends,
    ifindex: u32,
    length: u32,
    load: impl FnOnce(*mut u8, u32) -> bool,
) -> u32 {
    let Some(mut record) = EVENTS.reserve(0) else {
        if let Some(losses) = EVENT_LOSSES.get_ptr_mut(0) {
            // SAFETY: this CPU's own slot; a program isn't preempted by itself on a CPU.
            unsafe { *losses += 1 };
        }
        return 0;
    };
    let event: *mut Event = record.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and has room for an event.
    unsafe {
        (*event).time = bpf_ktime_get_ns();
        // By words: of byte arrays LLVM makes single-byte loads and stores.
        let words = (&raw mut (*event).key).cast::<[u32; 10]>();
        match key {
            Some(key) => *words = *(&raw const *key).cast::<[u32; 10]>(),
            None => *words = [0; 10],
        }
        (*event).service = (what.0 >> 32) as u32;
        (*event).backend = backends.0 as u32;
        (*event).previous = backends.previous();
        (*event).ifindex = ifindex;
        (*event).length = length;
        (*event).kind = what.0 as u8;
        (*event).reason = (what.0 >> 8) as u8;
        let captured = length.min(SNAPSHOT as u32);
        // The verifier wants to see that there is something to load.
        let is_loaded = captured > 0 && load((&raw mut (*event).frame).cast(), captured);
        (*event).captured = if is_loaded { captured as u16 } else { 0 };
    }
    record.submit(0);
    1
}
