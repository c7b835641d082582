//! Next hops from the kernel's own routing table.

use crate::{
    packet::Packet,
    parse::Headers,
    words::{holds_ipv4, last_word, words},
};
use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
    },
    helpers::generated::bpf_fib_lookup,
};
use proxy_common::{net::Address, verdict::DropReason};

/// Address families of the kernel's UAPI.
pub const AF_INET: u8 = 2;
pub const AF_INET6: u8 = 10;

/// Where a translated packet goes.
#[derive(Clone, Copy)]
pub enum Reach {
    /// Up the stack of this host.
    Host,
    /// To a neighbour whose MAC address is in the [`Hop`].
    Neighbour,
    /// To a neighbour that has to be resolved first.
    Unresolved,
}

/// A next hop: the kernel's answer, kept where it was put. As a value of its own, its MAC addresses
/// would be carried in registers, half of them undefined on paths that don't need them, which
/// the verifier refuses.
pub struct Hop(FibLookup);

impl Hop {
    /// Room for an answer.
    #[inline(always)]
    pub fn new() -> Self {
        // SAFETY: all-zero is a valid bpf_fib_lookup: integers and unions of integers.
        Self(unsafe { core::mem::zeroed() })
    }

    /// The MTU that a packet was too large for.
    #[inline(always)]
    pub fn mtu(&self) -> u32 {
        mtu(&self.0)
    }

    /// The interface to leave by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.0.ifindex
    }

    /// Writes the frame's MAC addresses.
    #[inline(always)]
    pub fn write_macs(&self, packet: &Packet) -> Option<()> {
        packet.write(0, self.0.dmac)?;
        packet.write(6, self.0.smac)
    }

    /// Looks up the way from `source` to `destination` for a packet that came in on `ifindex` and
    /// whose IP packet has `length` bytes; 0 leaves the MTU to the kernel, which knows of packets
    /// that are segmented later. One `bpf_fib_lookup`.
    ///
    /// # Errors
    /// No route, forwarding off, or the packet is too large for the route.
    #[inline(always)]
    pub fn find<C: EbpfContext>(
        &mut self,
        ctx: &C,
        headers: &Headers,
        source: &Address,
        destination: &Address,
        ifindex: u32,
        length: u16,
    ) -> Result<Reach, DropReason> {
        let fib = &mut self.0;
        fib.ifindex = ifindex;
        fib.__bindgen_anon_1.tot_len = length;
        fib.l4_protocol = headers.key.protocol;
        if headers.is_ipv4 {
            fib.family = AF_INET;
            fib.__bindgen_anon_3.ipv4_src = source.ipv4_word();
            fib.__bindgen_anon_4.ipv4_dst = destination.ipv4_word();
        } else {
            fib.family = AF_INET6;
            fib.__bindgen_anon_3.ipv6_src = source.words();
            fib.__bindgen_anon_4.ipv6_dst = destination.words();
        }
        match look_up(ctx.as_ptr(), fib, 0) {
            Ok(()) => Ok(Reach::Neighbour),
            Err(None) => Ok(Reach::Unresolved),
            Err(Some(reason)) => Err(reason),
        }
    }
}

/// A question about the way of a packet; the interface that it came by is the caller's to name.
#[inline(always)]
pub fn between(source: &Address, destination: &Address, protocol: u8) -> FibLookup {
    // SAFETY: all-zero is a valid bpf_fib_lookup: integers and unions of integers.
    let mut fib: FibLookup = unsafe { core::mem::zeroed() };
    fib.l4_protocol = protocol;
    if holds_ipv4(destination) {
        fib.family = AF_INET;
        fib.__bindgen_anon_3.ipv4_src = last_word(source);
        fib.__bindgen_anon_4.ipv4_dst = last_word(destination);
    } else {
        fib.family = AF_INET6;
        fib.__bindgen_anon_3.ipv6_src = words(source);
        fib.__bindgen_anon_4.ipv6_dst = words(destination);
    }
    fib
}

/// A question about the way to an address for a packet of this host's own: as if from the loopback interface, which is 1 in
/// every network namespace (LOOPBACK_IFINDEX of include/net/flow.h).
#[inline(always)]
pub fn own(destination: &Address) -> FibLookup {
    // SAFETY: all-zero is a valid bpf_fib_lookup: integers and unions of integers.
    let mut fib: FibLookup = unsafe { core::mem::zeroed() };
    fib.ifindex = 1;
    if holds_ipv4(destination) {
        fib.family = AF_INET;
        fib.__bindgen_anon_4.ipv4_dst = last_word(destination);
    } else {
        fib.family = AF_INET6;
        fib.__bindgen_anon_4.ipv6_dst = words(destination);
    }
    fib
}

/// Asks the kernel.
///
/// # Errors
/// None where the neighbour is unresolved, else why there is no way.
#[inline(always)]
pub fn look_up<C>(ctx: *mut C, fib: &mut FibLookup, flags: u32) -> Result<(), Option<DropReason>> {
    // SAFETY: the context is the program's own, the struct lives on the stack, the size is its.
    let result = unsafe { bpf_fib_lookup(ctx.cast(), fib, size_of::<FibLookup>() as i32, flags) };
    match result as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Ok(()),
        BPF_FIB_LKUP_RET_NO_NEIGH => Err(None),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Err(Some(DropReason::MtuExceeded)),
        BPF_FIB_LKUP_RET_FWD_DISABLED => Err(Some(DropReason::ForwardingDisabled)),
        _ => Err(Some(DropReason::NoRoute)),
    }
}

/// Whether the way leads to the address itself rather than to a gateway: the kernel puts a gateway's in its place.
#[inline(always)]
pub fn is_on_link(fib: &FibLookup, destination: &Address) -> bool {
    // SAFETY: a union of integers of which the whole was written.
    unsafe {
        if fib.family == AF_INET {
            fib.__bindgen_anon_4.ipv4_dst == last_word(destination)
        } else {
            fib.__bindgen_anon_4.ipv6_dst == words(destination)
        }
    }
}

/// Destination and source MAC addresses of an answer.
#[inline(always)]
pub fn write_macs(fib: &FibLookup, macs: &mut [u8; 12]) {
    let [destination, source] = [fib.dmac, fib.smac];
    let mut at = 0;
    while at < 6 {
        macs[at] = destination[at];
        macs[at + 6] = source[at];
        at += 1;
    }
}

/// The MTU of an answer to a question without a length.
#[inline(always)]
pub fn mtu(fib: &FibLookup) -> u32 {
    // SAFETY: a union of integers; a successful lookup writes this one (Linux 5.12).
    u32::from(unsafe { fib.__bindgen_anon_1.mtu_result })
}
