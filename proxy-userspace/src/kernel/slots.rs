//! The states of a service's slots through changes of its backends: ARCHITECTURE.md, "Just enough flow tracking".

use crate::model::{IdleTimeouts, Tracking};
use proxy_common::{
    net::Protocol,
    values::{NO_BACKEND, SlotValue, slot_state},
};
use std::time::Duration;

/// What becomes of as many slots when the table gives them to `wanted` (backend indices by slot). `lives`: whether a backend of
/// before is neither dead nor gone.
pub(super) fn moved(old: &[SlotValue], wanted: &[u32], lives: impl Fn(u32) -> bool) -> Vec<SlotValue> {
    let slots = old.iter().zip(wanted);
    slots
        .map(|(slot, &wanted)| moved_slot(*slot, wanted, &lives))
        .collect()
}

fn moved_slot(slot: SlotValue, wanted: u32, lives: &impl Fn(u32) -> bool) -> SlotValue {
    let previous = match slot.moving_from() {
        // Moving already: flows that have no entry by now are those of the backend it moved from first.
        Some(first) if lives(first) => first,
        // Nobody is left that flows without an entry could be of but the slot's backend: all others are stored.
        state if state.is_some() || slot.previous == slot_state::TRACKED => {
            if slot.backend != wanted && slot.backend != NO_BACKEND && lives(slot.backend) {
                slot.backend
            } else {
                slot_state::TRACKED
            }
        }
        _ if slot.backend != wanted && slot.backend != NO_BACKEND && lives(slot.backend) => slot.backend,
        _ => slot_state::PLAIN,
    };
    SlotValue {
        backend: wanted,
        previous,
    }
}

/// How long a flow of the service may be silent: what a moving slot waits for.
pub(super) fn longest_silence(protocol: Protocol, timeouts: &IdleTimeouts) -> Duration {
    match protocol {
        Protocol::Tcp => timeouts.tcp,
        Protocol::Udp => timeouts.udp,
    }
}

/// Whether a service's slots have states other than plain at all.
pub(super) fn has_states(tracking: Tracking) -> bool {
    tracking != Tracking::Never
}

/// Which of a service's moving slots have been so for a whole idle timeout. Time is cut into spans of one timeout: slots
/// that began to move in one span are moving until the end of the next, so a bit a slot is enough to know.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    /// Slots that began to move in this span, a bit each.
    recent: Vec<u64>,
    /// Begin of this span, on the programs' clock.
    since: u64,
    /// `Counters::untracked` of the service at that time.
    untracked: u64,
}

impl Moving {
    /// No slot is moving.
    pub(super) fn new(size: usize, now: u64) -> Self {
        Self {
            recent: vec![0; size.div_ceil(64)],
            since: now,
            untracked: 0,
        }
    }

    /// Notes slots that are moving now and were not before. None: what was before isn't known, as after a restart.
    pub(super) fn note(&mut self, old: Option<&[SlotValue]>, new: &[SlotValue]) {
        for (index, slot) in new.iter().enumerate() {
            let was = old.is_some_and(|old| old[index].moving_from().is_some());
            if slot.moving_from().is_some() && !was {
                self.recent[index / 64] |= 1 << (index % 64);
            }
        }
    }

    /// Whether a span has passed. If flows could not be stored in it, it is prolonged: while their slot is moving they find
    /// their backend all the same.
    pub(super) fn is_over(&mut self, now: u64, longest_silence: Duration, untracked: u64) -> bool {
        let is_over = Duration::from_nanos(now.saturating_sub(self.since)) > longest_silence;
        if is_over && untracked != self.untracked {
            self.untracked = untracked;
            self.since = now;
            return false;
        }
        is_over
    }

    /// Begins the next span; returns the slots that began to move in the one that ends, a bit each: all others that are
    /// moving have been for a whole timeout.
    pub(super) fn turn(&mut self, now: u64) -> Vec<u64> {
        self.since = now;
        let empty = vec![0; self.recent.len()];
        std::mem::replace(&mut self.recent, empty)
    }
}

/// Whether a bit of [`Moving::turn`]'s answer is set.
pub(super) fn is_set(bits: &[u64], index: usize) -> bool {
    bits[index / 64] >> (index % 64) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(backend: u32, previous: u32) -> SlotValue {
        SlotValue { backend, previous }
    }

    const PLAIN: u32 = slot_state::PLAIN;
    const TRACKED: u32 = slot_state::TRACKED;

    #[test]
    fn a_slot_keeps_what_flows_without_an_entry_need() {
        // Backends from 10 on are dead or gone.
        let cases = [
            ("nothing changes", slot(1, PLAIN), 1, slot(1, PLAIN)),
            ("it moves", slot(1, PLAIN), 2, slot(2, 1)),
            ("its backend died", slot(10, PLAIN), 2, slot(2, PLAIN)),
            ("its first backend", slot(NO_BACKEND, PLAIN), 2, slot(2, PLAIN)),
            ("nobody is left", slot(1, PLAIN), NO_BACKEND, slot(NO_BACKEND, 1)),
            ("it moves on", slot(2, 1), 3, slot(3, 1)),
            ("it moves back", slot(2, 1), 1, slot(1, 1)),
            ("moving, it stays", slot(2, 1), 2, slot(2, 1)),
            ("the one before died", slot(2, 10), 2, slot(2, TRACKED)),
            ("the one before died as it moves on", slot(2, 10), 3, slot(3, 2)),
            ("both died", slot(11, 10), 3, slot(3, TRACKED)),
            ("the present one died while moving", slot(10, 1), 3, slot(3, 1)),
            ("tracked, it stays", slot(2, TRACKED), 2, slot(2, TRACKED)),
            ("tracked, it moves", slot(2, TRACKED), 3, slot(3, 2)),
            (
                "tracked, its backend died",
                slot(10, TRACKED),
                3,
                slot(3, TRACKED),
            ),
        ];
        for (name, before, wanted, after) in cases {
            let moved = moved(&[before], &[wanted], |backend| backend < 10);
            assert_eq!(moved, [after], "{name}");
        }
    }

    #[test]
    fn a_slot_is_moving_for_one_to_two_timeouts() {
        let timeout = Duration::from_nanos(100);
        let mut moving = Moving::new(100, 0);
        let old = vec![slot(1, PLAIN); 100];
        let mut new = old.clone();
        new[70] = slot(2, 1);
        moving.note(Some(&old), &new);
        assert!(!moving.is_over(100, timeout, 0));
        assert!(moving.is_over(101, timeout, 0));
        assert!(is_set(&moving.turn(101), 70), "it began in this span");
        let mut newer = new.clone();
        newer[3] = slot(2, 1);
        moving.note(Some(&new), &newer);
        assert!(moving.is_over(202, timeout, 0));
        let began = moving.turn(202);
        assert!(!is_set(&began, 70) && is_set(&began, 3));
        // Flows that could not be stored prolong a span.
        assert!(!moving.is_over(400, timeout, 7));
        assert!(!moving.is_over(450, timeout, 7));
        assert!(moving.is_over(501, timeout, 7));
    }
}
