//! What changes from one Snapshot to the next, in an order in which nothing is ever referred to
//! before it exists or after it is gone.

use super::{Cluster, EndpointId, Guard, Health, ListenAddr, ServerId, Service, Snapshot, l7::Listener};
use proxy_common::net::Protocol;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// One change; its text is a line for the log and for the API's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// No listener has this VIP, port and protocol any more.
    ServiceRemoved(Box<Service>),
    /// A new cluster, with its endpoints.
    ClusterAdded(Box<Cluster>),
    /// Probed otherwise than before, or no longer.
    HealthCheckChanged(super::ClusterName),
    /// A new endpoint of a cluster that was there.
    EndpointAdded(EndpointId, u32),
    /// Another weight: from, to.
    WeightChanged(EndpointId, u32, u32),
    /// The address is another name's: from, to.
    NameChanged(EndpointId, Option<Arc<str>>, Option<Arc<str>>),
    /// Begins or ends draining.
    DrainChanged(EndpointId, bool),
    /// Connection IDs name it otherwise: from, to.
    ServerIdChanged(EndpointId, Option<ServerId>, Option<ServerId>),
    /// A verdict: from, to.
    HealthChanged(EndpointId, Health, Health),
    /// Its cluster stays.
    EndpointRemoved(EndpointId),
    /// A new VIP, port and protocol.
    ServiceAdded(Box<Service>),
    /// The same VIP, port and protocol with other properties: before, after.
    ServiceChanged(Box<Service>, Box<Service>),
    /// An L7 listener of a new name.
    ListenerAdded(Box<Listener>),
    /// The L7 listener of this name has other properties: addresses, TLS, routes, …
    ListenerChanged(Box<Listener>),
    /// No L7 listener has this name any more.
    ListenerRemoved(Box<Listener>),
    /// Requests are spread, or endpoints spoken to, otherwise than before.
    L7SettingsChanged(super::ClusterName),
    /// Requests are traced otherwise than before, or not any more.
    TracingChanged,
    /// Gone, with its endpoints.
    ClusterRemoved(Box<Cluster>),
}

impl Change {
    /// Whether it ends flows: they are swept at once instead of with the next timer.
    pub fn ends_flows(&self) -> bool {
        match self {
            Self::HealthChanged(_, _, to) => *to == Health::Unhealthy,
            Self::ServiceChanged(from, to) => from.cluster != to.cluster,
            Self::ServiceRemoved(_) | Self::EndpointRemoved(_) => true,
            _ => false,
        }
    }
}

/// The changes that lead from one snapshot to the other; none when they differ in generation only.
pub fn diff(from: &Snapshot, to: &Snapshot) -> Vec<Change> {
    let (mut changes, of_services) = diff_services(from, to);
    for cluster in to.clusters_besides(from) {
        match from.clusters.get(&cluster.name) {
            None => changes.push(Change::ClusterAdded(Box::new(Cluster::clone(cluster)))),
            Some(before) => diff_cluster(before, cluster, &mut changes),
        }
    }
    changes.extend(of_services);
    if !Arc::ptr_eq(&from.listeners, &to.listeners) {
        diff_listeners(&from.listeners, &to.listeners, &mut changes);
    }
    if from.settings.tracing != to.settings.tracing {
        changes.push(Change::TracingChanged);
    }
    let gone = from
        .clusters_besides(to)
        .filter(|cluster| !to.clusters.contains_key(&cluster.name));
    changes.extend(gone.map(|cluster| Change::ClusterRemoved(Box::new(Cluster::clone(cluster)))));
    changes
}

/// Services that are gone; and those that came, or have changed.
fn diff_services(from: &Snapshot, to: &Snapshot) -> (Vec<Change>, Vec<Change>) {
    if Arc::ptr_eq(&from.services, &to.services) {
        return (Vec::new(), Vec::new());
    }
    let old = by_address(from);
    let new = by_address(to);
    let gone = (from.services.iter())
        .filter(|service| !new.contains_key(&identity(service)))
        .map(|service| Change::ServiceRemoved(Box::new(service.clone())));
    let others = (to.services.iter()).filter_map(|service| match old.get(&identity(service)) {
        None => Some(Change::ServiceAdded(Box::new(service.clone()))),
        Some(before) if *before != service => Some(Change::ServiceChanged(
            Box::new((*before).clone()),
            Box::new(service.clone()),
        )),
        Some(_) => None,
    });
    (gone.collect(), others.collect())
}

fn diff_listeners(from: &[Listener], to: &[Listener], changes: &mut Vec<Change>) {
    fn by_name(listeners: &[Listener]) -> BTreeMap<&str, &Listener> {
        (listeners.iter())
            .map(|listener| (&*listener.name, listener))
            .collect()
    }
    let (old, new) = (by_name(from), by_name(to));
    for listener in to {
        match old.get(&*listener.name) {
            None => changes.push(Change::ListenerAdded(Box::new(listener.clone()))),
            Some(before) if *before != listener => {
                changes.push(Change::ListenerChanged(Box::new(listener.clone())));
            }
            Some(_) => {}
        }
    }
    let gone = from.iter().filter(|listener| !new.contains_key(&*listener.name));
    changes.extend(gone.map(|listener| Change::ListenerRemoved(Box::new(listener.clone()))));
}

fn diff_cluster(from: &Cluster, to: &Cluster, changes: &mut Vec<Change>) {
    let id = |address| EndpointId {
        cluster: to.name.clone(),
        address,
    };
    let old: BTreeMap<_, _> = (from.endpoints.iter())
        .map(|endpoint| (endpoint.address, endpoint))
        .collect();
    let new: BTreeMap<_, _> = (to.endpoints.iter())
        .map(|endpoint| (endpoint.address, endpoint))
        .collect();
    if from.health_check != to.health_check {
        changes.push(Change::HealthCheckChanged(to.name.clone()));
    }
    if from.l7 != to.l7 {
        changes.push(Change::L7SettingsChanged(to.name.clone()));
    }
    for after in &to.endpoints {
        let Some(before) = old.get(&after.address) else {
            changes.push(Change::EndpointAdded(id(after.address), after.weight));
            continue;
        };
        if before.name != after.name {
            changes.push(Change::NameChanged(
                id(after.address),
                before.name.clone(),
                after.name.clone(),
            ));
        }
        if before.weight != after.weight {
            changes.push(Change::WeightChanged(
                id(after.address),
                before.weight,
                after.weight,
            ));
        }
        if before.drain != after.drain {
            changes.push(Change::DrainChanged(id(after.address), after.drain));
        }
        if before.server_id != after.server_id {
            changes.push(Change::ServerIdChanged(
                id(after.address),
                before.server_id,
                after.server_id,
            ));
        }
        if before.health != after.health {
            changes.push(Change::HealthChanged(
                id(after.address),
                before.health,
                after.health,
            ));
        }
    }
    let gone = (from.endpoints.iter()).filter(|endpoint| !new.contains_key(&endpoint.address));
    changes.extend(gone.map(|endpoint| Change::EndpointRemoved(id(endpoint.address))));
}

/// What makes a service the same one: clients know it by this, not by the listener's name.
fn identity(service: &Service) -> (ListenAddr, Protocol) {
    (service.address, service.protocol)
}

fn by_address(snapshot: &Snapshot) -> BTreeMap<(ListenAddr, Protocol), &Service> {
    (snapshot.services.iter())
        .map(|service| (identity(service), service))
        .collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceRemoved(service) => {
                write!(
                    f,
                    "service {}: removed ({} {})",
                    service.name,
                    service.protocol.name(),
                    service.address
                )
            }
            Self::ServiceAdded(service) => write!(
                f,
                "service {}: added, {} {} to cluster {}",
                service.name,
                service.protocol.name(),
                service.address,
                service.cluster
            ),
            Self::ServiceChanged(from, to) => fmt_service_changed(f, from, to),
            Self::ListenerAdded(listener) => write!(f, "listener {}: added", listener.name),
            Self::ListenerChanged(listener) => write!(f, "listener {}: changed", listener.name),
            Self::ListenerRemoved(listener) => write!(f, "listener {}: removed", listener.name),
            Self::L7SettingsChanged(cluster) => write!(f, "cluster {cluster}: L7 settings changed"),
            Self::TracingChanged => f.write_str("tracing: changed"),
            Self::ClusterAdded(cluster) => {
                write!(
                    f,
                    "cluster {}: added (endpoints: {})",
                    cluster.name,
                    cluster.endpoints.len()
                )
            }
            Self::ClusterRemoved(cluster) => write!(f, "cluster {}: removed", cluster.name),
            Self::HealthCheckChanged(cluster) => write!(f, "cluster {cluster}: health_check changed"),
            Self::EndpointAdded(id, weight) => write!(f, "{id}: added, weight {weight}"),
            Self::EndpointRemoved(id) => write!(f, "{id}: removed"),
            Self::NameChanged(id, from, to) => {
                let shown = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("none").to_owned();
                write!(f, "{id}: name {} -> {}", shown(from), shown(to))
            }
            Self::WeightChanged(id, from, to) => write!(f, "{id}: weight {from} -> {to}"),
            Self::DrainChanged(id, true) => write!(f, "{id}: draining"),
            Self::DrainChanged(id, false) => write!(f, "{id}: no longer draining"),
            Self::ServerIdChanged(id, from, to) => {
                let shown = |id: &Option<ServerId>| id.map_or("none".to_owned(), |id| id.to_string());
                write!(f, "{id}: server_id {} -> {}", shown(from), shown(to))
            }
            Self::HealthChanged(id, from, to) => write!(f, "{id}: {from} -> {to}"),
        }
    }
}

fn fmt_service_changed(f: &mut fmt::Formatter<'_>, from: &Service, to: &Service) -> fmt::Result {
    write!(f, "service {}:", from.name)?;
    let mut separator = " ";
    let mut part = |text: fmt::Arguments<'_>| {
        let result = write!(f, "{separator}{text}");
        separator = ", ";
        result
    };
    if from.name != to.name {
        part(format_args!("renamed {}", to.name))?;
    }
    if from.cluster != to.cluster {
        part(format_args!("cluster {} -> {}", from.cluster, to.cluster))?;
    }
    if from.mode != to.mode {
        part(format_args!("mode {} -> {}", from.mode, to.mode))?;
    }
    if from.table_size != to.table_size {
        part(format_args!(
            "table_size {} -> {}",
            from.table_size, to.table_size
        ))?;
    }
    if from.hash != to.hash {
        part(format_args!("hash {} -> {}", from.hash, to.hash))?;
    }
    if from.tracking != to.tracking {
        part(format_args!("tracking {} -> {}", from.tracking, to.tracking))?;
    }
    let (before, after) = (&from.guard, &to.guard);
    if (&before.allow, &before.deny) != (&after.allow, &after.deny) {
        let count = |guard: &Guard| guard.allow.len() + guard.deny.len();
        part(format_args!(
            "allow and deny changed ({} -> {} prefixes)",
            count(before),
            count(after)
        ))?;
    }
    if (before.packets, before.connections) != (after.packets, after.connections) {
        part(format_args!("limits changed"))?;
    }
    let affinity = |service: &Service| service.affinity.map_or("none".to_owned(), |it| it.to_string());
    let quic = |service: &Service| service.quic.map_or("none".to_owned(), |it| it.to_string());
    if from.quic != to.quic {
        part(format_args!("quic {} -> {}", quic(from), quic(to)))?;
    }
    if from.affinity != to.affinity {
        part(format_args!("affinity {} -> {}", affinity(from), affinity(to)))?;
    }
    if from.max_segment_size != to.max_segment_size {
        part(format_args!("max_segment_size changed"))?;
    }
    if from.idle_timeouts != to.idle_timeouts {
        part(format_args!("idle_timeouts changed"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
