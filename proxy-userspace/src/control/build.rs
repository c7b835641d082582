//! From what is wanted and what is known to a Snapshot.

use super::{desired::Desired, overrides::Overrides};
use crate::{
    config::Loaded,
    model::{
        BackendAddr, Cluster, ClusterName, DaemonSettings, EndpointId, Health, ListenAddr, Service, Snapshot,
    },
};
use proxy_common::net::Protocol;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::SystemTime,
};

/// What is known of an endpoint's health.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) health: Health,
    pub(super) last_error: Option<String>,
    pub(super) changed: Option<SystemTime>,
}

/// By endpoint; only those that are checked.
pub(super) type Verdicts = HashMap<EndpointId, Verdict>;

/// The snapshot for what is wanted, and warnings about what has to wait for the next start.
/// `running` is none for the first one.
pub(super) fn build(
    generation: u64,
    desired: &Desired,
    verdicts: &Verdicts,
    running: Option<&Snapshot>,
) -> (Snapshot, Vec<String>) {
    let config = &desired.config;
    let mut warnings = config.warnings.clone();
    let mut services = config.services.clone();
    let mut settings = config.settings.clone();
    if let Some(running) = running {
        warnings.extend(frozen_settings(&running.settings, &config.settings));
        settings = running.settings.clone();
        freeze_table_sizes(&running.services, &mut services, &mut warnings);
    }
    let clusters = desired.clusters.iter().map(|(name, cluster)| {
        (
            name.clone(),
            with_overrides_and_health(cluster, &desired.overrides, verdicts),
        )
    });
    (
        Snapshot {
            generation,
            services,
            listeners: config.listeners.clone(),
            clusters: clusters.collect(),
            settings,
        },
        warnings,
    )
}

fn with_overrides_and_health(cluster: &Cluster, overrides: &Overrides, verdicts: &Verdicts) -> Cluster {
    let mut cluster = cluster.clone();
    for endpoint in &mut cluster.endpoints {
        let id = EndpointId {
            cluster: cluster.name.clone(),
            address: endpoint.address,
        };
        overrides.apply(&id, endpoint);
        endpoint.health = match (&cluster.health_check, verdicts.get(&id)) {
            (Some(_), Some(verdict)) => verdict.health,
            _ => Health::Unknown,
        };
    }
    cluster
}

/// One warning for each setting that is read at start only and is now written otherwise.
fn frozen_settings(running: &DaemonSettings, wanted: &DaemonSettings) -> Vec<String> {
    let keys = [
        ("workers", running.workers != wanted.workers),
        ("pin_workers", running.pin_workers != wanted.pin_workers),
        ("interfaces", running.interfaces != wanted.interfaces),
        ("kernel.pin_path", running.pin_path != wanted.pin_path),
        ("kernel.max_services", running.max_services != wanted.max_services),
        ("kernel.max_backends", running.max_backends != wanted.max_backends),
        ("kernel.max_flows", running.max_flows != wanted.max_flows),
        (
            "kernel.max_tracked_flows",
            running.max_tracked_flows != wanted.max_tracked_flows,
        ),
        (
            "kernel.max_affinities",
            running.max_affinities != wanted.max_affinities,
        ),
        (
            "kernel.new_flows_per_second",
            running.new_flows_per_second != wanted.new_flows_per_second,
        ),
        ("role", running.role != wanted.role),
        (
            "decap",
            (&running.decap_vips, running.decap_segment) != (&wanted.decap_vips, wanted.decap_segment),
        ),
        ("tunnel", running.tunnel != wanted.tunnel),
        (
            "nat.source_ipv4",
            running.nat.source_ipv4 != wanted.nat.source_ipv4,
        ),
        (
            "nat.source_ipv6",
            running.nat.source_ipv6 != wanted.nat.source_ipv6,
        ),
        ("nat.ports", running.nat.ports != wanted.nat.ports),
        ("dns.servers", running.dns_servers != wanted.dns_servers),
        ("admin.socket", running.admin_socket != wanted.admin_socket),
    ];
    (keys.into_iter().filter(|(_, changed)| *changed))
        .map(|(key, _)| format!("{key}: the change takes effect at the next start"))
        .collect()
}

/// A service keeps its table's size for life: another size would move nearly every flow at once.
fn freeze_table_sizes(running: &[Service], wanted: &mut [Service], warnings: &mut Vec<String>) {
    let sizes: HashMap<_, _> = running
        .iter()
        .map(|service| ((service.address, service.protocol), service.table_size))
        .collect();
    for service in wanted {
        match sizes.get(&(service.address, service.protocol)) {
            Some(&size) if size != service.table_size => {
                warnings.push(format!(
                    "listener {}: forward.table_size: stays {size}, since {} would move its flows; \
                     takes effect at the next start, or when the listener is removed and added again",
                    service.name, service.table_size
                ));
                service.table_size = size;
            }
            _ => {}
        }
    }
}

/// Verdicts on the checked endpoints among these backends.
pub(super) fn verdicts_of_dead(dead: &[(ListenAddr, Protocol, BackendAddr)], config: &Loaded) -> Verdicts {
    let clusters: HashMap<_, _> = (config.services.iter())
        .map(|service| ((service.address, service.protocol), &service.cluster))
        .collect();
    let mut verdicts: Verdicts = (dead.iter())
        .filter_map(|(address, protocol, backend)| {
            let cluster = ClusterName::clone(clusters.get(&(*address, *protocol))?);
            let last_error = Some("dead before weir was started again".into());
            let verdict = Verdict {
                health: Health::Unhealthy,
                last_error,
                changed: None,
            };
            Some((
                EndpointId {
                    cluster,
                    address: *backend,
                },
                verdict,
            ))
        })
        .collect();
    prune(&mut verdicts, &config.clusters);
    verdicts
}

/// Forgets what was known of endpoints that are gone or no longer checked.
pub(super) fn prune(verdicts: &mut Verdicts, clusters: &BTreeMap<ClusterName, Cluster>) {
    let checked = clusters.values().filter(|cluster| cluster.health_check.is_some());
    let checked: HashSet<EndpointId> = checked
        .flat_map(|cluster| {
            let id = |address| EndpointId {
                cluster: cluster.name.clone(),
                address,
            };
            cluster.endpoints.iter().map(move |endpoint| id(endpoint.address))
        })
        .collect();
    verdicts.retain(|id, _| checked.contains(id));
}
