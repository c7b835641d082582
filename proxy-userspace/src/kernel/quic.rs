//! What names backends in QUIC connection IDs: the map `quic_servers`.

use super::{KernelError, ids::LiveService, maps::Maps, plan::Plan};
use aya::maps::{HashMap, MapData, MapError};
use proxy_common::quic::{ServerKey, ServerValue};
use std::collections::BTreeMap;

/// Backends of one service by the name that connection IDs have for them.
pub(super) type Servers = BTreeMap<ServerKey, ServerValue>;

/// All that is in the map, by service index.
pub(super) fn read(
    map: &HashMap<MapData, ServerKey, ServerValue>,
) -> Result<BTreeMap<u32, Servers>, KernelError> {
    let mut services: BTreeMap<u32, Servers> = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) =
            entry.map_err(|error| KernelError::refused("reading the map quic_servers", error))?;
        services.entry(key.service).or_default().insert(key, value);
    }
    Ok(services)
}

/// What a service is to have.
pub(super) fn wanted(plan: &Plan) -> Servers {
    let Some((service, Some(cluster))) = &plan.settled else {
        return Servers::new();
    };
    if service.quic.is_none() {
        return Servers::new();
    }
    let named = cluster.endpoints.iter().filter_map(|endpoint| {
        let (backend, value) = plan.backends.get(&endpoint.address)?;
        let key = ServerKey {
            service: plan.value.index,
            server_id: endpoint.server_id?.padded(),
        };
        let incarnation = value.incarnation;
        Some((
            key,
            ServerValue {
                backend: *backend,
                incarnation,
            },
        ))
    });
    named.collect()
}

/// Makes the map's part of a service what it is to have; to be called when its new backends are there. Returns the number of map
/// writes.
///
/// What is gone goes first: an endpoint with another name than before takes no more room than it had.
pub(super) fn prepare(
    maps: &mut Maps,
    wanted: &Servers,
    live: Option<&LiveService>,
) -> Result<usize, KernelError> {
    let none = Servers::new();
    let there = live.map_or(&none, |live| &live.servers);
    let mut writes = 0;
    for key in there.keys().filter(|key| !wanted.contains_key(*key)) {
        remove(maps, key)?;
        writes += 1;
    }
    for (key, value) in wanted
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(*value))
    {
        maps.quic_servers
            .insert(key, value, 0)
            .map_err(|error| KernelError::refused("writing the map quic_servers", error))?;
        writes += 1;
    }
    Ok(writes)
}

/// Removes a service's part. Returns the number of map writes.
pub(super) fn remove_all(maps: &mut Maps, servers: &Servers) -> Result<usize, KernelError> {
    servers.keys().try_for_each(|key| remove(maps, key))?;
    Ok(servers.len())
}

fn remove(maps: &mut Maps, key: &ServerKey) -> Result<(), KernelError> {
    match maps.quic_servers.remove(key) {
        // Removed by an apply that failed afterwards.
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(KernelError::refused("removing from the map quic_servers", error)),
    }
}
