//! From what is wanted and what is known to a Snapshot.

use super::{
    desired::{Desired, Touched},
    overrides::Overrides,
    verdicts::Verdicts,
};
use crate::model::{Cluster, ClusterName, DaemonSettings, EndpointId, Health, Service, Snapshot};
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

/// The snapshot for what is wanted, and warnings about what has to wait for the next start.
/// `running` is what runs, and the warnings that came with it; none for the first one.
pub(super) fn build(
    generation: u64,
    desired: &Desired,
    verdicts: &Verdicts,
    running: Option<(&Snapshot, &[String])>,
) -> (Snapshot, Vec<String>) {
    match (running, &desired.touched) {
        (Some((running, warnings)), Touched::These(names)) => {
            let next = retouched(generation, desired, verdicts, running, names);
            (next, warnings.to_vec())
        }
        _ => build_all(generation, desired, verdicts, running.map(|(running, _)| running)),
    }
}

/// What runs, with these clusters made anew.
fn retouched(
    generation: u64,
    desired: &Desired,
    verdicts: &Verdicts,
    running: &Snapshot,
    names: &BTreeSet<ClusterName>,
) -> Snapshot {
    let mut next = Snapshot {
        generation,
        ..running.clone()
    };
    let clusters = names
        .iter()
        .filter_map(|name| desired.clusters.get_key_value(name));
    for (name, cluster) in clusters {
        let cluster = with_overrides_and_health(cluster, &desired.overrides, verdicts);
        Arc::make_mut(&mut next.clusters).insert(name.clone(), Arc::new(cluster));
    }
    next
}

fn build_all(
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
        settings = DaemonSettings::clone(&running.settings);
        follow_admin(&mut settings, &config.settings);
        settings.drain = config.settings.drain;
        settings.memory_limit = config.settings.memory_limit;
        settings.tracing.clone_from(&config.settings.tracing);
        freeze_table_sizes(&running.services, &mut services, &mut warnings);
    }
    let clusters = desired.clusters.iter().map(|(name, cluster)| {
        let cluster = with_overrides_and_health(cluster, &desired.overrides, verdicts);
        let same = running.and_then(|running| running.clusters.get(name));
        let same = same.filter(|running| ***running == cluster);
        (name.clone(), same.map_or_else(|| Arc::new(cluster), Arc::clone))
    });
    let next = Snapshot {
        generation,
        services: shared(services, running.map(|running| &running.services)),
        listeners: shared(
            config.listeners.clone(),
            running.map(|running| &running.listeners),
        ),
        clusters: Arc::new(clusters.collect()),
        settings: Arc::new(settings),
    };
    (next, warnings)
}

/// What runs, if it is equal: whoever sees that it is the same needn't compare.
fn shared<T: PartialEq>(next: T, running: Option<&Arc<T>>) -> Arc<T> {
    match running {
        Some(running) if **running == next => Arc::clone(running),
        _ => Arc::new(next),
    }
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
            "kernel.max_fragments",
            running.max_fragments != wanted.max_fragments,
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
        ("admin.address", admin_address(running) != admin_address(wanted)),
        (
            "admin.audit_log",
            running.admin.audit_log != wanted.admin.audit_log,
        ),
        ("upgrade", running.upgrade != wanted.upgrade),
        (
            "state_directory",
            running.admin.state_directory != wanted.admin.state_directory,
        ),
        (
            "metrics.address",
            running.metrics_address != wanted.metrics_address,
        ),
    ];
    (keys.into_iter().filter(|(_, changed)| *changed))
        .map(|(key, _)| format!("{key}: the change takes effect at the next start"))
        .collect()
}

fn admin_address(settings: &DaemonSettings) -> Option<SocketAddr> {
    settings.admin.remote.as_ref().map(|remote| remote.address)
}

/// Who may come in changes live, where they come in does not.
fn follow_admin(running: &mut DaemonSettings, wanted: &DaemonSettings) {
    if let (Some(running), Some(wanted)) = (&mut running.admin.remote, &wanted.admin.remote) {
        // Whether there is TLS goes with the address: plain text is for loopback alone.
        if running.address == wanted.address {
            running.clone_from(wanted);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::status::EndpointPatch,
        config,
        control::verdicts::Verdict,
        model::{BackendAddr, diff},
    };
    use std::{env, fs, process};

    const CONFIG: &str = "interfaces: [eth0]
listeners:
  - { name: a, address: 192.0.2.1:80, forward: { cluster: a } }
  - { name: b, address: 192.0.2.2:80, forward: { cluster: b } }
clusters:
  - { name: a, endpoints: [198.51.100.1:80, 198.51.100.2:80], health_check: { tcp: {} } }
  - { name: b, endpoints: [198.51.100.3:80] }
";

    fn id(cluster: &str, address: &str) -> EndpointId {
        EndpointId {
            cluster: ClusterName(cluster.into()),
            address: BackendAddr(address.parse().unwrap()),
        }
    }

    #[test]
    fn what_was_not_touched_is_shared_and_the_outcome_is_that_of_building_all() {
        let path = env::temp_dir().join(format!("weir-build-{}.yaml", process::id()));
        fs::write(&path, CONFIG).unwrap();
        let mut desired = Desired::new(config::load(&path).unwrap(), Overrides::default());
        fs::remove_file(&path).unwrap();
        let mut verdicts = Verdicts::new();
        let (first, warnings) = build(1, &desired, &verdicts, None);
        desired.touched = Touched::nothing();
        let unhealthy = Verdict::new(Health::Unhealthy, None);
        let drain = EndpointPatch {
            drain: Some(true),
            ..EndpointPatch::default()
        };
        desired.set_endpoint(&id("a", "198.51.100.1:80"), drain).unwrap();
        verdicts.insert(id("a", "198.51.100.2:80"), unhealthy);
        let (next, _) = build(2, &desired, &verdicts, Some((&first, &warnings)));
        desired.touched = Touched::All;
        let (all, _) = build(2, &desired, &verdicts, Some((&first, &warnings)));
        assert_eq!(next, all);
        assert_eq!(diff(&first, &next).len(), 2);
        for snapshot in [&next, &all] {
            let others = snapshot.clusters_besides(&first);
            assert_eq!(others.map(|cluster| &*cluster.name.0).collect::<Vec<_>>(), ["a"]);
            assert!(Arc::ptr_eq(&snapshot.services, &first.services));
        }
    }
}
