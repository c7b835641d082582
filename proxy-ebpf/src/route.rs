//! Next hops from the kernel's own routing table.

use crate::parse::Headers;
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

/// Where a packet leaves, and by which MAC addresses if they are known.
pub struct NextHop {
    /// The interface to leave by.
    pub ifindex: u32,
    /// Destination and source MAC, the first 12 bytes of the frame; none while the neighbour is
    /// unresolved.
    pub macs: Option<[u8; 12]>,
}

/// Looks up the way from `source` to `destination` for a packet that came in on `ifindex`. One
/// `bpf_fib_lookup`.
///
/// # Errors
/// No route, forwarding off, or the packet is too large for the route.
#[inline(always)]
pub fn lookup<C: EbpfContext>(
    ctx: &C,
    headers: &Headers,
    source: &Address,
    destination: &Address,
    ifindex: u32,
) -> Result<NextHop, DropReason> {
    // SAFETY: all-zero is a valid bpf_fib_lookup: integers and unions of integers.
    let mut fib: FibLookup = unsafe { core::mem::zeroed() };
    fib.ifindex = ifindex;
    fib.__bindgen_anon_1.tot_len = headers.ip_length() as u16;
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
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut fib, size_of::<FibLookup>() as i32, 0) };
    match result as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {
            let [d0, d1, d2, d3, d4, d5] = fib.dmac;
            let [s0, s1, s2, s3, s4, s5] = fib.smac;
            Ok(NextHop {
                ifindex: fib.ifindex,
                macs: Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]),
            })
        }
        BPF_FIB_LKUP_RET_NO_NEIGH => Ok(NextHop {
            ifindex: fib.ifindex,
            macs: None,
        }),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Err(DropReason::MtuExceeded),
        BPF_FIB_LKUP_RET_FWD_DISABLED => Err(DropReason::ForwardingDisabled),
        _ => Err(DropReason::NoRoute),
    }
}
