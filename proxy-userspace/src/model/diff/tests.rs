//! Snapshots a step apart and the lines that tell them apart.

use super::*;
use crate::model::{
    BackendAddr, ClusterName, DaemonSettings, Endpoint, FlowHash, ForwardMode, Guard, HealthCheck,
    IdleTimeouts, NatSettings, Probe, Role, Span, TcpCheck, Tracking, TunnelSettings, l7::L7Settings,
};
use std::time::Duration;

fn endpoint(address: &str, weight: u32) -> Endpoint {
    let address = BackendAddr(address.parse().unwrap());
    Endpoint {
        address,
        name: None,
        weight,
        drain: false,
        server_id: None,
        health: Health::Unknown,
    }
}

fn cluster(name: &str, endpoints: Vec<Endpoint>) -> Cluster {
    Cluster {
        name: ClusterName(name.into()),
        endpoints,
        health_check: None,
        dns: Vec::new(),
        l7: L7Settings::default(),
    }
}

fn service(name: &str, address: &str, cluster: &str) -> Service {
    Service {
        name: name.into(),
        address: ListenAddr(address.parse().unwrap()),
        span: Span::single(ListenAddr(address.parse().unwrap())),
        protocol: Protocol::Udp,
        cluster: ClusterName(cluster.into()),
        mode: ForwardMode::Nat,
        table_size: 65_537,
        hash: FlowHash::FiveTuple,
        tracking: Tracking::Auto,
        affinity: None,
        quic: None,
        max_segment_size: None,
        guard: Guard::default(),
        idle_timeouts: IdleTimeouts::default(),
    }
}

fn snapshot(services: Vec<Service>, clusters: Vec<Cluster>) -> Snapshot {
    Snapshot {
        generation: 1,
        listeners: Arc::default(),
        services: Arc::new(services),
        clusters: Arc::new(
            clusters
                .into_iter()
                .map(|cluster| (cluster.name.clone(), Arc::new(cluster)))
                .collect(),
        ),
        settings: Arc::new(DaemonSettings {
            interfaces: Vec::new(),
            pin_path: "/sys/fs/bpf/none".into(),
            admin_socket: "/run/none".into(),
            admin: Default::default(),
            metrics_address: None,
            nat: NatSettings {
                source_ipv4: None,
                source_ipv6: None,
                ports: (1_024, 32_767),
            },
            max_services: 1,
            max_backends: 1,
            max_flows: 1,
            max_tracked_flows: 1,
            max_fragments: 1,
            max_affinities: 1,
            new_flows_per_second: None,
            upgrade: Default::default(),
            drain: Default::default(),
            memory_limit: None,
            tracing: None,
            tunnel: TunnelSettings::default(),
            role: Role::Balancer,
            decap_vips: Vec::new(),
            decap_segment: None,
            workers: None,
            pin_workers: false,
            dns_servers: Vec::new(),
        }),
    }
}

/// A cluster of a snapshot, to change.
fn cluster_of<'a>(snapshot: &'a mut Snapshot, name: &str) -> &'a mut Cluster {
    let clusters = Arc::make_mut(&mut snapshot.clusters);
    Arc::make_mut(clusters.get_mut(&ClusterName(name.into())).unwrap())
}

fn lines(from: &Snapshot, to: &Snapshot) -> Vec<String> {
    diff(from, to).iter().map(ToString::to_string).collect()
}

fn base() -> Snapshot {
    snapshot(
        vec![service("dns", "192.0.2.53:53", "dns")],
        vec![cluster(
            "dns",
            vec![endpoint("198.51.100.1:53", 1), endpoint("198.51.100.2:53", 1)],
        )],
    )
}

#[test]
fn generation_alone_is_no_change() {
    let later = Snapshot {
        generation: 7,
        ..base()
    };
    assert_eq!(diff(&base(), &later), []);
}

#[test]
fn order_of_endpoints_and_services_is_no_change() {
    let mut from = base();
    Arc::make_mut(&mut from.services).push(service("ntp", "192.0.2.53:123", "dns"));
    let mut to = from.clone();
    Arc::make_mut(&mut to.services).reverse();
    cluster_of(&mut to, "dns").endpoints.reverse();
    assert_eq!(diff(&from, &to), []);
}

#[test]
fn each_property_of_an_endpoint_has_its_line() {
    let mut to = base();
    let endpoints = &mut cluster_of(&mut to, "dns").endpoints;
    endpoints[0].weight = 3;
    endpoints[0].drain = true;
    endpoints[0].health = Health::Unhealthy;
    endpoints[1] = endpoint("198.51.100.3:53", 2);
    assert_eq!(
        lines(&base(), &to),
        [
            "cluster dns endpoint 198.51.100.1:53: weight 1 -> 3",
            "cluster dns endpoint 198.51.100.1:53: draining",
            "cluster dns endpoint 198.51.100.1:53: unknown -> unhealthy",
            "cluster dns endpoint 198.51.100.3:53: added, weight 2",
            "cluster dns endpoint 198.51.100.2:53: removed",
        ]
    );
    assert_eq!(
        diff(&base(), &to)
            .iter()
            .filter(|change| change.ends_flows())
            .count(),
        2
    );
    assert_eq!(
        lines(&to, &base())[1],
        "cluster dns endpoint 198.51.100.1:53: no longer draining"
    );
}

#[test]
fn nothing_is_referred_to_before_it_exists_or_after_it_is_gone() {
    let mut to = snapshot(
        vec![
            service("dns", "192.0.2.53:53", "new"),
            service("ntp", "192.0.2.53:123", "new"),
        ],
        vec![cluster("new", vec![endpoint("198.51.100.1:53", 1)])],
    );
    Arc::make_mut(&mut to.services)[0].idle_timeouts.udp = Duration::from_secs(1);
    let mut from = base();
    Arc::make_mut(&mut from.services).push(service("old", "192.0.2.53:54", "dns"));
    assert_eq!(
        lines(&from, &to),
        [
            "service old: removed (udp 192.0.2.53:54)",
            "cluster new: added (endpoints: 1)",
            "service dns: cluster dns -> new, idle_timeouts changed",
            "service ntp: added, udp 192.0.2.53:123 to cluster new",
            "cluster dns: removed",
        ]
    );
}

#[test]
fn a_listener_is_its_address_not_its_name() {
    let mut to = base();
    Arc::make_mut(&mut to.services)[0].name = "resolver".into();
    assert_eq!(lines(&base(), &to), ["service dns: renamed resolver"]);
}

#[test]
fn another_health_check_is_a_change() {
    let mut to = base();
    cluster_of(&mut to, "dns").health_check = Some(HealthCheck {
        probe: Probe::Tcp(TcpCheck { port: None }),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
    });
    assert_eq!(lines(&base(), &to), ["cluster dns: health_check changed"]);
}
