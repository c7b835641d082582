//! A model of what the maps hold, checked against what they should.

use super::maps::Maps;
use crate::model::{Model, maglev, quic::Rules, ranges::Range, slots::slot_after};
use anyhow::{Context, Result, ensure};
use proxy_common::{
    decap::decap_flags,
    keys::ServiceKey,
    net::Address,
    values::{BackendValue, NO_BACKEND, SlotValue, backend_flags, mode, service_flags},
};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};
use weir::model::{Cluster, FlowHash, ForwardMode, Health, Quic, Service, Snapshot, Tracking};

/// Index and incarnation of the backends that server IDs name to a service.
type Servers = HashMap<[u8; 16], (u32, u32)>;

/// Loads a model with what the maps hold, after checking that it is what the snapshot says.
pub(super) fn load(model: &mut Model, maps: &Maps, snapshot: &Snapshot) -> Result<()> {
    model.services = maps
        .services
        .iter()
        .map(|entry| Ok(entry?))
        .collect::<Result<_>>()?;
    ensure!(
        model.services.len() == snapshot.services.len(),
        "{} services in the map, {} in the snapshot",
        model.services.len(),
        snapshot.services.len()
    );
    model.backends = backends(maps)?;
    let mut expected = HashSet::new();
    let mut servers = maps.servers()?;
    model.segments = maps.segments()?;
    for service in snapshot.services.iter() {
        let cluster = &snapshot.clusters[&service.cluster];
        load_service(model, maps, service, cluster, &mut servers)
            .with_context(|| format!("service {}", service.name))?;
        expected.insert(service.address.0.ip());
    }
    ensure!(servers.is_empty(), "server IDs of no service: {servers:?}");
    let ranges = (snapshot.services.iter()).filter(|service| service.span.is_range(service.address));
    model.ranges = ranges
        .map(|service| {
            let range = Range {
                prefix_bits: service.span.prefix_bits.into(),
                last_port: service.span.last_port,
            };
            (key_of(service), range)
        })
        .collect();
    model.vips = maps
        .vips
        .keys()
        .map(|key| Ok(IpAddr::from(key?)))
        .collect::<Result<_>>()?;
    ensure!(model.vips == expected, "VIPs {:?}, not {expected:?}", model.vips);
    load_tunnels(model, maps, snapshot)
}

fn load_tunnels(model: &mut Model, maps: &Maps, snapshot: &Snapshot) -> Result<()> {
    let (ends, vips) = (maps.marked(decap_flags::END)?, maps.marked(decap_flags::VIP)?);
    let wanted: HashSet<IpAddr> = snapshot.settings.decap_vips.iter().copied().collect();
    ensure!(
        vips == wanted,
        "tunnels bring packets for {vips:?}, not {wanted:?}"
    );
    let own = super::topology::own_addresses()?;
    let wanted = if vips.is_empty() { HashSet::new() } else { own };
    ensure!(ends == wanted, "tunnels end at {ends:?}, not {wanted:?}");
    (model.tunnels.ends, model.tunnels.vips) = (ends, vips);
    Ok(())
}

fn key_of(service: &Service) -> ServiceKey {
    ServiceKey {
        address: service.address.0.ip().into(),
        port: service.address.0.port(),
        protocol: service.protocol as u8,
        pad: 0,
    }
}

fn load_service(
    model: &mut Model,
    maps: &Maps,
    service: &Service,
    cluster: &Cluster,
    servers: &mut HashMap<u32, Servers>,
) -> Result<()> {
    let key = key_of(service);
    let value = *model.services.get(&key).context("not in the map")?;
    let there = servers.remove(&value.index).unwrap_or_default();
    ensure!(value.table_size == service.table_size, "table size {value:?}");
    let hash = match service.hash {
        FlowHash::FiveTuple => 0,
        FlowHash::Source => service_flags::HASH_SOURCE,
        FlowHash::SourceDestination => service_flags::HASH_ADDRESSES,
    };
    let tracking = match (service.mode, service.tracking) {
        (ForwardMode::Nat, _) | (_, Tracking::Auto) => 0,
        (_, Tracking::Always) => service_flags::TRACK_ALWAYS,
        (_, Tracking::Never) => service_flags::TRACK_NEVER,
    };
    let guard = &service.guard;
    let rules = match (guard.allow.is_empty(), guard.deny.is_empty()) {
        (true, true) => 0,
        (true, false) => service_flags::RULES,
        (false, _) => service_flags::RULES_ALLOW,
    };
    let packets = u32::from(guard.packets.is_some()) * service_flags::PACKET_LIMIT;
    let connections = u32::from(guard.connections.is_some()) * service_flags::CONNECTION_LIMIT;
    let limits = packets | connections;
    let affinity = u32::from(service.affinity.is_some()) * service_flags::AFFINITY;
    let flags = hash | tracking | rules | limits | affinity | quic_flags(service);
    ensure!(value.flags == flags, "flags {value:?}");
    model.guards.insert(key, guard.clone());
    let segment = model.segments.get(&value.index).copied();
    ensure!(segment == service.max_segment_size, "largest segment {segment:?}");
    model
        .affinity_rules
        .extend(service.affinity.map(|affinity| (value.index, affinity)));
    let slots = maps.table(value.index, value.table_size)?;
    let indices = check_backends(model, value.index, cluster)?;
    let endpoints: Vec<_> = cluster
        .endpoints
        .iter()
        .map(|endpoint| {
            let address = endpoint.address.0;
            ((address.ip(), address.port()), endpoint.effective_weight())
        })
        .collect();
    let expected: Vec<u32> = maglev::table(&endpoints, service.table_size)
        .into_iter()
        .map(|slot| slot.map_or(NO_BACKEND, |at| indices[at]))
        .collect();
    let backends: Vec<u32> = slots.iter().map(|slot| slot.backend).collect();
    ensure!(
        backends == expected,
        "the table is not the one of docs/hashing.md"
    );
    model.slots.insert(value.index, slots);
    load_servers(model, there, service, value.index, (cluster, &indices))
}

fn quic_flags(service: &Service) -> u32 {
    let flags = |quic: Quic| {
        service_flags::QUIC | u32::from(quic.server_id_length) << 24 | u32::from(quic.config_id) << 28
    };
    service.quic.map_or(0, flags)
}

/// Server IDs of a service's backends, which the map must have and no others.
fn load_servers(
    model: &mut Model,
    there: Servers,
    service: &Service,
    index: u32,
    (cluster, indices): (&Cluster, &[u32]),
) -> Result<()> {
    let mut servers = HashMap::new();
    for (endpoint, backend) in cluster.endpoints.iter().zip(indices) {
        if let (Some(id), Some(_)) = (endpoint.server_id, service.quic) {
            let incarnation = model.backends[backend].incarnation;
            servers.insert(id.bytes().to_vec(), (*backend, incarnation));
        }
    }
    let padded = |id: &Vec<u8>| <[u8; 16]>::try_from([id.as_slice(), &[0; 16]].concat()[..16].to_vec());
    let wanted: HashMap<_, _> = (servers.iter())
        .filter_map(|(id, backend)| Some((padded(id).ok()?, *backend)))
        .collect();
    ensure!(there == wanted, "server IDs {there:?}, not {wanted:?}");
    if let Some(quic) = service.quic {
        let rules = Rules {
            config_id: quic.config_id,
            length: quic.server_id_length.into(),
            servers,
        };
        model.quic.insert(index, rules);
    }
    Ok(())
}

/// Checks that the slots of services without NAT came from those before by the rules, and all others are plain.
pub(super) fn check_slots(before: &Model, after: &Model) -> Result<()> {
    for (key, service) in &after.services {
        let slots = &after.slots[&service.index];
        let old = before
            .services
            .get(key)
            .filter(|old| old.index == service.index)
            .and_then(|old| before.slots.get(&old.index));
        let has_states = service.mode != mode::NAT && service.flags & service_flags::TRACK_NEVER == 0;
        let lives = |index: u32| {
            let backend = after.backends.get(&index);
            let same = before.backends.get(&index).map(|old| old.incarnation);
            backend.is_some_and(|backend| {
                same == Some(backend.incarnation) && backend.flags & backend_flags::DEAD == 0
            })
        };
        for (at, slot) in slots.iter().enumerate() {
            let expected = match old {
                Some(old) if has_states => slot_after(old[at], slot.backend, lives),
                _ => SlotValue::plain(slot.backend),
            };
            ensure!(
                *slot == expected,
                "slot {at} of {key:?} is {slot:?}, not {expected:?}"
            );
        }
    }
    Ok(())
}

/// Free indices in a row that end the list of backends: they are given out from below, and no plan takes this many away at once.
const FREE_RUN: u32 = 256;

/// Every backend, by its index.
fn backends(maps: &Maps) -> Result<HashMap<u32, BackendValue>> {
    let mut backends = HashMap::new();
    let mut free = 0;
    for index in 0..maps.backends.len() {
        let value = maps.backends.get(&index, 0)?;
        if value.incarnation == 0 {
            free += 1;
        } else {
            free = 0;
            backends.insert(index, value);
        }
        if free > FREE_RUN {
            break;
        }
    }
    Ok(backends)
}

/// Checks the backends of a service; returns their indices in the cluster's order.
fn check_backends(model: &Model, service: u32, cluster: &Cluster) -> Result<Vec<u32>> {
    let live: HashMap<(Address, u16), u32> = model
        .backends
        .iter()
        .filter(|(_, value)| value.service == service)
        .map(|(index, value)| ((value.address, value.port), *index))
        .collect();
    let mut indices = Vec::new();
    for endpoint in &cluster.endpoints {
        let address = endpoint.address.0;
        let index = *live
            .get(&(address.ip().into(), address.port()))
            .with_context(|| format!("{address} is not in the map"))?;
        let value = model.backends[&index];
        let flag = |bit: u16| value.flags & bit != 0;
        ensure!(
            flag(backend_flags::DEAD) == (endpoint.health == Health::Unhealthy)
                && flag(backend_flags::DRAINING) == (endpoint.drain || endpoint.weight == 0)
                && flag(backend_flags::LOCAL) == is_local(address.ip()),
            "{address}: flags {:#x}",
            value.flags
        );
        indices.push(index);
    }
    Ok(indices)
}

fn is_local(address: IpAddr) -> bool {
    let (ipv4, ipv6) = super::topology::LOCAL;
    address.to_string() == ipv4 || address.to_string() == ipv6
}
