//! File descriptors that are kept back, so that the admin API answers when the process has no other left.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{Arc, Mutex, PoisonError},
};

/// Clients that can be served when no other descriptor is left.
const SPARE: usize = 4;

/// What takes their numbers meanwhile: the listening socket once more.
#[derive(Clone)]
pub(super) struct Spare {
    kept: Arc<Mutex<Vec<OwnedFd>>>,
    listener: Arc<UnixListener>,
}

impl Spare {
    pub(super) fn new(listener: UnixListener) -> Self {
        let spare = Self {
            kept: Arc::default(),
            listener: Arc::new(listener),
        };
        spare.refill();
        spare
    }

    /// Gives one descriptor back to the process; whether there was one.
    pub(super) fn release(&self) -> bool {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .is_some()
    }

    /// Keeps as many as there are to be, if they are to be had. At once when a client has gone: workers, which look ten times a second
    /// for a descriptor while they have none, would take its own.
    pub(super) fn refill(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() < SPARE
            && let Ok(another) = self.listener.try_clone()
        {
            kept.push(another.into());
        }
    }
}
