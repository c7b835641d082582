//! The sweep of `tracked_flows`, and of slots that needn't be moving or tracked any longer.
//!
//! Only here do slots become plainer: moving, then tracked, then plain. Nothing that a packet is decided by changes with
//! that: the entries that an easier state doesn't look at are those that it agrees with.

use super::{
    KernelError, batch, expire,
    ids::{Ids, LiveService},
    maps::Maps,
    slots,
    table::Memory,
};
use crate::model::{IdleTimeouts, Tracking};
use aya::maps::{MapData, MapError};
use proxy_common::{
    hash,
    keys::{FlowKey, ServiceKey},
    net::Protocol,
    values::{SlotValue, TrackedFlow, slot_state},
};
use std::{collections::HashMap, os::fd::AsFd, time::Duration};

/// What the sweep has to know of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// When its flows end.
    pub(super) timeouts: IdleTimeouts,
    /// Which of them are stored.
    pub(super) tracking: Tracking,
}

/// A service whose slots are not all plain, or whose flows are all stored.
struct Swept {
    table: MapData,
    slots: Vec<SlotValue>,
    /// Slots that a stored flow needs, since it has another backend: a bit each.
    needed: Vec<u64>,
    rules: Rules,
    flags: u32,
}

/// Ends tracked flows that are idle, whose backend is dead or gone, or that needn't be stored any longer; then makes slots
/// plainer. Returns how many flows were ended and how many are left. Reads every entry once, and those that end twice.
pub(super) fn sweep(
    maps: &mut Maps,
    ids: &mut Ids,
    rules: &HashMap<u32, Rules>,
) -> Result<(usize, usize), KernelError> {
    let now = expire::now(maps);
    let mut swept = HashMap::new();
    for live in ids.services.values() {
        if let (Some(_), Some(rules)) = (&live.moving, rules.get(&live.index)) {
            swept.insert(live.index, open(maps, live, *rules)?);
        }
    }
    let living = ids.living();
    let is_needed = |swept: &mut HashMap<u32, Swept>, key: &FlowKey, flow: &TrackedFlow| {
        let is_alive = living.contains(&(flow.backend, flow.incarnation));
        match swept.get_mut(&flow.service) {
            Some(service) => is_alive && !is_idle(key, flow, &service.rules, now) && service.note(key, flow),
            // Its service has plain slots alone, or is gone: nobody looks at it.
            None => false,
        }
    };
    let mut entries = 0usize;
    let mut ended = Vec::new();
    batch::for_each(
        maps.tracked_data.fd().as_fd(),
        expire::CHUNK,
        |key: &FlowKey, flow: &TrackedFlow| {
            entries += 1;
            if !is_needed(&mut swept, key, flow) {
                ended.push(*key);
            }
        },
    )
    .map_err(|error| KernelError::refused("reading tracked_flows", error))?;
    // Meanwhile a SYN from the same port may have stored another flow, which would go to the wrong backend without its entry.
    let mut removed = 0usize;
    for key in &ended {
        let (flows, data) = (&mut maps.tracked_flows, &maps.tracked_data);
        let is_over = |flow: &TrackedFlow| !is_needed(&mut swept, key, flow);
        removed += usize::from(expire::remove_if(flows, data, key, is_over, |_, _| true));
    }
    let keys: Vec<ServiceKey> = ids.services.keys().copied().collect();
    for key in keys {
        let Some(live) = ids.services.get_mut(&key) else {
            continue;
        };
        if let Some(service) = swept.remove(&live.index) {
            settle(maps, live, service, now)?;
        }
    }
    Ok((removed, entries.saturating_sub(removed)))
}

fn open(maps: &Maps, live: &LiveService, rules: Rules) -> Result<Swept, KernelError> {
    let table = maps
        .slots
        .get(&live.index, 0)
        .map_err(|error| KernelError::refused("opening a table", error))?;
    let slots = Memory::of(&table)?.read();
    Ok(Swept {
        table,
        needed: vec![0; slots.len().div_ceil(64)],
        slots,
        rules,
        flags: live.value.flags,
    })
}

impl Swept {
    /// Whether a flow has to stay stored; notes the slot it needs.
    fn note(&mut self, key: &FlowKey, flow: &TrackedFlow) -> bool {
        let index = hash::slot(hash::slot_hash(key, self.flags), self.slots.len() as u32) as usize;
        let slot = self.slots[index];
        let differs = slot.backend != flow.backend;
        if differs {
            self.needed[index / 64] |= 1 << (index % 64);
        }
        // While a slot is moving all its flows are stored, or those of the backend before could not be told from them.
        differs || slot.moving_from().is_some() || self.rules.tracking == Tracking::Always
    }
}

/// Moving slots become tracked after their time, tracked ones plain when no flow needs them.
fn settle(maps: &Maps, live: &mut LiveService, service: Swept, now: u64) -> Result<(), KernelError> {
    let Some(moving) = &mut live.moving else {
        return Ok(());
    };
    let protocol = Protocol::from_number(live.protocol).unwrap_or(Protocol::Tcp);
    let silence = slots::longest_silence(protocol, &service.rules.timeouts);
    let untracked = super::counters::untracked(maps, live.index)?;
    let began = moving.is_over(now, silence, untracked).then(|| moving.turn(now));
    let memory = Memory::of(&service.table)?;
    let mut is_plain = true;
    for (index, slot) in service.slots.iter().enumerate() {
        let is_moving = slot.moving_from().is_some();
        let state = match &began {
            Some(began) if is_moving && !slots::is_set(began, index) => slot_state::TRACKED,
            _ if slot.previous == slot_state::TRACKED && !slots::is_set(&service.needed, index) => {
                slot_state::PLAIN
            }
            _ => slot.previous,
        };
        if state != slot.previous {
            memory.set_state(index, state);
        }
        is_plain &= state == slot_state::PLAIN;
    }
    if is_plain && service.rules.tracking != Tracking::Always {
        live.moving = None;
    }
    Ok(())
}

fn is_idle(key: &FlowKey, flow: &TrackedFlow, rules: &Rules, now: u64) -> bool {
    let timeouts = &rules.timeouts;
    let timeout = match Protocol::from_number(key.protocol) {
        Some(Protocol::Udp) => timeouts.udp,
        _ if flow.is_closing() => timeouts.tcp_closing,
        _ if flow.is_opening() => timeouts.tcp_opening,
        _ => timeouts.tcp,
    };
    Duration::from_nanos(now.saturating_sub(flow.last_seen)) > timeout
}

/// The slots of a service's running table; none where it has no table.
pub(super) fn running(maps: &Maps, live: &LiveService) -> Result<Option<Vec<SlotValue>>, KernelError> {
    match maps.slots.get(&live.index, 0) {
        Ok(table) => Ok(Some(Memory::of(&table)?.read())),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(KernelError::refused("opening a table", error)),
    }
}
