//! What schedules reached, as it is printed.

use proxy_common::values::{SlotValue, slot_state};
use std::{collections::BTreeMap, fmt, time::Duration};

/// What was reached.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Schedules run: one is the life of one service.
    pub schedules: u64,
    /// Packets run.
    pub packets: u64,
    /// Time of the whole run.
    pub elapsed: Duration,
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Everything that schedules are made to reach.
    pub const KINDS: &[&str] = &[
        "change: backend added",
        "change: backend removed",
        "change: drain",
        "change: undrain",
        "change: weight 0",
        "change: weight",
        "change: dead",
        "change: revived",
        "change: undone",
        "change: service removed",
        "change: service added",
        "change: while slots are moving",
        "drop: flow_table_full",
        "drop: flow_limit",
        "drop: no_backend",
        "flow: SYN",
        "flow: SYN once more",
        "flow: SYN after FIN or RST",
        "flow: SYN of an established one",
        "flow: SYN kept from a draining backend",
        "flow: opened by affinity",
        "flow: handshake ended",
        "flow: data",
        "flow: FIN",
        "flow: RST",
        "flow: UDP",
        "flow: lost its backend",
        "flow: not stored, the table is full",
        "flow: not stored, too many came",
        "held: to its backend",
        "held: not the slot's backend",
        "held: half open, not the slot's backend",
        "held: UDP, not the slot's backend",
        "held: not the slot's backend, which is tracked",
        "held: not the slot's backend, the table is full",
        "held: closing",
        "held: after nearly its idle timeout",
        "held: by tracking: always",
        "held: hash by source",
        "held: hash by source and destination",
        "held: after a restart",
        "held: by connection ID",
        "held: by connection ID, from another port",
        "restart",
        "restart: with slots that aren't plain",
        "restart: with a change",
        "service: dsr-l2",
        "service: QUIC",
        "service: gue",
        "service: ipip",
        "service: IPv4",
        "service: IPv6",
        "service: tunnel through the other family",
        "slot: moved",
        "slot: moved on",
        "slot: moved back",
        "slot: moved again, was tracked",
        "slot: the one before died",
        "slot: tracked",
        "slot: plain again",
        "sweep",
        "sweep: ended flows",
    ];

    /// How often one of [`Self::KINDS`] was reached.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    /// Those of [`Self::KINDS`] that were not.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        Self::KINDS.iter().copied().filter(|kind| self.count(kind) == 0)
    }

    /// Counts what is one of [`Self::KINDS`].
    pub(super) fn note(&mut self, kind: &'static str) {
        debug_assert!(Self::KINDS.contains(&kind), "{kind}");
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Counts what became of a service's slots.
    pub(super) fn note_slots(&mut self, before: &[SlotValue], after: &[SlotValue]) {
        for (before, after) in before.iter().zip(after) {
            self.note_slot(*before, *after);
        }
    }

    fn note_slot(&mut self, before: SlotValue, after: SlotValue) {
        if before == after {
            return;
        }
        match (before.moving_from(), after.moving_from()) {
            (Some(first), Some(same)) if first == same && after.backend == first => {
                self.note("slot: moved back");
            }
            (Some(first), Some(same)) if first == same => self.note("slot: moved on"),
            (Some(_), _) if before.backend != after.backend => self.note("slot: the one before died"),
            // A change and a sweep both lead there: either way flows are still looked up.
            (Some(_), _) => self.note("slot: tracked"),
            (None, Some(_)) if before.previous == slot_state::TRACKED => {
                self.note("slot: moved again, was tracked");
            }
            (None, Some(_)) => self.note("slot: moved"),
            (None, None) if before.previous != after.previous => self.note("slot: plain again"),
            (None, None) => {}
        }
    }

    /// Adds another thread's part.
    pub(super) fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.packets += other.packets;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.schedules as f64 / seconds;
        writeln!(
            f,
            "{} schedules, {} packets in {seconds:.1} s: {rate:.0} schedules/s",
            self.schedules, self.packets
        )?;
        for kind in Self::KINDS {
            writeln!(f, "{:>12}  {kind}", self.count(kind))?;
        }
        Ok(())
    }
}
