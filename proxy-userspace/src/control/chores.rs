//! What control does from time to time, whatever it is told.

use super::{Core, memory};
use crate::{discovery::Discovery, health::Checks};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior, interval},
};

/// Idle timeouts are whole seconds and minutes by default: flows end at most this much late.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// When each is due.
pub(super) struct Chores {
    sweeps: Interval,
    looks: Interval,
    worker_gone: Arc<Notify>,
}

/// What is due.
pub(super) enum Chore {
    /// A look at everything.
    Sweep,
    /// A look at memory.
    Memory,
    /// A worker's thread has ended.
    Workers,
}

impl Chores {
    /// The first sweep is due at once.
    pub(super) fn new(core: &Core) -> Self {
        let every = |time| {
            let mut ticks = interval(time);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        Self {
            sweeps: every(SWEEP_INTERVAL),
            looks: every(memory::LOOK),
            worker_gone: core.plane.l7().gone(),
        }
    }

    /// Waits until one is due; nothing is lost when it is dropped.
    pub(super) async fn next(&mut self, guards_memory: bool) -> Chore {
        tokio::select! {
            _ = self.sweeps.tick() => Chore::Sweep,
            _ = self.looks.tick(), if guards_memory => Chore::Memory,
            () = self.worker_gone.notified() => Chore::Workers,
        }
    }
}

impl Chore {
    pub(super) fn run(&self, core: &mut Core, checks: &mut Checks, discovery: &mut Discovery) {
        match self {
            Self::Sweep => {
                core.sweep();
                checks.revive();
                discovery.revive();
            }
            Self::Memory => core.look_at_memory(),
            Self::Workers => core.plane.replace_workers(),
        }
    }
}
