//! Making the maps equal to a Snapshot.
//!
//! Order within a service, so that no packet ever sees a slot without a living backend: new and
//! revived backends are written, then the table is swapped, then dying and draining ones are
//! marked, then removed ones are freed; a new service is published last.

use super::{
    KernelError, encode,
    ids::{Ids, LiveService},
    maps::Maps,
    slots::{self, Moving},
    table, tracking,
};
use crate::model::{BackendAddr, Endpoint, ForwardMode, NatSettings, Service, Snapshot, TunnelSettings};
use aya::maps::{Array, MapData, MapError, PerCpuArray, PerCpuValues};
use proxy_common::{
    counters::Counters,
    keys::ServiceKey,
    maglev::MaglevEndpoint,
    net::Address,
    values::{
        BackendValue, NO_BACKEND, ServiceValue, SlotValue, VipValue, backend_flags, mode, service_flags,
        slot_state,
    },
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What one service needs, worked out before anything is written.
struct Plan {
    key: ServiceKey,
    value: ServiceValue,
    is_new: bool,
    backends: BTreeMap<BackendAddr, (u32, BackendValue)>,
    removed: Vec<u32>,
    /// Identity and backend index of every endpoint with weight.
    table: Vec<(MaglevEndpoint, u32)>,
    table_source: Vec<(BackendAddr, u32)>,
    /// Whether its slots remember where they moved from.
    has_states: bool,
}

/// What packets to backends get as their source.
pub(super) type Sources<'a> = (&'a NatSettings, &'a TunnelSettings);

/// Applies a snapshot; returns the number of map writes.
pub(super) fn apply(
    maps: &mut Maps,
    ids: &mut Ids,
    sources: Sources<'_>,
    snapshot: &Snapshot,
) -> Result<usize, KernelError> {
    // Planned on a copy: a full map is found before the first write.
    let mut planned = ids.clone();
    let wanted: HashSet<ServiceKey> = snapshot.services.iter().map(encode::service_key).collect();
    let gone: Vec<ServiceKey> = ids
        .services
        .keys()
        .filter(|key| !wanted.contains(*key))
        .copied()
        .collect();
    for key in &gone {
        release(&mut planned, key);
    }
    let mut plans = Vec::new();
    for service in &snapshot.services {
        plans.push(plan(&mut planned, sources, snapshot, service)?);
    }
    let mut writes = 0;
    for key in &gone {
        writes += remove(maps, ids, key)?;
    }
    for plan in plans {
        writes += carry_out(maps, ids, plan)?;
    }
    writes += publish_vips(maps, ids)?;
    // The copy knows which indices are free now.
    let services = std::mem::take(&mut ids.services);
    *ids = planned;
    ids.services = services;
    Ok(writes)
}

fn release(ids: &mut Ids, key: &ServiceKey) {
    if let Some(live) = ids.services.remove(key) {
        ids.free_service(live.index);
        for (index, _) in live.backends.values() {
            ids.free_backend(*index);
        }
    }
}

fn plan(
    ids: &mut Ids,
    sources: Sources<'_>,
    snapshot: &Snapshot,
    service: &Service,
) -> Result<Plan, KernelError> {
    let key = encode::service_key(service);
    let live = ids.services.get(&key).cloned();
    let index = match &live {
        Some(live) => live.index,
        None => ids.take_service()?,
    };
    let value = encode::service_value(service, index, sources.1);
    let old = live
        .as_ref()
        .map(|live| live.backends.clone())
        .unwrap_or_default();
    let mut plan = Plan {
        key,
        value,
        is_new: live.is_none(),
        backends: BTreeMap::new(),
        removed: Vec::new(),
        table: Vec::new(),
        table_source: Vec::new(),
        has_states: service.mode != ForwardMode::Nat && slots::has_states(service.tracking),
    };
    let cluster = snapshot.clusters.get(&service.cluster);
    plan_backends(
        ids,
        sources,
        cluster.map_or(&[][..], |cluster| &cluster.endpoints),
        old,
        &mut plan,
    )?;
    Ok(plan)
}

/// Gives every endpoint its index and value; what is left of the `old` ones is removed.
fn plan_backends(
    ids: &mut Ids,
    (nat, tunnel): Sources<'_>,
    endpoints: &[Endpoint],
    mut old: BTreeMap<BackendAddr, (u32, BackendValue)>,
    plan: &mut Plan,
) -> Result<(), KernelError> {
    for endpoint in endpoints {
        let (mut source, is_local) = encode::source(endpoint.address, nat);
        let mut source_bits = 0;
        if matches!(plan.value.mode, mode::IPIP | mode::GUE) {
            (source, source_bits) = encode::outer_source(endpoint.address, tunnel);
        }
        let (id, incarnation) = match old.remove(&endpoint.address) {
            Some((id, value)) => (id, value.incarnation),
            None => (ids.take_backend()?, ids.next_incarnation()),
        };
        let address: Address = endpoint.address.0.ip().into();
        let port = endpoint.address.0.port();
        let weight = endpoint.effective_weight();
        let value = BackendValue {
            address,
            source,
            port,
            flags: encode::flags(endpoint) | if is_local { backend_flags::LOCAL } else { 0 },
            service: plan.value.index,
            incarnation,
            weight,
            source_bits,
        };
        plan.backends.insert(endpoint.address, (id, value));
        if weight > 0 {
            plan.table.push((
                MaglevEndpoint {
                    address,
                    port,
                    weight,
                },
                id,
            ));
            plan.table_source.push((endpoint.address, weight));
        }
    }
    plan.table_source.sort_unstable();
    for (id, _) in old.values() {
        plan.removed.push(*id);
        ids.free_backend(*id);
    }
    Ok(())
}

impl Plan {
    /// Whether a backend goes or dies: no slot may be moving from it any longer. Its index may be another's next; and if it is revived,
    /// flows that found no room to be stored have gone to the slot's backend meanwhile.
    fn loses_any(&self, old: &HashMap<u32, BackendValue>) -> bool {
        let is_dead = |value: &BackendValue| value.flags & backend_flags::DEAD != 0;
        let dies = |(id, value): &(u32, BackendValue)| {
            is_dead(value) && old.get(id).is_some_and(|old| !is_dead(old))
        };
        !self.removed.is_empty() || self.backends.values().any(dies)
    }
}

/// What marks an endpoint as out of use for new flows, or all flows.
const LEAVING: u16 = backend_flags::DEAD | backend_flags::DRAINING;

fn carry_out(maps: &mut Maps, ids: &mut Ids, plan: Plan) -> Result<usize, KernelError> {
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
    let mut moving = live.and_then(|live| live.moving.clone());
    if !table_is_right {
        writes += renew_table(maps, &plan, live, &mut moving)?;
    }
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
        moving,
    };
    ids.services.insert(plan.key, live);
    Ok(writes)
}

/// Builds a service's table and swaps it in, unless the running one is the same; returns the number of map writes.
fn renew_table(
    maps: &mut Maps,
    plan: &Plan,
    live: Option<&LiveService>,
    moving: &mut Option<Moving>,
) -> Result<usize, KernelError> {
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
        return Ok(0);
    }
    set_table(maps, plan.value.index, &table::build(&slots)?)?;
    Ok(1)
}

fn remove(maps: &mut Maps, ids: &mut Ids, key: &ServiceKey) -> Result<usize, KernelError> {
    let Some(live) = ids.services.get(key) else {
        return Ok(0);
    };
    maps.services
        .remove(key)
        .map_err(|error| KernelError::refused("removing from the map services", error))?;
    for (id, _) in live.backends.values() {
        write_backend(&mut maps.backends, *id, &BackendValue::default())?;
    }
    // An array of maps can't be cleared through aya; one slot of nothing frees the table's memory.
    set_table(maps, live.index, &table::build(&[SlotValue::plain(NO_BACKEND)])?)?;
    let writes = live.backends.len() + 2;
    ids.services.remove(key);
    Ok(writes)
}

/// Counts the services on each VIP and writes what differs.
fn publish_vips(maps: &mut Maps, ids: &Ids) -> Result<usize, KernelError> {
    let refused = |error: MapError| KernelError::refused("writing the map vips", error);
    let mut wanted: HashMap<Address, VipValue> = HashMap::new();
    for key in ids.services.keys() {
        wanted.entry(key.address).or_default().services += 1;
    }
    let there: HashMap<Address, VipValue> = maps.vips.iter().collect::<Result<_, _>>().map_err(refused)?;
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

fn set_table(maps: &mut Maps, index: u32, table: &MapData) -> Result<(), KernelError> {
    maps.slots
        .set(index, table, 0)
        .map_err(|error| KernelError::refused("swapping a table in", error))
}

fn zero(counters: &mut PerCpuArray<MapData, Counters>, index: u32) -> Result<(), KernelError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| KernelError::refused("counting the CPUs", error))?;
    let zeros = PerCpuValues::try_from(vec![Counters::default(); cpus])
        .map_err(|error| KernelError::refused("counting the CPUs", error))?;
    counters
        .set(index, zeros, 0)
        .map_err(|error| KernelError::refused("zeroing counters", error))
}
