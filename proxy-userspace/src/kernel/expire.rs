//! Ending flows: idle ones, and those whose backend is dead or gone.

use super::{KernelError, batch, ids::Ids, maps::Maps, tracking::Rules};
use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use proxy_common::{keys::FlowKey, net::Protocol, values::FlowValue};
use std::{collections, os::fd::AsFd, time::Duration};

/// Of include/uapi/linux/bpf.h: no entry of this key may be there.
const BPF_NOEXIST: u64 = 1;

/// Entries read a system call: 4,096 of 104 bytes are 416 KiB of buffers.
pub(super) const CHUNK: usize = 4_096;

/// Ends flows; returns how many were ended and how many are left. Reads every entry once, and those that look over again, with their other
/// direction.
pub(super) fn expire(
    maps: &mut Maps,
    ids: &Ids,
    rules: &collections::HashMap<u32, Rules>,
) -> Result<(usize, usize), KernelError> {
    let now = now(maps);
    let living = ids.living();
    let is_lost = |flow: &FlowValue| !living.contains(&(flow.backend, flow.incarnation));
    let may_end = |flow: &FlowValue| is_lost(flow) || is_idle(flow, rules, now);
    let mut entries = 0usize;
    let mut over = Vec::new();
    let read = batch::for_each(
        maps.flows_data.fd().as_fd(),
        CHUNK,
        |key: &FlowKey, flow: &FlowValue| {
            entries += 1;
            if may_end(flow) {
                over.push(*key);
            }
        },
    );
    read.map_err(|error| KernelError::refused("reading the flow table", error))?;
    let mut ended = 0usize;
    for key in &over {
        let removed = remove_if(&mut maps.flows, &maps.flows_data, key, may_end, |flows, flow| {
            // A flow with packets in one direction alone is alive.
            let peer = || flows.get(&flow.peer_key(), 0);
            is_lost(flow) || peer().map_or(true, |peer| may_end(&peer))
        });
        ended += usize::from(removed);
    }
    Ok((ended.div_ceil(2), entries.saturating_sub(ended).div_ceil(2)))
}

/// Removes an entry that is over, and leaves what has come in its place since it was read. Returns whether it did.
///
/// A client uses a port again as soon as TIME_WAIT allows, which is when `tcp_closing` has passed too: both take a minute. It is looked at once more
/// just before, and what the kernel has removed decides: a flow that a packet opened in between is put back.
pub(super) fn remove_if<V: Pod>(
    map: &mut HashMap<MapData, FlowKey, V>,
    data: &MapData,
    key: &FlowKey,
    mut is_over: impl FnMut(&V) -> bool,
    is_over_still: impl FnOnce(&HashMap<MapData, FlowKey, V>, &V) -> bool,
) -> bool {
    // No entry means that a packet, or the other direction's turn, removed it.
    let Ok(seen) = map.get(key, 0) else {
        return false;
    };
    if !is_over(&seen) || !is_over_still(map, &seen) {
        return false;
    }
    match batch::take(data.fd().as_fd(), key) {
        Ok(Some(taken)) if is_over(&taken) => true,
        Ok(Some(taken)) => {
            // Where it can't be, another packet has opened one again.
            let _ = map.insert(key, taken, BPF_NOEXIST);
            false
        }
        Ok(None) | Err(_) => false,
    }
}

fn is_idle(flow: &FlowValue, rules: &collections::HashMap<u32, Rules>, now: u64) -> bool {
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
