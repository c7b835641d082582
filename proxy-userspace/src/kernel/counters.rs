//! Counters of the kernel plane as read: summed over CPUs, named by what they count.

use super::{KernelError, decap::Decap, encode, ids::Ids, maps::Maps, steer::Steering};
use crate::model::{BackendAddr, ListenAddr};
use aya::maps::{MapError, PerCpuValues};
use proxy_common::{
    counters::Counters, decap::DecapOutcome, net::Protocol, steer::SteerOutcome, verdict::DropReason,
};

/// A reading of all counters.
#[derive(Clone, Default, Debug)]
pub struct KernelCounters {
    /// One per service in the maps.
    pub services: Vec<ServiceCounters>,
    /// Drops by reason, in the order of [`DropReason::ALL`].
    pub drops: Vec<(DropReason, u64)>,
    /// Lookups for L7 addresses by outcome, in the order of [`SteerOutcome::ALL`]: about one a connection.
    pub steering: Vec<(SteerOutcome, u64)>,
    /// Packets that came through tunnels by outcome, in the order of [`DecapOutcome::ALL`].
    pub decap: Vec<(DecapOutcome, u64)>,
    /// NAT flows in the table at the last sweep.
    pub flows: usize,
    /// Flows in `tracked_flows` then.
    pub tracked_flows: usize,
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

/// A configured interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachedInterface {
    /// Its name.
    pub name: String,
    /// Its index; 0 while none of our programs is attached.
    pub ifindex: u32,
    /// `native`, `generic` or `off`; `absent` where there is no such interface, `refused` where ours can't be attached.
    pub xdp: &'static str,
    /// Why it is generic when native was wanted, absent or refused.
    pub warning: Option<String>,
}

/// Reads every counter: a system call a service, backend and drop reason.
pub(super) fn read(
    maps: &Maps,
    ids: &Ids,
    (steering, decap): (&Steering, &Decap),
    (flows, tracked_flows): (usize, usize),
    interfaces: &[AttachedInterface],
) -> Result<KernelCounters, KernelError> {
    let refused = |error: MapError| KernelError::refused("reading counters", error);
    let mut services = Vec::with_capacity(ids.services.len());
    for (key, live) in &ids.services {
        let (address, protocol) = encode::listener(key);
        let mut backends = Vec::with_capacity(live.backends.len());
        for (address, (id, _)) in &live.backends {
            let counters = sum(&maps.backend_counters.get(id, 0).map_err(refused)?);
            backends.push(BackendCounters {
                address: *address,
                counters,
            });
        }
        let counters = sum(&maps.service_counters.get(&live.index, 0).map_err(refused)?);
        services.push(ServiceCounters {
            address,
            protocol,
            counters,
            backends,
        });
    }
    services.sort_unstable_by_key(|service| (service.address, service.protocol));
    let mut drops = Vec::with_capacity(DropReason::COUNT);
    for &reason in DropReason::ALL {
        let values = maps.drop_counters.get(&(reason as u32), 0).map_err(refused)?;
        drops.push((reason, values.iter().copied().fold(0, u64::wrapping_add)));
    }
    Ok(KernelCounters {
        services,
        drops,
        steering: steering.outcomes()?,
        decap: decap.outcomes()?,
        flows,
        tracked_flows,
        interfaces: interfaces.to_vec(),
    })
}

/// Packets of a service whose flow could not be stored.
pub(super) fn untracked(maps: &Maps, index: u32) -> Result<u64, KernelError> {
    let values = maps.service_counters.get(&index, 0);
    let values = values.map_err(|error| KernelError::refused("reading counters", error))?;
    Ok(sum(&values).untracked)
}

fn sum(values: &PerCpuValues<Counters>) -> Counters {
    let mut total = Counters::default();
    values.iter().for_each(|value| total.add(value));
    total
}
