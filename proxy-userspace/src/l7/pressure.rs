//! How short of memory the process is: control says it, workers act on it.

use std::sync::atomic::{AtomicU8, Ordering};

/// How short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Shortage {
    /// Not at all.
    #[default]
    None,
    /// What is idle is closed sooner.
    Near,
    /// New connections are closed.
    Full,
}

/// The word of control to the workers.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// From now on it is so.
    pub fn set(&self, shortage: Shortage) {
        self.0.store(shortage as u8, Ordering::Relaxed);
    }

    /// Whether what is idle is to be closed sooner.
    pub fn is_near(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Shortage::Near as u8
    }

    /// Whether new connections are to be closed.
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Shortage::Full as u8
    }
}
