//! The kernel plane as control sees it: perhaps absent, perhaps not yet where it should be.

use crate::{
    kernel::{KernelCounters, KernelError, KernelPlane, Steering},
    model::{BackendAddr, ListenAddr, Snapshot},
};
use proxy_common::net::Protocol;

/// The kernel plane, or why there is none.
pub struct Plane {
    kind: Kind,
    /// The generation that was last applied in full.
    generation: Option<u64>,
    /// An apply failed half-way: the maps hold parts of two generations.
    torn: bool,
}

enum Kind {
    Kernel(Box<KernelPlane>),
    Absent(String),
}

impl Plane {
    /// Forwards in the kernel.
    pub fn kernel(plane: KernelPlane) -> Self {
        Self {
            kind: Kind::Kernel(Box::new(plane)),
            generation: None,
            torn: false,
        }
    }

    /// Forwards nothing, for this reason.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Absent(reason.into()),
            generation: None,
            torn: false,
        }
    }

    /// Why there is no kernel plane.
    pub fn absence(&self) -> Option<&str> {
        match &self.kind {
            Kind::Kernel(_) => None,
            Kind::Absent(reason) => Some(reason),
        }
    }

    /// Where workers are registered; none without a kernel plane.
    pub fn steering(&mut self) -> Option<&mut Steering> {
        match &mut self.kind {
            Kind::Kernel(plane) => Some(plane.steering()),
            Kind::Absent(_) => None,
        }
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// What an earlier daemon left marked dead.
    pub(super) fn dead_backends(&self) -> Vec<(ListenAddr, Protocol, BackendAddr)> {
        match &self.kind {
            Kind::Kernel(plane) => plane.dead_backends(),
            Kind::Absent(_) => Vec::new(),
        }
    }

    /// Makes the maps equal to the snapshot; returns the number of map writes.
    pub(super) fn apply(&mut self, snapshot: &Snapshot) -> Result<usize, KernelError> {
        let Kind::Kernel(plane) = &mut self.kind else {
            return Ok(0);
        };
        self.torn = true;
        let writes = plane.apply(snapshot)?;
        self.torn = false;
        self.generation = Some(snapshot.generation);
        Ok(writes)
    }

    /// Ends idle flows and those of dead or removed backends: how many ended, how many are left.
    pub(super) fn expire_flows(&mut self) -> Result<(usize, usize), KernelError> {
        match &mut self.kind {
            Kind::Kernel(plane) => plane.expire_flows(),
            Kind::Absent(_) => Ok((0, 0)),
        }
    }

    pub(super) fn counters(&self) -> Result<Option<KernelCounters>, KernelError> {
        match &self.kind {
            Kind::Kernel(plane) => plane.counters().map(Some),
            Kind::Absent(_) => Ok(None),
        }
    }
}
