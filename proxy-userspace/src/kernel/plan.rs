//! What a service needs of the maps, worked out before anything is written.

use super::{
    KernelError, encode,
    ids::{Ids, Indices},
    slots,
};
use crate::model::{
    BackendAddr, Cluster, Endpoint, ForwardMode, NatSettings, Service, Snapshot, TunnelSettings,
};
use proxy_common::{
    keys::ServiceKey,
    maglev::MaglevEndpoint,
    net::Address,
    values::{BackendValue, ServiceValue, backend_flags, mode},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What packets to backends get as their source.
pub(super) type Sources<'a> = (&'a NatSettings, &'a TunnelSettings);

/// What one service needs, worked out before anything is written.
pub(super) struct Plan {
    pub(super) key: ServiceKey,
    pub(super) value: ServiceValue,
    pub(super) is_new: bool,
    pub(super) backends: BTreeMap<BackendAddr, (u32, BackendValue)>,
    pub(super) removed: Vec<u32>,
    /// Identity and backend index of every endpoint with weight.
    pub(super) table: Vec<(MaglevEndpoint, u32)>,
    pub(super) table_source: Vec<(BackendAddr, u32)>,
    /// Whether its slots remember where they moved from.
    pub(super) has_states: bool,
    /// What it comes from.
    pub(super) settled: Option<(Service, Option<Arc<Cluster>>)>,
}

impl Plan {
    /// Whether a backend goes or dies: no slot may be moving from it any longer. Its index may be another's next; and if it is revived,
    /// flows that found no room to be stored have gone to the slot's backend meanwhile.
    pub(super) fn loses_any(&self, old: &HashMap<u32, BackendValue>) -> bool {
        let is_dead = |value: &BackendValue| value.flags & backend_flags::DEAD != 0;
        let dies = |(id, value): &(u32, BackendValue)| {
            is_dead(value) && old.get(id).is_some_and(|old| !is_dead(old))
        };
        !self.removed.is_empty() || self.backends.values().any(dies)
    }
}

/// What a service needs; its indices are taken.
pub(super) fn plan(
    ids: &Ids,
    indices: &mut Indices,
    sources: Sources<'_>,
    snapshot: &Snapshot,
    service: &Service,
) -> Result<Plan, KernelError> {
    let key = encode::service_key(service);
    let live = ids.services.get(&key).cloned();
    let index = match &live {
        Some(live) => live.index,
        None => indices.take_service()?,
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
        settled: None,
    };
    let cluster = snapshot.clusters.get(&service.cluster);
    plan_backends(indices, sources, endpoints_of(cluster), old, &mut plan)?;
    plan.settled = Some((service.clone(), cluster.cloned()));
    Ok(plan)
}

/// A cluster's endpoints.
pub(super) fn endpoints_of(cluster: Option<&Arc<Cluster>>) -> &[Endpoint] {
    cluster.map_or(&[][..], |cluster| &cluster.endpoints)
}

/// Gives every endpoint its index and value; what is left of the `old` ones is removed.
fn plan_backends(
    indices: &mut Indices,
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
            None => (indices.take_backend()?, indices.next_incarnation()),
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
            mode: plan.value.mode,
            gue_port: plan.value.gue_port,
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
    }
    Ok(())
}
