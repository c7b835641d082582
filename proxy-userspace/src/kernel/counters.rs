//! Counters of the kernel plane as read: summed over CPUs, named by what they count.

use crate::model::{BackendAddr, ListenAddr};
use proxy_common::{counters::Counters, net::Protocol, verdict::DropReason};

/// A reading of all counters.
#[derive(Clone, Default, Debug)]
pub struct KernelCounters {
    /// One per service in the maps.
    pub services: Vec<ServiceCounters>,
    /// Drops by reason, in the order of [`DropReason::ALL`].
    pub drops: Vec<(DropReason, u64)>,
    /// Flows in the table at the last sweep.
    pub flows: usize,
    /// What the programs are attached to.
    pub interfaces: Vec<AttachedInterface>,
}

/// A service's counters, and its backends'.
#[derive(Clone, Debug)]
pub struct ServiceCounters {
    /// VIP and port.
    pub address: ListenAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Sums over its backends since the service was made.
    pub counters: Counters,
    /// One per backend in the maps.
    pub backends: Vec<BackendCounters>,
}

/// A backend's counters.
#[derive(Clone, Debug)]
pub struct BackendCounters {
    /// Where it listens.
    pub address: BackendAddr,
    /// Since it was added to the service.
    pub counters: Counters,
}

/// An interface with our programs.
#[derive(Clone, Debug)]
pub struct AttachedInterface {
    /// Name at the time of attaching.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// `native`, `generic` or `off`.
    pub xdp: &'static str,
    /// Why it is generic, when native was wanted.
    pub warning: Option<String>,
}
