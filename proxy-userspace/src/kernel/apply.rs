//! Making the maps equal to a Snapshot.
//!
//! Order within a service, so that no packet ever sees a slot without a living backend: new and
//! revived backends are written, then the table is swapped, then dying and draining ones are
//! marked, then removed ones are freed; a new service is published last.

use super::{
    KernelError, encode, guard,
    ids::{Ids, Indices, LiveService},
    maps::Maps,
    plan::{Plan, Sources, plan},
    quic::{self, Servers},
    slots::Moving,
    table, tracking,
};
use crate::model::{ClusterName, Service, Snapshot};
use aya::maps::{Array, MapData, MapError, PerCpuArray, PerCpuValues};
use proxy_common::{
    counters::Counters,
    keys::ServiceKey,
    net::Address,
    values::{BackendValue, NO_BACKEND, SlotValue, VipValue, backend_flags, service_flags, slot_state},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Applies a snapshot; returns the number of map writes. `before` is the one that the maps hold, if they hold one.
pub(super) fn apply(
    maps: &mut Maps,
    ids: &mut Ids,
    sources: Sources<'_>,
    snapshot: &Snapshot,
    before: Option<&Snapshot>,
) -> Result<usize, KernelError> {
    // Indices are given out on a copy: a full map is found before the first write.
    let mut indices = ids.indices.clone();
    let before = before.filter(|before| Arc::ptr_eq(&before.services, &snapshot.services));
    let gone = match before {
        Some(_) => Vec::new(),
        None => gone(ids, snapshot),
    };
    for key in &gone {
        release(ids, &mut indices, key);
    }
    let others: Option<HashSet<&ClusterName>> = before.map(|before| {
        let clusters = snapshot.clusters_besides(before);
        clusters.map(|cluster| &cluster.name).collect()
    });
    let may_differ = |service: &&Service| {
        let others = others.as_ref();
        others.is_none_or(|others| others.contains(&service.cluster))
    };
    let mut plans = Vec::new();
    for service in snapshot.services.iter().filter(may_differ) {
        if !ids.is_settled(service, snapshot.clusters.get(&service.cluster)) {
            plans.push(plan(ids, &mut indices, sources, snapshot, service)?);
        }
    }
    // Free once all have theirs: one service's new backends are written before another's old ones are cleared.
    for id in plans.iter().flat_map(|plan| &plan.removed) {
        indices.free_backend(*id);
    }
    ids.indices = indices;
    let written = write(maps, ids, &gone, plans);
    if written.is_err() {
        ids.recount();
    }
    written
}

/// Services in the maps that no listener is any longer.
fn gone(ids: &Ids, snapshot: &Snapshot) -> Vec<ServiceKey> {
    let wanted: HashSet<ServiceKey> = snapshot.services.iter().map(encode::service_key).collect();
    let gone = ids.services.keys().filter(|key| !wanted.contains(*key));
    gone.copied().collect()
}

fn write(
    maps: &mut Maps,
    ids: &mut Ids,
    gone: &[ServiceKey],
    plans: Vec<Plan>,
) -> Result<usize, KernelError> {
    let mut writes = 0;
    let is_known = gone.is_empty() && plans.iter().all(|plan| !plan.is_new);
    for gone in gone.chunks(table::TOGETHER) {
        writes += remove(maps, ids, gone)?;
    }
    let mut plans = plans.into_iter().peekable();
    while plans.peek().is_some() {
        let mut prepared = Vec::new();
        for plan in plans.by_ref().take(table::TOGETHER) {
            let (service, written) = prepare(maps, ids, plan)?;
            prepared.push(service);
            writes += written;
        }
        writes += swap(maps, &prepared)?;
        for service in prepared {
            writes += finish(maps, ids, service)?;
        }
    }
    if !is_known || ids.vips.is_none() {
        writes += publish_vips(maps, ids)?;
    }
    Ok(writes)
}

fn release(ids: &Ids, indices: &mut Indices, key: &ServiceKey) {
    if let Some(live) = ids.services.get(key) {
        indices.free_service(live.index);
        for (index, _) in live.backends.values() {
            indices.free_backend(*index);
        }
    }
}

/// What marks an endpoint as out of use for new flows, or all flows.
const LEAVING: u16 = backend_flags::DEAD | backend_flags::DRAINING;

/// A service whose new backends and table are made, and not in use yet.
struct Prepared {
    plan: Plan,
    old: HashMap<u32, BackendValue>,
    table: Option<MapData>,
    servers: Servers,
    moving: Option<Moving>,
}

/// Writes what no packet looks at yet. Returns the number of map writes too.
fn prepare(maps: &mut Maps, ids: &Ids, plan: Plan) -> Result<(Prepared, usize), KernelError> {
    let live = ids.services.get(&plan.key);
    let old: HashMap<u32, BackendValue> = live
        .map(|live| live.backends.values().copied().collect())
        .unwrap_or_default();
    let table_is_right = live.is_some_and(|live| {
        !(plan.has_states && plan.loses_any(&old))
            && live.value == plan.value
            && live.table.as_ref() == Some(&plan.table_source)
    });
    let mut writes = 0;
    if plan.is_new {
        zero(&mut maps.service_counters, plan.value.index)?;
        writes += 1;
    }
    for (id, value) in plan.backends.values() {
        if !old.contains_key(id) {
            zero(&mut maps.backend_counters, *id)?;
            writes += 1;
        }
        if value.flags & LEAVING == 0 && old.get(id) != Some(value) {
            write_backend(&mut maps.backends, *id, value)?;
            writes += 1;
        }
    }
    writes += prepare_guard(maps, &plan, live)?;
    writes += prepare_options(maps, &plan, live)?;
    let servers = quic::wanted(&plan);
    writes += quic::prepare(maps, &servers, live)?;
    let mut moving = live.and_then(|live| live.moving.clone());
    let table = if table_is_right {
        None
    } else {
        new_table(maps, &plan, live, &mut moving)?
    };
    let prepared = Prepared {
        plan,
        old,
        table,
        servers,
        moving,
    };
    Ok((prepared, writes))
}

/// Swaps rules in and writes limits; flags that ask for them come last, with the service. Returns the number of map writes.
fn prepare_guard(maps: &mut Maps, plan: &Plan, live: Option<&LiveService>) -> Result<usize, KernelError> {
    let Some((service, _)) = &plan.settled else {
        return Ok(0);
    };
    let before = live
        .and_then(|live| live.settled.as_ref())
        .map(|(service, _)| &service.guard);
    if before == Some(&service.guard) {
        return Ok(0);
    }
    let mut writes = 0;
    if guard::has_rules(&service.guard) || live.is_some_and(|live| live.value.flags & ANY_RULES != 0) {
        let rules = guard::rules(&service.guard)?;
        table::swap(&maps.source_rules, &[(plan.value.index, &rules)])?;
        writes += 1;
    }
    maps.service_limits
        .set(plan.value.index, guard::limits(&service.guard), 0)
        .map_err(|error| KernelError::refused("writing the map service_limits", error))?;
    Ok(writes + 1)
}

/// Writes what is looked at only when a flow is opened. Returns the number of map writes.
fn prepare_options(maps: &mut Maps, plan: &Plan, live: Option<&LiveService>) -> Result<usize, KernelError> {
    let Some((service, _)) = &plan.settled else {
        return Ok(0);
    };
    let before = live.and_then(|live| live.settled.as_ref());
    let options = encode::options(service);
    if before.is_some_and(|(before, _)| encode::options(before) == options) {
        return Ok(0);
    }
    maps.service_options
        .set(plan.value.index, options, 0)
        .map_err(|error| KernelError::refused("writing the map service_options", error))?;
    Ok(1)
}

/// The service has rules.
const ANY_RULES: u32 = service_flags::RULES | service_flags::RULES_ALLOW;

/// Swaps tables in, all at once: the kernel waits for running programs once a call.
fn swap(maps: &Maps, prepared: &[Prepared]) -> Result<usize, KernelError> {
    let tables: Vec<(u32, &MapData)> = prepared
        .iter()
        .filter_map(|service| Some((service.plan.value.index, service.table.as_ref()?)))
        .collect();
    table::swap(&maps.slots_data, &tables)?;
    Ok(tables.len())
}

/// Marks what leaves, frees what is gone, publishes what is new.
fn finish(maps: &mut Maps, ids: &mut Ids, prepared: Prepared) -> Result<usize, KernelError> {
    let Prepared {
        plan,
        old,
        servers,
        moving,
        ..
    } = prepared;
    let mut writes = 0;
    for (id, value) in plan.backends.values() {
        if value.flags & LEAVING != 0 && old.get(id) != Some(value) {
            write_backend(&mut maps.backends, *id, value)?;
            writes += 1;
        }
    }
    for id in &plan.removed {
        write_backend(&mut maps.backends, *id, &BackendValue::default())?;
        writes += 1;
    }
    let live = ids.services.get(&plan.key);
    if live.is_none_or(|live| live.value != plan.value) {
        maps.services
            .insert(plan.key, plan.value, 0)
            .map_err(|error| KernelError::refused("writing the map services", error))?;
        writes += 1;
    }
    let live = LiveService {
        index: plan.value.index,
        value: plan.value,
        backends: plan.backends,
        table: Some(plan.table_source),
        protocol: plan.key.protocol,
        servers,
        moving,
        settled: plan.settled,
    };
    ids.services.insert(plan.key, live);
    Ok(writes)
}

/// Builds a service's table, unless the running one is the same.
fn new_table(
    maps: &Maps,
    plan: &Plan,
    live: Option<&LiveService>,
    moving: &mut Option<Moving>,
) -> Result<Option<MapData>, KernelError> {
    let wanted = table::wanted(&plan.table, plan.value.table_size);
    let mut old = match live {
        Some(live) => tracking::running(maps, live)?,
        None => None,
    };
    old = old.filter(|old| old.len() == wanted.len());
    let living: HashSet<u32> = plan
        .backends
        .values()
        .filter(|(_, value)| value.flags & backend_flags::DEAD == 0)
        .map(|(index, _)| *index)
        .collect();
    let slots = table::next(old.as_deref(), &wanted, plan.has_states, |backend| {
        living.contains(&backend)
    });
    let is_tracking = plan.value.flags & service_flags::TRACK_ALWAYS != 0
        || slots.iter().any(|slot| slot.previous != slot_state::PLAIN);
    if !is_tracking {
        *moving = None;
    } else {
        let was_known = moving.is_some();
        let now = super::expire::now(maps);
        let moving = moving.get_or_insert_with(|| Moving::new(slots.len(), now));
        // After a restart nobody knows since when a slot has been moving: as if from now.
        let before = old
            .as_deref()
            .filter(|_| was_known || live.is_some_and(|live| live.table.is_some()));
        moving.note(before, &slots);
    }
    if old.as_ref() == Some(&slots) {
        return Ok(None);
    }
    table::build(&slots).map(Some)
}

fn remove(maps: &mut Maps, ids: &mut Ids, gone: &[ServiceKey]) -> Result<usize, KernelError> {
    let mut writes = 0;
    let mut indices = Vec::new();
    for key in gone {
        let Some(live) = ids.services.get(key) else {
            continue;
        };
        // Before the service: what a daemon leaves that dies here is still some service's.
        writes += quic::remove_all(maps, &live.servers)?;
        maps.services
            .remove(key)
            .map_err(|error| KernelError::refused("removing from the map services", error))?;
        for (id, _) in live.backends.values() {
            write_backend(&mut maps.backends, *id, &BackendValue::default())?;
        }
        writes += live.backends.len() + 2;
        indices.push(live.index);
    }
    // An array of maps can't be cleared through aya; one slot of nothing frees a table's memory.
    let nothing = table::build(&[SlotValue::plain(NO_BACKEND)])?;
    let tables: Vec<(u32, &MapData)> = indices.iter().map(|index| (*index, &nothing)).collect();
    table::swap(&maps.slots_data, &tables)?;
    for key in gone {
        ids.services.remove(key);
    }
    Ok(writes)
}

/// Counts the services on each VIP and writes what differs.
fn publish_vips(maps: &mut Maps, ids: &mut Ids) -> Result<usize, KernelError> {
    let refused = |error: MapError| KernelError::refused("writing the map vips", error);
    let mut wanted: HashMap<Address, VipValue> = HashMap::new();
    for key in ids.services.keys() {
        wanted.entry(key.address).or_default().services += 1;
    }
    let there = match ids.vips.take() {
        Some(there) => there,
        None => maps.vips.iter().collect::<Result<_, _>>().map_err(refused)?,
    };
    let mut writes = 0;
    for (address, value) in &wanted {
        if there.get(address) != Some(value) {
            maps.vips.insert(address, value, 0).map_err(refused)?;
            writes += 1;
        }
    }
    for address in there.keys().filter(|address| !wanted.contains_key(*address)) {
        maps.vips.remove(address).map_err(refused)?;
        writes += 1;
    }
    ids.vips = Some(wanted);
    Ok(writes)
}

fn write_backend(
    backends: &mut Array<MapData, BackendValue>,
    id: u32,
    value: &BackendValue,
) -> Result<(), KernelError> {
    backends
        .set(id, value, 0)
        .map_err(|error| KernelError::refused("writing the map backends", error))
}

fn zero(counters: &mut PerCpuArray<MapData, Counters>, index: u32) -> Result<(), KernelError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| KernelError::refused("counting the CPUs", error))?;
    let zeros = PerCpuValues::try_from(vec![Counters::default(); cpus])
        .map_err(|error| KernelError::refused("counting the CPUs", error))?;
    counters
        .set(index, zeros, 0)
        .map_err(|error| KernelError::refused("zeroing counters", error))
}
