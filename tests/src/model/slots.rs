//! Slots, and what becomes of their states with a change (ARCHITECTURE.md, "Just enough flow tracking").

use super::{Model, flows::slot_hash};
use proxy_common::{
    keys::FlowKey,
    values::{ServiceValue, SlotValue, service_flags, slot_state},
};
use std::net::IpAddr;

impl Model {
    /// The slot of a hash.
    pub fn slot(&self, service: &ServiceValue, hash: u64) -> Option<SlotValue> {
        let place = ((hash >> 32) * u64::from(service.table_size)) >> 32;
        self.slots.get(&service.index)?.get(place as usize).copied()
    }

    /// The slot that a tracked flow's key has in its service, and whether all its flows are stored.
    pub fn slot_of(&self, service: &ServiceValue, key: &FlowKey) -> Option<(SlotValue, bool)> {
        let source = (IpAddr::from(key.source), key.source_port);
        let destination = (IpAddr::from(key.destination), key.destination_port);
        let slot = self.slot(service, slot_hash(service, source, destination, key.protocol))?;
        Some((slot, service.flags & service_flags::TRACK_ALWAYS != 0))
    }
}

/// What a slot is after a change that gives it to `wanted`. `lives`: whether a backend is neither dead nor gone.
pub fn slot_after(before: SlotValue, wanted: u32, lives: impl Fn(u32) -> bool) -> SlotValue {
    let moves = wanted != before.backend && lives(before.backend);
    let state = match before.previous {
        slot_state::PLAIN if moves => before.backend,
        slot_state::PLAIN => slot_state::PLAIN,
        slot_state::TRACKED if moves => before.backend,
        slot_state::TRACKED => slot_state::TRACKED,
        first if lives(first) => first,
        _ if moves => before.backend,
        _ => slot_state::TRACKED,
    };
    SlotValue {
        backend: wanted,
        previous: state,
    }
}
