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
    /// The oldest first; of those that were healthy all the time nothing, and no memory.
    pub(super) history: Vec<Turn>,
}

/// A change of health: when, to what, and why.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) at: SystemTime,
    pub(super) health: Health,
    pub(super) why: Option<Box<str>>,
}

/// Changes of health that are kept of an endpoint.
const MOST_TURNS: usize = 8;

/// Bytes that are kept of a reason: 10,000 endpoints that fail again and again have some MiB of them.
const MOST_REASON_BYTES: usize = 160;

impl Verdict {
    pub(super) fn new(health: Health, last_error: Option<String>) -> Self {
        Self {
            health,
            last_error,
            changed: None,
            history: Vec::new(),
        }
    }

    /// It is another now.
    fn turn(&mut self, health: Health, at: SystemTime) {
        let is_first_pass = self.health == Health::Unknown && health == Health::Healthy;
        self.health = health;
        self.changed = Some(at);
        if is_first_pass && self.history.is_empty() {
            return;
        }
        let why = (self.last_error.as_deref()).filter(|_| health == Health::Unhealthy);
        let why = why.map(|why| why[..why.floor_char_boundary(MOST_REASON_BYTES)].into());
        if self.history.len() == MOST_TURNS {
            self.history.remove(0);
        }
        self.history.push(Turn { at, health, why });
    }
}

/// By endpoint; only those that are checked.
pub(super) type Verdicts = HashMap<EndpointId, Verdict>;

impl Core {
    /// Takes in a verdict: a fact, for the next Snapshot.
    pub(super) fn record(&mut self, report: health::Report) {
        let id = report.endpoint;
        let unknown = || Verdict::new(Health::Unknown, None);
        let verdict = self.verdicts.entry(id.clone()).or_insert_with(unknown);
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
        verdict.turn(report.health, SystemTime::now());
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
            let verdict = Verdict::new(Health::Unhealthy, last_error);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_turns_are_kept_and_a_first_pass_is_none() {
        let mut verdict = Verdict::new(Health::Unknown, None);
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        verdict.turn(Health::Healthy, at(0));
        assert_eq!((verdict.history.capacity(), verdict.changed), (0, Some(at(0))));
        verdict.last_error = Some("\u{fc}".repeat(MOST_REASON_BYTES));
        for second in 1..=10 {
            let health = if second % 2 == 1 {
                Health::Unhealthy
            } else {
                Health::Healthy
            };
            verdict.turn(health, at(second));
        }
        let kept: Vec<_> = verdict.history.iter().map(|turn| turn.at).collect();
        assert_eq!(kept, (3..=10).map(at).collect::<Vec<_>>());
        let mut reasons = verdict
            .history
            .iter()
            .map(|turn| turn.why.as_ref().map(|why| why.len()));
        assert_eq!(reasons.clone().next(), Some(Some(MOST_REASON_BYTES)));
        assert_eq!(reasons.next_back(), Some(None), "a recovery has no reason");
    }
}
