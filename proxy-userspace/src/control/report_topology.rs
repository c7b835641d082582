//! `GET /topology`: what is wrong, and what goes where.

use super::{
    Core,
    report::{state, unix_seconds},
    report_l7::{protocol, shown},
    report_upstream::Counted,
};
use crate::{
    admin::{
        judge::{Health, judge, listener_health, service_health},
        status::{BackendState, CounterStatus, ListenerStatus, ServiceStatus, Status},
        topology::{ClusterNode, DownstreamView, EndpointCounts, ListenerNode, TargetNode, TopologyAnswer},
        views::EndpointView,
    },
    l7::{CompiledListener, meters::BOUNDS_SECONDS},
    model::{
        Cluster, Endpoint,
        l7::{Action, Listener, ListenerKind},
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

/// Endpoints of a cluster that are shown one by one.
const MOST_OF_A_CLUSTER: usize = 8;

/// The same over all clusters: the answer stays below some MiB.
const MOST_IN_ALL: usize = 2_000;

impl Core {
    /// `GET /topology`. Of endpoints few are answered, so that the page may ask every second.
    pub(crate) fn topology(&self) -> TopologyAnswer {
        let status = self.status();
        let now = unix_seconds(SystemTime::now());
        let verdict = (&judge(&status, None, now)).into();
        let drops = status.kernel.drops.iter().filter(|drop| drop.packets > 0);
        TopologyAnswer {
            verdict,
            listeners: self.listener_nodes(&status, now),
            clusters: self.cluster_nodes(&status),
            flows: status.kernel.flows + status.kernel.tracked_flows,
            drops: drops.cloned().collect(),
            latency_bounds_seconds: BOUNDS_SECONDS.to_vec(),
            drain: status.drain,
            version: status.version,
            pid: status.pid,
            started_unix_seconds: status.started_unix_seconds,
            generation: status.generation,
        }
    }

    fn listener_nodes(&self, status: &Status, now: u64) -> Vec<ListenerNode> {
        let has_kernel = status.kernel.absent.is_none();
        let services = status
            .services
            .iter()
            .map(|service| service_node(service, has_kernel));
        let compiled = self.plane.l7().compiled();
        let compiled: HashMap<&str, &CompiledListener> = (compiled.iter())
            .flat_map(|compiled| &compiled.listeners)
            .map(|listener| (&*listener.model.name, &**listener))
            .collect();
        let of_l7 = self.snapshot.listeners.iter().zip(&status.l7.listeners);
        let of_l7 = of_l7.map(|(listener, status)| {
            listener_node(listener, status, compiled.get(&*listener.name).copied(), now)
        });
        services.chain(of_l7).collect()
    }

    fn cluster_nodes(&self, status: &Status) -> Vec<ClusterNode> {
        let mut services: HashMap<&str, Vec<&ServiceStatus>> = HashMap::new();
        for service in &status.services {
            services.entry(&service.cluster).or_default().push(service);
        }
        let counted = Counted::of_l7(self.plane.l7().compiled());
        let mut left = MOST_IN_ALL;
        let clusters = self.snapshot.clusters.values();
        let node = |cluster: &Cluster| {
            let services = services.get(&*cluster.name.0).map_or(&[][..], |found| found);
            let shown = self.shown_endpoints(cluster, services, &counted, &mut left);
            let checked = cluster.health_check.as_ref();
            ClusterNode {
                name: cluster.name.to_string(),
                policy: super::report_weights::policy(cluster.l7.policy).into(),
                health_check: checked.map(|check| super::report_weights::health_check(check).kind),
                endpoints: counts(cluster),
                effective_weight: (cluster.endpoints.iter())
                    .map(|endpoint| u64::from(endpoint.effective_weight()))
                    .sum(),
                kernel: sum(services.iter().filter_map(|service| service.counters)),
                l7: counted.cluster(&cluster.name),
                shown,
            }
        };
        clusters.map(|cluster| &**cluster).map(node).collect()
    }

    /// All if they are few, else the first ones that need a look.
    fn shown_endpoints(
        &self,
        cluster: &Cluster,
        services: &[&ServiceStatus],
        counted: &Counted<'_>,
        left: &mut usize,
    ) -> Vec<EndpointView> {
        let endpoints = &cluster.endpoints;
        let needs_look =
            |endpoint: &Endpoint| matches!(state(endpoint), BackendState::Unhealthy | BackendState::Draining);
        let is_small = endpoints.len() <= MOST_OF_A_CLUSTER;
        let chosen = endpoints.iter().enumerate();
        let chosen = chosen.filter(|(_, endpoint)| is_small || needs_look(endpoint));
        let total = endpoints
            .iter()
            .map(|each| u64::from(each.effective_weight()))
            .sum();
        let most = MOST_OF_A_CLUSTER.min(*left);
        let views: Vec<EndpointView> = chosen
            .take(most)
            .map(|(place, endpoint)| {
                let backends = services.iter().filter_map(|service| service.backends.get(place));
                let kernel = sum(backends.filter_map(|backend| backend.counters));
                let l7 = counted.endpoint(&cluster.name, endpoint.address);
                self.endpoint_view(cluster, endpoint, total, (kernel, l7))
            })
            .collect();
        *left -= views.len();
        views
    }
}

fn service_node(service: &ServiceStatus, has_kernel: bool) -> ListenerNode {
    let health = if has_kernel {
        service_health(service)
    } else {
        Health::Failing
    };
    ListenerNode {
        name: service.name.clone(),
        plane: "l4".into(),
        protocol: service.protocol.clone(),
        mode: Some(service.mode.clone()),
        addresses: vec![service.address.clone()],
        health: health.word().into(),
        targets: vec![TargetNode {
            cluster: service.cluster.clone(),
            routes: 0,
        }],
        answering_routes: 0,
        kernel: service.counters,
        l7: None,
    }
}

fn listener_node(
    listener: &Listener,
    status: &ListenerStatus,
    compiled: Option<&CompiledListener>,
    now: u64,
) -> ListenerNode {
    let (targets, answering_routes) = targets(listener);
    ListenerNode {
        name: listener.name.to_string(),
        plane: "l7".into(),
        protocol: protocol(listener).0.into(),
        mode: None,
        addresses: listener.addresses.iter().map(shown).collect(),
        health: listener_health(status, now).word().into(),
        targets,
        answering_routes,
        kernel: None,
        l7: compiled.map(downstream),
    }
}

/// Where its routes lead, and how many lead nowhere.
fn targets(listener: &Listener) -> (Vec<TargetNode>, usize) {
    let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
    let mut answering = 0;
    match &listener.kind {
        ListenerKind::Http { routes, .. } => {
            for route in routes.iter() {
                match &route.action {
                    Action::Forward(weighted) => {
                        for target in weighted {
                            *clusters.entry(&target.cluster.0).or_default() += 1;
                        }
                    }
                    Action::Redirect(_) | Action::Respond(_) => answering += 1,
                }
            }
        }
        ListenerKind::Tcp { settings, .. } => {
            for route in &settings.sni {
                *clusters.entry(&route.cluster.0).or_default() += 1;
            }
            if let Some(cluster) = &settings.cluster {
                clusters.entry(&cluster.0).or_default();
            }
        }
    }
    let node = |(cluster, routes): (&str, usize)| TargetNode {
        cluster: cluster.to_owned(),
        routes,
    };
    (clusters.into_iter().map(node).collect(), answering)
}

fn downstream(listener: &CompiledListener) -> DownstreamView {
    let total = listener.meters.listener.total();
    let mut view = DownstreamView {
        connections: total.connections,
        accepted: total.accepted,
        requests: 0,
        responses: [0; 5],
        received_bytes: total.received,
        sent_bytes: total.sent,
    };
    for share in listener.meters.routes().flat_map(|(_, shares)| shares.made()) {
        view.requests += share.requests.value();
        for (total, count) in view.responses.iter_mut().zip(&share.responses) {
            *total += count.value();
        }
    }
    view
}

fn counts(cluster: &Cluster) -> EndpointCounts {
    let mut counts = EndpointCounts {
        total: cluster.endpoints.len(),
        ..EndpointCounts::default()
    };
    for endpoint in &cluster.endpoints {
        *match state(endpoint) {
            BackendState::Healthy => &mut counts.healthy,
            BackendState::Unknown => &mut counts.unknown,
            BackendState::Unhealthy => &mut counts.unhealthy,
            BackendState::Draining => &mut counts.draining,
        } += 1;
    }
    counts
}

/// None of none.
fn sum(counters: impl Iterator<Item = CounterStatus>) -> Option<CounterStatus> {
    counters.reduce(|sum, more| sum + more)
}
