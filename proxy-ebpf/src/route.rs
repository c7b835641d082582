//! Next hops from the kernel's own routing table.

use crate::{packet::Packet, parse::Headers};
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
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

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
        // SAFETY: the context is the program's own, the struct lives on the stack, the size is its.
        let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), fib, size_of::<FibLookup>() as i32, 0) };
        match result as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => Ok(Reach::Neighbour),
            BPF_FIB_LKUP_RET_NO_NEIGH => Ok(Reach::Unresolved),
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Err(DropReason::MtuExceeded),
            BPF_FIB_LKUP_RET_FWD_DISABLED => Err(DropReason::ForwardingDisabled),
            _ => Err(DropReason::NoRoute),
        }
    }
}
