//! Ending flows: idle ones, and those whose backend is dead or gone.

use super::{KernelError, batch, ids::Ids, maps::Maps, tracking::Rules};
use proxy_common::{keys::FlowKey, net::Protocol, values::FlowValue};
use std::{collections::HashMap, os::fd::AsFd, time::Duration};

/// Entries read a system call: 4,096 of 104 bytes are 416 KiB of buffers.
pub(super) const CHUNK: usize = 4_096;

/// Ends flows; returns how many were ended and how many are left. Reads every entry once, and the
/// other direction of those that look idle.
pub(super) fn expire(
    maps: &mut Maps,
    ids: &Ids,
    rules: &HashMap<u32, Rules>,
) -> Result<(usize, usize), KernelError> {
    let now = now(maps);
    let living = ids.living();
    let mut entries = 0usize;
    let mut ended = Vec::new();
    let mut idle = Vec::new();
    let read = batch::for_each(
        maps.flows_data.fd().as_fd(),
        CHUNK,
        |key: &FlowKey, flow: &FlowValue| {
            entries += 1;
            if !living.contains(&(flow.backend, flow.incarnation)) {
                ended.push(*key);
            } else if is_idle(flow, rules, now) {
                idle.push((*key, *flow));
            }
        },
    );
    read.map_err(|error| KernelError::refused("reading the flow table", error))?;
    for (key, flow) in idle {
        // A flow with packets in one direction alone is alive.
        let peer = maps.flows.get(&flow.peer_key(), 0).ok();
        if peer.is_none_or(|peer| is_idle(&peer, rules, now)) {
            ended.push(key);
        }
    }
    for key in &ended {
        // Errors mean that a packet or the other direction's turn removed it.
        let _ = maps.flows.remove(key);
    }
    Ok((
        ended.len().div_ceil(2),
        entries.saturating_sub(ended.len()).div_ceil(2),
    ))
}

fn is_idle(flow: &FlowValue, rules: &HashMap<u32, Rules>, now: u64) -> bool {
    let Some(Rules { timeouts, .. }) = rules.get(&flow.service) else {
        return true;
    };
    let timeout = match Protocol::from_number(flow.protocol as u8) {
        Some(Protocol::Udp) => timeouts.udp,
        _ if flow.is_closing() => timeouts.tcp_closing,
        _ if flow.is_opening() => timeouts.tcp_opening,
        _ => timeouts.tcp,
    };
    Duration::from_nanos(now.saturating_sub(flow.last_seen)) > timeout
}

/// The clock of [`FlowValue::last_seen`]: `bpf_ktime_get_coarse_ns` is CLOCK_MONOTONIC_COARSE.
pub(super) fn now(maps: &Maps) -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let offset = maps
        .settings
        .get(&0, 0)
        .map_or(0, |settings| settings.clock_offset_ns);
    (time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64).wrapping_add(offset)
}
