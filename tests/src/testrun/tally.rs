//! What a run of the fuzzer reached, as it is printed.

use crate::model::Decision;
use proxy_common::{decap::DecapOutcome, verdict::DropReason};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

/// What was reached.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Frames run.
    pub packets: u64,
    /// How often each verdict was reached; drops by reason.
    pub verdicts: BTreeMap<String, u64>,
    /// Later fragments that followed their first.
    pub followed: u64,
    /// Packets whose connection ID named their backend.
    pub named: u64,
    /// Changes applied.
    pub changes: u64,
    /// Flows ended.
    pub ended: u64,
    /// Time of the whole run.
    pub elapsed: Duration,
}

impl Tally {
    /// How often a drop reason was reached.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.verdicts
            .get(&label(Decision::Drop(reason)))
            .copied()
            .unwrap_or(0)
    }

    /// Counts what tunnels brought, as verdicts.
    pub(super) fn count_outcomes(&mut self, outcomes: &HashMap<DecapOutcome, u64>) {
        for (outcome, count) in outcomes {
            *self.verdicts.entry(tunnelled(*outcome)).or_default() += count;
        }
    }

    /// How many packets of tunnels had this outcome.
    pub fn outcomes(&self, outcome: DecapOutcome) -> u64 {
        self.verdicts.get(&tunnelled(outcome)).copied().unwrap_or(0)
    }

    /// Adds another thread's part.
    pub(super) fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.followed += other.followed;
        self.named += other.named;
        self.changes += other.changes;
        self.ended += other.ended;
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.packets as f64 / seconds;
        writeln!(
            f,
            "{} packets in {seconds:.1} s: {rate:.0} packets/s",
            self.packets
        )?;
        writeln!(
            f,
            "{} changes, {} flows ended, {} fragments followed their first, {} packets named their backend",
            self.changes, self.ended, self.followed, self.named
        )?;
        for (verdict, count) in &self.verdicts {
            writeln!(f, "{count:>12}  {verdict}")?;
        }
        Ok(())
    }
}

/// A row of what tunnels brought; among the verdicts these are passes.
fn tunnelled(outcome: DecapOutcome) -> String {
    format!("tunnels: {}", outcome.label())
}

/// A verdict's row.
pub(super) fn label(decision: Decision) -> String {
    match decision {
        Decision::Pass => "pass".to_owned(),
        Decision::HandOver(..) => "hand over".to_owned(),
        Decision::Transmit => "transmit".to_owned(),
        Decision::Redirect(_) => "redirect".to_owned(),
        Decision::Drop(reason) => format!("drop: {}", reason.label()),
    }
}
