//! Which index every service and backend has in the maps; after a restart read back from them.

use super::{
    KernelError, encode,
    maps::Maps,
    plan::endpoints_of,
    quic::{self, Servers},
    slots::Moving,
};
use crate::model::{BackendAddr, Cluster, ListenAddr, Service};
use aya::maps::MapError;
use proxy_common::{
    keys::ServiceKey,
    net::{Address, Protocol},
    values::{BackendValue, ServiceValue, VipValue, backend_flags},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// A service as the maps hold it.
#[derive(Clone, Debug)]
pub(super) struct LiveService {
    pub(super) index: u32,
    pub(super) value: ServiceValue,
    /// Backend indices and values by address.
    pub(super) backends: BTreeMap<BackendAddr, (u32, BackendValue)>,
    /// What its table was built from; none if this daemon hasn't built it.
    pub(super) table: Option<Vec<(BackendAddr, u32)>>,
    /// What the maps hold it for; none if this daemon hasn't written it, or it is to be looked at again.
    pub(super) settled: Option<(Service, Option<Arc<Cluster>>)>,
    /// IANA protocol number.
    pub(super) protocol: u8,
    /// What `quic_servers` holds for it.
    pub(super) servers: Servers,
    /// How long slots have been moving; none while all are plain and no flow is stored.
    pub(super) moving: Option<Moving>,
}

/// All that is in the maps.
#[derive(Debug)]
pub(super) struct Ids {
    pub(super) services: HashMap<ServiceKey, LiveService>,
    /// What `vips` holds; none while that has to be read.
    pub(super) vips: Option<HashMap<Address, VipValue>>,
    /// The index of the service that is to be looked at next, changed or not.
    next_look: u32,
    pub(super) indices: Indices,
}

/// Indices that are free, and the last incarnation.
#[derive(Clone, Debug)]
pub(super) struct Indices {
    free_services: FreeList,
    free_backends: FreeList,
    incarnation: u32,
}

impl Ids {
    /// Reads the maps. Costs a system call an entry, once.
    pub(super) fn adopt(maps: &Maps) -> Result<Self, KernelError> {
        let refused = |error: MapError| KernelError::refused("reading the pinned maps", error);
        let mut services = HashMap::new();
        let mut by_index = HashMap::new();
        let mut servers = quic::read(&maps.quic_servers)?;
        for entry in maps.services.iter() {
            let (key, value) = entry.map_err(refused)?;
            by_index.insert(value.index, key);
            let live = LiveService {
                index: value.index,
                value,
                backends: BTreeMap::new(),
                table: None,
                settled: None,
                protocol: key.protocol,
                servers: servers.remove(&value.index).unwrap_or_default(),
                moving: None,
            };
            services.insert(key, live);
        }
        let mut used = BTreeSet::new();
        let mut newest = 0;
        for (index, value) in maps.backends.iter().enumerate() {
            let value = value.map_err(refused)?;
            newest = newest.max(value.incarnation);
            let live = by_index.get(&value.service).and_then(|key| services.get_mut(key));
            if let (true, Some(live)) = (value.incarnation != 0, live) {
                let address = encode::backend_addr(value.address, value.port);
                live.backends.insert(address, (index as u32, value));
                used.insert(index as u32);
            }
        }
        // Incarnations of backends that were removed before a restart aren't in the maps any more,
        // but may be in flows: the clock is ahead of all of them, at one new backend a second.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as u32);
        Ok(Self {
            indices: Indices {
                free_services: FreeList::new(
                    maps.service_counters.len(),
                    &by_index.keys().copied().collect(),
                ),
                free_backends: FreeList::new(maps.backends.len(), &used),
                incarnation: newest.max(now),
            },
            services,
            vips: None,
            next_look: 0,
        })
    }

    /// The live service of a key.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<&LiveService> {
        self.services.get(key)
    }

    /// Whether the maps hold a service for these endpoints already: it is passed over, since what 10,000 others need to be
    /// asked of routes and tables would take longer than the change of one.
    pub(super) fn is_settled(&self, service: &Service, cluster: Option<&Arc<Cluster>>) -> bool {
        let are_same = |with: &Option<Arc<Cluster>>| match (with, cluster) {
            (Some(with), Some(cluster)) => Arc::ptr_eq(with, cluster) || with.endpoints == cluster.endpoints,
            (with, cluster) => endpoints_of(with.as_ref()) == endpoints_of(cluster),
        };
        let live = self.services.get(&encode::service_key(service));
        live.and_then(|live| live.settled.as_ref())
            .is_some_and(|(settled, with)| are_same(with) && settled == service)
    }

    /// Has every service looked at with the next apply: routes, and with them sources, may have changed since.
    pub(super) fn unsettle(&mut self) {
        self.services.values_mut().for_each(|live| live.settled = None);
    }

    /// Has some services looked at with the next apply, about so many backends together, and others the next time. Returns
    /// whether there are any.
    pub(super) fn unsettle_next(&mut self, backends: usize) -> bool {
        let mut behind: Vec<(u32, &mut LiveService)> = (self.services.values_mut())
            .map(|live| (live.index.wrapping_sub(self.next_look), live))
            .collect();
        behind.sort_unstable_by_key(|(distance, _)| *distance);
        let mut left = backends;
        let is_any = !behind.is_empty();
        for (_, live) in behind {
            live.settled = None;
            self.next_look = live.index.wrapping_add(1);
            left = left.saturating_sub(live.backends.len().max(1));
            if left == 0 {
                break;
            }
        }
        is_any
    }

    /// Index and incarnation of every backend that isn't dead: flows of all others have lost theirs.
    pub(super) fn living(&self) -> HashSet<(u32, u32)> {
        (self.services.values())
            .flat_map(|service| service.backends.values())
            .filter(|(_, value)| value.flags & backend_flags::DEAD == 0)
            .map(|(index, value)| (*index, value.incarnation))
            .collect()
    }

    /// Every backend marked dead, with its service.
    pub(super) fn dead_backends(&self) -> Vec<(ListenAddr, Protocol, BackendAddr)> {
        let services = self
            .services
            .iter()
            .map(|(key, live)| (encode::listener(key), live));
        services
            .flat_map(|((address, protocol), live)| {
                let dead = live
                    .backends
                    .iter()
                    .filter(|(_, (_, value))| value.flags & backend_flags::DEAD != 0);
                dead.map(move |(backend, _)| (address, protocol, *backend))
            })
            .collect()
    }

    /// Counts what is free anew, after writes that ended half-way.
    pub(super) fn recount(&mut self) {
        let services = self.services.values().map(|live| live.index).collect();
        let backends = self.services.values().flat_map(|live| live.backends.values());
        let backends = backends.map(|(index, _)| *index).collect();
        self.indices.free_services = FreeList::new(self.indices.free_services.size, &services);
        self.indices.free_backends = FreeList::new(self.indices.free_backends.size, &backends);
    }
}

impl Indices {
    /// An unused service index.
    pub(super) fn take_service(&mut self) -> Result<u32, KernelError> {
        self.free_services.take("services", "kernel.max_services")
    }

    /// An unused backend index.
    pub(super) fn take_backend(&mut self) -> Result<u32, KernelError> {
        self.free_backends.take("backends", "kernel.max_backends")
    }

    /// Gives a service index back.
    pub(super) fn free_service(&mut self, index: u32) {
        self.free_services.give_back(index);
    }

    /// Gives a backend index back.
    pub(super) fn free_backend(&mut self, index: u32) {
        self.free_backends.give_back(index);
    }

    /// A number no backend had before; never zero.
    pub(super) fn next_incarnation(&mut self) -> u32 {
        self.incarnation = self.incarnation.checked_add(1).unwrap_or(1);
        self.incarnation
    }
}

/// Hands out the lowest unused index, so that maps are filled from the front.
#[derive(Clone, Debug)]
struct FreeList {
    size: u32,
    /// Unused indices below `next`.
    gaps: BTreeSet<u32>,
    /// From here on all are unused.
    next: u32,
}

impl FreeList {
    fn new(size: u32, used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(0, |last| last + 1);
        Self {
            size,
            gaps: (0..next).filter(|index| !used.contains(index)).collect(),
            next,
        }
    }

    fn take(&mut self, map: &'static str, key: &'static str) -> Result<u32, KernelError> {
        if let Some(gap) = self.gaps.pop_first() {
            return Ok(gap);
        }
        if self.next >= self.size {
            return Err(KernelError::Full {
                map,
                limit: self.size,
                key,
            });
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn give_back(&mut self, index: u32) {
        self.gaps.insert(index);
    }
}
