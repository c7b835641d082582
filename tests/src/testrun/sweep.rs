//! What the daemon's sweep may do to `tracked_flows` and to slots, and what it did.

use super::Bench;
use crate::model::Model;
use anyhow::{Result, ensure};
use proxy_common::{
    keys::FlowKey,
    values::{SlotValue, TrackedFlow, slot_state},
};
use std::{collections::HashMap, ops::RangeInclusive};

/// Takes what a sweep, which ran at `time`, did to `tracked_flows` and to slots over into the model, after checking that it may.
/// Returns how many flows it ended and how many are left.
///
/// # Errors
/// It ended a flow that is needed, left one that isn't, or made a slot what it must not be.
pub(super) fn adopt(bench: &Bench, model: &mut Model, time: RangeInclusive<u64>) -> Result<(usize, usize)> {
    let theirs = bench.maps.tracked_flows()?;
    let new = bench.model()?;
    check_ended(model, &theirs, &time)?;
    for (index, slots) in &new.slots {
        for (at, (old, new)) in model.slots[index].iter().zip(slots).enumerate() {
            ensure!(
                old.backend == new.backend && is_plainer(*old, *new),
                "slot {at} of service {index} went from {old:?} to {new:?}"
            );
        }
    }
    // No entry that a plain slot no longer looks at may say something else than the slot.
    for (key, entry) in &theirs {
        if let Some((slot, false)) = slot_of(&new, key, entry) {
            ensure!(
                slot.previous != slot_state::PLAIN,
                "plain, with an entry: {key:?} {entry:?} {slot:?}"
            );
        }
    }
    let left = theirs.len();
    let ended = model.tracked.len() - left;
    model.tracked.retain(|key, _| theirs.contains_key(key));
    model.slots = new.slots;
    Ok((ended, left))
}

/// Whether the right flows are left, if the sweep began and ended in this time.
fn check_ended(
    model: &Model,
    left: &HashMap<FlowKey, TrackedFlow>,
    time: &RangeInclusive<u64>,
) -> Result<()> {
    let (before, after) = (*time.start(), *time.end());
    for (key, entry) in &model.tracked {
        let slot = slot_of(model, key, entry);
        let is_ended = |now| model.is_tracked_ended(key, entry, now);
        let is_agreed = slot.is_none_or(|(slot, always)| {
            slot.previous == slot_state::PLAIN && !always
                || slot.moving_from().is_none() && !always && slot.backend == entry.backend
        });
        ensure!(
            left.contains_key(key) || is_ended(after) || is_agreed,
            "ended, and needed: {key:?} {entry:?} {slot:?} at {after}"
        );
        ensure!(
            !left.contains_key(key) || !is_ended(before),
            "idle, or without a backend, and not ended: {key:?} {entry:?} at {before}"
        );
    }
    Ok(())
}

/// The slot of a stored flow, and whether all flows of its service are stored; none if that is gone.
fn slot_of(model: &Model, key: &FlowKey, entry: &TrackedFlow) -> Option<(SlotValue, bool)> {
    let service = model
        .services
        .values()
        .find(|service| service.index == entry.service)?;
    model.slot_of(service, key)
}

fn is_plainer(old: SlotValue, new: SlotValue) -> bool {
    match (old.previous, new.previous) {
        (old, new) if old == new => true,
        (slot_state::TRACKED, slot_state::PLAIN) => true,
        (old, slot_state::TRACKED) => old != slot_state::PLAIN,
        _ => false,
    }
}
