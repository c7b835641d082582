//! The kernel plane: loads the programs, adopts what is pinned, and keeps the maps equal to a Snapshot.

mod counters;
mod error;

pub use counters::{AttachedInterface, BackendCounters, KernelCounters, ServiceCounters};
pub use error::KernelError;

use crate::model::{DaemonSettings, Snapshot};
use std::path::Path;

/// The loaded and attached programs and their maps.
pub struct KernelPlane {}

impl KernelPlane {
    /// Loads the programs, adopts maps and links under the pin path or makes them, attaches.
    ///
    /// # Errors
    /// One line that says what is missing (privilege, bpffs, kernel feature, interface) and the remedy.
    pub fn open(_settings: &DaemonSettings) -> Result<Self, KernelError> {
        Ok(Self {})
    }

    /// Makes the maps equal to the snapshot, all or nothing per service; returns how many map
    /// writes it took. Nothing is flushed: what is already right is left alone. After an error the
    /// services not yet reached run as before.
    ///
    /// # Errors
    /// A map is full, or the kernel refused a write.
    pub fn apply(&mut self, _snapshot: &Snapshot) -> Result<usize, KernelError> {
        Ok(0)
    }

    /// Ends flows whose idle timeout has passed, and those of dead or removed backends.
    /// Returns how many flows were ended and how many are left.
    ///
    /// # Errors
    /// The kernel refused a read or a delete.
    pub fn expire_flows(&mut self) -> Result<(usize, usize), KernelError> {
        Ok((0, 0))
    }

    /// All counters, summed over CPUs.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn counters(&self) -> Result<KernelCounters, KernelError> {
        Ok(KernelCounters::default())
    }

    /// Removes every pinned map and link under the path, which detaches the programs. Returns the
    /// names of what was removed; an absent directory is no error.
    ///
    /// # Errors
    /// No permission, or the directory holds something that is not ours.
    pub fn unload(_pin_path: &Path) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }
}
