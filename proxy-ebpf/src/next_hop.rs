//! The way to a backend, kept for a moment: a route lookup a packet would cost more than all else.

use crate::route;
use aya_ebpf::{bindings::BPF_FIB_LOOKUP_SKIP_NEIGH, cty::c_void, helpers::generated::bpf_jiffies64};
use proxy_common::{
    limits,
    values::{BackendValue, NextHop},
    verdict::DropReason,
};

/// What is known of the way.
#[derive(Clone, Copy)]
pub enum Way {
    /// All.
    Known,
    /// The interface and the MTU; the neighbour has to be resolved first.
    Unresolved,
}

/// Leaves the way to `backend` in `hop`, which is its element of `next_hops`. No lookup while what it holds is good.
///
/// # Errors
/// There is no way.
#[inline(always)]
pub fn way<C>(
    ctx: *mut C,
    hop: *mut NextHop,
    backend: &BackendValue,
    is_l2: bool,
) -> Result<Way, DropReason> {
    // SAFETY: a map value's pointer is valid until the program returns.
    let known = unsafe { &*hop };
    // SAFETY: a helper without arguments, which the verifier replaces by a load.
    let left = known.until.wrapping_sub(unsafe { bpf_jiffies64() as u32 });
    if left.wrapping_sub(1) < limits::NEXT_HOP_JIFFIES && known.incarnation == backend.incarnation {
        return Ok(Way::Known);
    }
    match find(ctx.cast(), hop, backend, is_l2) {
        KNOWN => Ok(Way::Known),
        UNRESOLVED => Ok(Way::Unresolved),
        code => Err(DropReason::from_code((code - DROP) as u32)),
    }
}

const KNOWN: u64 = 0;
const UNRESOLVED: u64 = 1;
const DROP: u64 = 16;

/// Asks the routing table as for a packet of this host's own, whatever interface the client's came by: the answer serves
/// all of them. One route lookup, two where the neighbour is unresolved.
#[inline(never)]
fn find(ctx: *mut c_void, hop: *mut NextHop, backend: &BackendValue, is_l2: bool) -> u64 {
    let mut fib = route::own(&backend.address);
    let mut code = KNOWN;
    let mut result = route::look_up(ctx, &mut fib, 0);
    if result == Err(None) {
        code = UNRESOLVED;
        fib = route::own(&backend.address);
        result = route::look_up(ctx, &mut fib, BPF_FIB_LOOKUP_SKIP_NEIGH);
    }
    match result {
        Err(Some(reason)) => return DROP + reason as u64,
        Err(None) => return DROP + DropReason::NoRoute as u64,
        Ok(()) => {}
    }
    // A frame with nothing but another MAC address can't be routed on.
    if is_l2 && !route::is_on_link(&fib, &backend.address) {
        return DROP + DropReason::NoRoute as u64;
    }
    // SAFETY: a map value's pointer is valid until the program returns. Others may write the same answer at the same time.
    let hop = unsafe { &mut *hop };
    hop.until = 0;
    route::write_macs(&fib, &mut hop.macs);
    hop.ifindex = fib.ifindex;
    hop.mtu = route::mtu(&fib);
    hop.incarnation = backend.incarnation;
    hop.arrived = 0;
    if code == KNOWN {
        // SAFETY: a helper without arguments.
        hop.until = unsafe { bpf_jiffies64() as u32 }.wrapping_add(limits::NEXT_HOP_JIFFIES);
    }
    code
}
