//! Steering of L7 connections: which addresses are L7's, which sockets the workers have, and how busy they are.

mod link;
mod loads;
mod prefixes;
mod routes;
mod sockets;

pub(super) use link::attach;
pub use loads::{LoadMap, LoadWriter};
pub use routes::ROUTE_PROTOCOL;
pub(super) use routes::{Netlink, host_addresses};
pub use sockets::listening_sockets;

use super::{KernelError, Pins, maps};
use crate::model::l7::Listener;
use aya::maps::{LpmTrie, MapData, MapError, PerCpuArray, SockMap, lpm_trie::Key};
use prefixes::Prefixes;
use proxy_common::steer::{L7_SERVICES, L7Key, L7Service, SteerOutcome, WORKERS, worker_state};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

/// The maps of `sk_steer`, and the routes that bring connections to it.
pub struct Steering {
    services: LpmTrie<MapData, L7Key, L7Service>,
    workers: SockMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    loads: Arc<LoadMap>,
    /// What `services` holds.
    there: Prefixes,
}

impl Steering {
    /// Opens the pinned maps. Workers that a daemon before this one registered stay so: it may be handing over, and sockets of one
    /// that is gone have left the map by themselves.
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let loads = LoadMap::map(maps::data(pins, "worker_loads")?.fd().as_fd())?;
        let services: LpmTrie<_, L7Key, L7Service> = maps::open!(pins, "l7_services", LpmTrie);
        let there = read(&services)?;
        Ok(Self {
            services,
            workers: maps::open!(pins, "workers", SockMap),
            counters: maps::open!(pins, "steer_counters", PerCpuArray),
            loads: Arc::new(loads),
            there,
        })
    }

    /// Whether all listeners fit: to be asked before anything is written.
    pub(super) fn check(&self, listeners: &[Listener]) -> Result<(), KernelError> {
        let wanted = prefixes::of_listeners(listeners);
        // New ones are written before old ones are removed.
        let most = wanted.len() + self.there.keys().filter(|key| !wanted.contains_key(*key)).count();
        if most > L7_SERVICES as usize {
            return Err(KernelError::missing(
                format!(
                    "the listeners' addresses and ports take {most} entries of the map l7_services, which holds {L7_SERVICES}"
                ),
                "use fewer addresses, or ranges that begin and end at multiples of a power of two",
            ));
        }
        Ok(())
    }

    /// Steers connections to these listeners' addresses and ports, and no others; VIPs on no interface get a
    /// route that makes them local. Returns how many entries and routes were written. What is right is left alone.
    ///
    /// # Errors
    /// They don't fit (nothing was written then), or the kernel refused a write.
    pub fn apply(&mut self, listeners: &[Listener]) -> Result<usize, KernelError> {
        self.check(listeners)?;
        let wanted = prefixes::of_listeners(listeners);
        let mut writes = 0;
        // Every route's address stands in the map, whenever the daemon dies: so `weir unload` knows which to remove.
        for (&(bits, key), value) in &wanted {
            if self.there.get(&(bits, key)) != Some(value) {
                self.services
                    .insert(&Key::new(bits, key), value, 0)
                    .map_err(writing)?;
                self.there.insert((bits, key), *value);
                writes += 1;
            }
        }
        writes += routes::follow(&addresses(&wanted), &addresses(&self.there))?;
        let gone: Vec<_> = self
            .there
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .copied()
            .collect();
        for (bits, key) in gone {
            self.services.remove(&Key::new(bits, key)).map_err(writing)?;
            self.there.remove(&(bits, key));
            writes += 1;
        }
        Ok(writes)
    }

    /// Gives a worker, counted from 0, connections from now on: on this listening socket, one of
    /// [`listening_sockets`]. When the socket is closed the kernel takes it out.
    ///
    /// # Errors
    /// More workers than fit, or the kernel refused the socket.
    pub fn register(&mut self, worker: usize, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        if worker >= WORKERS {
            return Err(KernelError::missing(
                format!("worker {worker}: connections can be steered to {WORKERS} workers at most"),
                format!("set workers to {WORKERS} or less"),
            ));
        }
        self.workers
            .set(worker as u32, &socket, 0)
            .map_err(|error| KernelError::refused("writing the map workers", error))?;
        for before in 0..worker {
            if self.loads.state(before) == worker_state::NONE {
                self.loads.set_state(before, worker_state::ABSENT);
            }
        }
        self.loads.set_state(worker, worker_state::REGISTERED);
        Ok(())
    }

    /// Forgets workers from this number on: those of a daemon before this one, which had more.
    pub fn forget_from(&self, count: usize) {
        (count..WORKERS).for_each(|worker| self.loads.set_state(worker, worker_state::NONE));
    }

    /// Takes a worker out: it gets no more connections and keeps those it has.
    ///
    /// # Errors
    /// The kernel refused the write.
    pub fn unregister(&mut self, worker: usize) -> Result<(), KernelError> {
        if worker < WORKERS && self.loads.state(worker) == worker_state::REGISTERED {
            self.loads.set_state(worker, worker_state::ABSENT);
            match self.workers.clear_index(&(worker as u32)) {
                // Its socket was closed.
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(KernelError::refused("writing the map workers", error)),
            }
        }
        Ok(())
    }

    /// Where the workers say what they have to do.
    pub fn loads(&self) -> Arc<LoadMap> {
        Arc::clone(&self.loads)
    }

    /// How often each outcome was, in the order of [`SteerOutcome::ALL`].
    pub(super) fn outcomes(&self) -> Result<Vec<(SteerOutcome, u64)>, KernelError> {
        let read = |&outcome: &SteerOutcome| {
            let values = self.counters.get(&(outcome as u32), 0);
            let values = values.map_err(|error| KernelError::refused("reading counters", error))?;
            Ok((outcome, values.iter().copied().fold(0, u64::wrapping_add)))
        };
        SteerOutcome::ALL.iter().map(read).collect()
    }
}

/// Removes the routes of the VIPs that the pinned map names; of all that are Weir's, if it can't be read. Returns
/// what was removed.
pub(super) fn remove_routes(pin_path: &Path) -> Result<Vec<String>, KernelError> {
    let path = pin_path.join("l7_services");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let ours = routes::ours()?;
    let named = || -> Option<BTreeSet<IpAddr>> {
        let map = aya::maps::Map::LpmTrie(MapData::from_pin(&path).ok()?);
        Some(addresses(&read(&map.try_into().ok()?).ok()?))
    };
    let before = named().unwrap_or_else(|| ours.clone());
    routes::follow(&BTreeSet::new(), &before)?;
    let removed = ours.intersection(&before);
    Ok(removed.map(|address| format!("local route {address}")).collect())
}

fn read(services: &LpmTrie<MapData, L7Key, L7Service>) -> Result<Prefixes, KernelError> {
    let entry = |entry: Result<(Key<L7Key>, L7Service), MapError>| {
        let (key, value) =
            entry.map_err(|error| KernelError::refused("reading the map l7_services", error))?;
        Ok(((key.prefix_len(), key.data()), value))
    };
    services.iter().map(entry).collect()
}

/// The VIPs among them.
fn addresses(prefixes: &Prefixes) -> BTreeSet<IpAddr> {
    let addresses = prefixes.keys().map(|(_, key)| IpAddr::from(key.address));
    addresses.filter(|address| !address.is_unspecified()).collect()
}

fn writing(error: MapError) -> KernelError {
    KernelError::refused("writing the map l7_services", error)
}

fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)))
}
