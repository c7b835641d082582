//! Where a flow's packets go, asked of the maps as the programs ask them.

use super::{
    KernelError, encode, expire,
    ids::{Ids, LiveService},
    maps::Maps,
    table::Memory,
};
use crate::model::{BackendAddr, ServerId};
use aya::maps::MapError;
use proxy_common::{
    hash,
    keys::{FlowKey, ServiceKey},
    quic::ServerKey,
    values::{
        BackendValue, FlowValue, NO_BACKEND, SlotValue, backend_flags, mode, service_flags, slot_state,
    },
};
use std::{net::SocketAddr, time::Duration};

/// What the maps say of a client's flow to a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowFacts {
    /// The hash's slot in the service's Maglev table.
    pub slot: u32,
    /// Slots of that table.
    pub table_size: u32,
    /// Whom the slot gives new flows; none in a table without endpoints.
    pub slot_backend: Option<BackendFacts>,
    /// What the slot's state says of flows without an entry.
    pub slot_state: SlotState,
    /// Whom the source's affinity gives new flows, if it has one in force.
    pub affinity: Option<AffinityFacts>,
    /// Whom the connection ID names, if that one lives.
    pub named: Option<BackendFacts>,
    /// The flow's entry, if it has one that is looked at.
    pub entry: Option<EntryFacts>,
}

/// A source's affinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffinityFacts {
    /// Whom it gives new flows.
    pub backend: BackendFacts,
    /// Since its last flow was opened.
    pub age: Duration,
}

/// The state of a slot: ARCHITECTURE.md, "Just enough flow tracking".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// Flows need no entry, or with NAT all have one.
    Plain,
    /// Flows without an entry that aren't new are those of the backend that it had before.
    Moving(BackendFacts),
    /// Some flows have an entry since their backend is another.
    Tracked,
}

/// A backend as the maps hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackendFacts {
    /// Its address.
    pub address: BackendAddr,
    /// What it gets.
    pub condition: Condition,
}

/// What a backend gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Flows old and new.
    Live,
    /// The flows it has.
    Draining,
    /// Nothing: its health check failed.
    Dead,
    /// Nothing: it is not in the config any more.
    Gone,
}

/// A flow's entry, in the direction from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryFacts {
    /// Who has it.
    pub backend: BackendFacts,
    /// Source that its packets get.
    pub source: SocketAddr,
    /// Destination that its packets get.
    pub destination: SocketAddr,
    /// How far it is.
    pub stage: Stage,
    /// Since its last packet in either direction.
    pub idle: Duration,
}

/// How far a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// One side has not been heard yet.
    Opening,
    /// Both sides have.
    Established,
    /// TCP FIN or RST was seen.
    Closing,
}

/// Asks the maps; none where the destination is no service. Lookups: as a packet's, and the other direction's entry.
pub(super) fn flow(
    maps: &Maps,
    ids: &Ids,
    service: &ServiceKey,
    key: &FlowKey,
    server_id: Option<ServerId>,
) -> Result<Option<FlowFacts>, KernelError> {
    let refused = |error| KernelError::refused("reading the pinned maps", error);
    let Some(service) = ids.service(service) else {
        return Ok(None);
    };
    let table_size = service.value.table_size;
    let slot = hash::slot(hash::slot_hash(key, service.value.flags), table_size);
    let value = match maps.slots.get(&service.index, 0) {
        Ok(table) => Memory::of(&table)?.slot(slot),
        Err(MapError::KeyNotFound) => None,
        Err(error) => return Err(refused(error)),
    };
    let value = value.unwrap_or(SlotValue::plain(NO_BACKEND));
    let facts_of = |index| Ok(backend(maps.backends.get(&index, 0).map_err(refused)?));
    let slot_backend = match value.backend {
        NO_BACKEND => None,
        index => Some(facts_of(index)?),
    };
    let slot_state = match value.moving_from() {
        Some(previous) => SlotState::Moving(facts_of(previous)?),
        None if value.previous == slot_state::TRACKED => SlotState::Tracked,
        None => SlotState::Plain,
    };
    let affinity = affinity(maps, service, key)?;
    let named = match server_id {
        Some(server_id) => named(maps, service, server_id)?,
        None => None,
    };
    if service.value.mode != mode::NAT {
        let is_looked_at =
            slot_state != SlotState::Plain || service.value.flags & service_flags::TRACK_ALWAYS != 0;
        let entry = if is_looked_at { tracked(maps, key)? } else { None };
        return Ok(Some(FlowFacts {
            slot,
            table_size,
            slot_backend,
            slot_state,
            affinity,
            named,
            entry,
        }));
    }
    let entry = match maps.flows.get(key, 0) {
        Ok(entry) => {
            let peer = maps.flows.get(&entry.peer_key(), 0).ok();
            let value = maps.backends.get(&entry.backend, 0).map_err(refused)?;
            Some(facts(&entry, peer.as_ref(), value, expire::now(maps)))
        }
        Err(MapError::KeyNotFound) => None,
        Err(error) => return Err(refused(error)),
    };
    Ok(Some(FlowFacts {
        slot,
        table_size,
        slot_backend,
        slot_state,
        affinity,
        named,
        entry,
    }))
}

/// Whom a connection ID names, if that one gets the packet.
fn named(
    maps: &Maps,
    service: &LiveService,
    server_id: ServerId,
) -> Result<Option<BackendFacts>, KernelError> {
    let refused = |error| KernelError::refused("reading the pinned maps", error);
    let key = ServerKey {
        service: service.index,
        server_id: server_id.padded(),
    };
    let server = match maps.quic_servers.get(&key, 0) {
        Ok(server) => server,
        Err(MapError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let value = maps.backends.get(&server.backend, 0).map_err(refused)?;
    let facts = backend(value);
    let is_in_force = value.incarnation == server.incarnation
        && matches!(facts.condition, Condition::Live | Condition::Draining);
    Ok(is_in_force.then_some(facts))
}

/// As the programs judge it: by its age, and by what the backend gets.
fn affinity(maps: &Maps, service: &LiveService, key: &FlowKey) -> Result<Option<AffinityFacts>, KernelError> {
    let refused = |error| KernelError::refused("reading the pinned maps", error);
    if service.value.flags & service_flags::AFFINITY == 0 {
        return Ok(None);
    }
    let options = maps.service_options.get(&service.index, 0).map_err(refused)?;
    let source = encode::affine_source(service.index, &key.source, &options);
    let entry = match maps.affinities.get(&source, 0) {
        Ok(entry) => entry,
        Err(MapError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let value = maps.backends.get(&entry.backend, 0).map_err(refused)?;
    let facts = backend(value);
    let age = expire::now(maps).saturating_sub(entry.opened);
    let is_in_force = value.incarnation == entry.incarnation
        && facts.condition == Condition::Live
        && age <= options.affinity_ns;
    Ok(is_in_force.then(|| AffinityFacts {
        backend: facts,
        age: Duration::from_nanos(age),
    }))
}

/// The entry of a flow without NAT: its packets stay as they are.
fn tracked(maps: &Maps, key: &FlowKey) -> Result<Option<EntryFacts>, KernelError> {
    let refused = |error| KernelError::refused("reading the pinned maps", error);
    let entry = match maps.tracked_flows.get(key, 0) {
        Ok(entry) => entry,
        Err(MapError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let value = maps.backends.get(&entry.backend, 0).map_err(refused)?;
    let mut backend = backend(value);
    if value.incarnation != entry.incarnation {
        // The index is another backend's by now.
        backend.condition = Condition::Gone;
    }
    let address = |address, port| encode::backend_addr(address, port).0;
    Ok(Some(EntryFacts {
        backend,
        source: address(key.source, key.source_port),
        destination: address(key.destination, key.destination_port),
        stage: match (entry.is_closing(), entry.is_opening()) {
            (true, _) => Stage::Closing,
            (_, true) => Stage::Opening,
            _ => Stage::Established,
        },
        idle: Duration::from_nanos(expire::now(maps).saturating_sub(entry.last_seen)),
    }))
}

fn backend(value: BackendValue) -> BackendFacts {
    let condition = if value.incarnation == 0 {
        Condition::Gone
    } else if value.flags & backend_flags::DEAD != 0 {
        Condition::Dead
    } else if value.flags & backend_flags::DRAINING != 0 {
        Condition::Draining
    } else {
        Condition::Live
    };
    BackendFacts {
        address: encode::backend_addr(value.address, value.port),
        condition,
    }
}

fn facts(entry: &FlowValue, peer: Option<&FlowValue>, value: BackendValue, now: u64) -> EntryFacts {
    let address = |address, port| encode::backend_addr(address, port).0;
    let destination = address(entry.destination, entry.destination_port);
    let mut backend = backend(value);
    if value.incarnation != entry.incarnation {
        // The index is another backend's by now.
        backend = BackendFacts {
            address: BackendAddr(destination),
            condition: Condition::Gone,
        };
    }
    let latest = entry.last_seen.max(peer.map_or(0, |peer| peer.last_seen));
    EntryFacts {
        backend,
        source: address(entry.source, entry.source_port),
        destination,
        stage: match (entry.is_closing(), entry.is_opening()) {
            (true, _) => Stage::Closing,
            (_, true) => Stage::Opening,
            _ => Stage::Established,
        },
        idle: Duration::from_nanos(now.saturating_sub(latest)),
    }
}
