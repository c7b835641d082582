//! What health checks found, as far as control knows.

use super::Core;
use crate::{
    config::Loaded,
    health,
    model::{BackendAddr, ClusterName, Clusters, EndpointId, Health, ListenAddr},
};
use proxy_common::net::Protocol;
use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};
use tracing::{info, warn};

/// What is known of an endpoint's health.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) health: Health,
    pub(super) last_error: Option<String>,
    pub(super) changed: Option<SystemTime>,
}

/// By endpoint; only those that are checked.
pub(super) type Verdicts = HashMap<EndpointId, Verdict>;

impl Core {
    /// Takes in a verdict: a fact, for the next Snapshot.
    pub(super) fn record(&mut self, report: health::Report) {
        let id = report.endpoint;
        let unknown = Verdict {
            health: Health::Unknown,
            last_error: None,
            changed: None,
        };
        let verdict = self.verdicts.entry(id.clone()).or_insert(unknown);
        // A check that was restarted brings no error of its own at first.
        verdict.last_error = report.last_error.or(verdict.last_error.take());
        if verdict.health == report.health {
            return;
        }
        match report.health {
            Health::Unhealthy => {
                warn!(
                    "{id}: unhealthy: {}",
                    verdict.last_error.as_deref().unwrap_or("no reason given")
                );
            }
            health => info!("{id}: {health}"),
        }
        self.desired.touched.add(&id.cluster);
        verdict.health = report.health;
        verdict.changed = Some(SystemTime::now());
        self.stale = true;
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
pub(super) fn prune(verdicts: &mut Verdicts, clusters: &Clusters) {
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
