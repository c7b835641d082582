//! Counters, and the one way from a verdict to an action.

use crate::maps::{BACKEND_COUNTERS, DROP_COUNTERS, SERVICE_COUNTERS};
use aya_ebpf::bindings::{TC_ACT_PIPE, TC_ACT_SHOT, xdp_action};
use proxy_common::{
    counters::Counters,
    values::{FlowValue, flow_flags},
    verdict::{DropReason, Verdict},
};

/// The XDP action of a verdict; counts the drop. One lookup for a drop.
#[inline(always)]
pub fn xdp_action(verdict: Result<Verdict, DropReason>) -> u32 {
    match verdict {
        Ok(Verdict::Pass) => xdp_action::XDP_PASS,
        Ok(Verdict::Transmit) => xdp_action::XDP_TX,
        Ok(Verdict::Redirect) => xdp_action::XDP_REDIRECT,
        Err(reason) => {
            count_drop(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// The TC action of a verdict that may already be an action of a redirect helper.
#[inline(always)]
pub fn tc_action(verdict: Result<i32, DropReason>) -> i32 {
    match verdict {
        Ok(action) => action,
        Err(reason) => {
            count_drop(reason);
            TC_ACT_SHOT
        }
    }
}

/// TC's way of letting a packet go on, to the programs behind ours too: TC_ACT_OK would pass all of them over (TCX_PASS in
/// include/uapi/linux/bpf.h; codes that are unknown there, as this one, are TCX_NEXT). Not negative, as TCX_NEXT itself is.
pub const TC_PASS: i32 = TC_ACT_PIPE;

/// Counts a packet that is dropped, by its reason. One lookup.
#[inline(always)]
pub fn count_drop(reason: DropReason) {
    if let Some(counter) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own slot; a program isn't preempted by itself on a CPU.
        unsafe { *counter += 1 };
    }
}

/// Counts a packet of a flow that was forwarded. Two lookups in per-CPU arrays.
#[inline(always)]
pub fn count_forwarded(flow: &FlowValue, bytes: usize) {
    let is_reply = flow.flags & flow_flags::REPLY != 0;
    let add = |counters: &mut Counters| {
        if is_reply {
            counters.reply_packets += 1;
            counters.reply_bytes += bytes as u64;
        } else {
            counters.packets += 1;
            counters.bytes += bytes as u64;
        }
    };
    update(SERVICE_COUNTERS.get_ptr_mut(flow.service), add);
    update(BACKEND_COUNTERS.get_ptr_mut(flow.backend), add);
}

/// Counts a client's packet of a service without NAT. Two lookups in per-CPU arrays.
#[inline(always)]
pub fn count_client(service: u32, backend: u32, bytes: u32, opens: bool) {
    let add = |counters: &mut Counters| {
        counters.packets += 1;
        counters.bytes += u64::from(bytes);
        if opens {
            counters.flows += 1;
        }
    };
    update(SERVICE_COUNTERS.get_ptr_mut(service), add);
    update(BACKEND_COUNTERS.get_ptr_mut(backend), add);
}

/// Counts a flow that was opened.
#[inline(always)]
pub fn count_flow(service: u32, backend: u32) {
    let add = |counters: &mut Counters| counters.flows += 1;
    update(SERVICE_COUNTERS.get_ptr_mut(service), add);
    update(BACKEND_COUNTERS.get_ptr_mut(backend), add);
}

#[inline(always)]
fn update(counters: Option<*mut Counters>, change: impl Fn(&mut Counters)) {
    if let Some(counters) = counters {
        // SAFETY: this CPU's own slot; a program isn't preempted by itself on a CPU.
        change(unsafe { &mut *counters });
    }
}

/// Counts a packet whose flow should have been stored and could not. One lookup.
#[inline(always)]
pub fn count_untracked(service: u32) {
    update(SERVICE_COUNTERS.get_ptr_mut(service), |counters| {
        counters.untracked += 1
    });
}

/// Counts a client's packet that was dropped after its service was known.
#[inline(always)]
pub fn count_service_drop(service: u32) {
    update(SERVICE_COUNTERS.get_ptr_mut(service), |counters| {
        counters.drops += 1
    });
}
