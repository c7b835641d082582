//! Clusters as they run: every endpoint's effective weight, and why it is that.

use super::{
    Core, Refusal, RefusalKind,
    desired::names,
    report::{share_percent, unix_seconds},
    report_upstream::Counted,
    verdicts::Turn,
};
use crate::{
    admin::{
        status::{ConfiguredStatus, CounterStatus},
        views::{
            ClusterView, ClustersAnswer, EndpointView, HealthChange, HealthCheckView, UpstreamView,
            WeightReason,
        },
    },
    model::{
        BackendAddr, Cluster, Endpoint, EndpointId, Health, HealthCheck, Probe,
        l7::{Policy, UpstreamProtocol, UpstreamTls, Verify},
    },
};

impl Core {
    /// `GET /clusters`.
    pub(crate) fn clusters_view(&self) -> ClustersAnswer {
        ClustersAnswer {
            generation: self.snapshot.generation,
            clusters: self.with_counted(|counted| self.cluster_views(counted)),
        }
    }

    /// All, with these counters.
    pub(super) fn cluster_views(&self, counted: &Counted<'_>) -> Vec<ClusterView> {
        let clusters = self.snapshot.clusters.values();
        clusters.map(|cluster| self.view_of(cluster, counted)).collect()
    }

    /// Reads the counters of both planes. What can't be read is left out: the status says why.
    fn with_counted<T>(&self, view: impl FnOnce(&Counted<'_>) -> T) -> T {
        let counters = self.plane.counters().ok().flatten();
        let counted = Counted::of_l7(self.plane.l7().compiled());
        match &counters {
            Some(counters) => view(&counted.with_kernel(counters, &self.snapshot.services)),
            None => view(&counted),
        }
    }

    /// `GET /clusters/NAME`.
    pub(crate) fn cluster_view(&self, name: &str) -> Result<ClusterView, Refusal> {
        let cluster = self.cluster_named(name)?;
        let mut view = self.with_counted(|counted| self.view_of(cluster, counted));
        for (endpoint, view) in cluster.endpoints.iter().zip(&mut view.endpoints) {
            view.history = Some(self.history(cluster, endpoint));
        }
        Ok(view)
    }

    /// `GET /clusters/NAME/endpoints/ADDR`.
    pub(crate) fn one_endpoint_view(
        &self,
        name: &str,
        address: BackendAddr,
    ) -> Result<EndpointView, Refusal> {
        let cluster = self.cluster_named(name)?;
        let found = cluster
            .endpoints
            .iter()
            .find(|endpoint| endpoint.address == address);
        let endpoint = found.ok_or_else(|| {
            let remedy = format!("GET /clusters/{name} has those that are there");
            Refusal::new(
                RefusalKind::NotFound,
                format!("no endpoint {address} in cluster {name}"),
                remedy,
            )
        })?;
        let total = total_weight(cluster);
        let mut view = self.with_counted(|counted| {
            let counters = (
                counted.kernel(&cluster.name, address),
                counted.endpoint(&cluster.name, address),
            );
            self.endpoint_view(cluster, endpoint, total, counters)
        });
        view.history = Some(self.history(cluster, endpoint));
        Ok(view)
    }

    fn history(&self, cluster: &Cluster, endpoint: &Endpoint) -> Vec<HealthChange> {
        let id = EndpointId {
            cluster: cluster.name.clone(),
            address: endpoint.address,
        };
        let turns = self.verdicts.get(&id).map_or(&[][..], |verdict| &verdict.history);
        let change = |turn: &Turn| HealthChange {
            at_unix_seconds: unix_seconds(turn.at),
            health: turn.health.to_string(),
            why: turn.why.as_deref().map(str::to_owned),
        };
        turns.iter().map(change).collect()
    }

    fn cluster_named(&self, name: &str) -> Result<&Cluster, Refusal> {
        let clusters = &self.snapshot.clusters;
        let found = clusters.values().find(|cluster| *cluster.name.0 == *name);
        found.map(|cluster| &**cluster).ok_or_else(|| {
            let remedy = match clusters.is_empty() {
                true => "the config has none".to_owned(),
                false => format!("use one of: {}", names(clusters.keys())),
            };
            Refusal::new(RefusalKind::NotFound, format!("no cluster {name}"), remedy)
        })
    }

    fn view_of(&self, cluster: &Cluster, counted: &Counted<'_>) -> ClusterView {
        let total = total_weight(cluster);
        ClusterView {
            name: cluster.name.to_string(),
            policy: policy(cluster.l7.policy).into(),
            protocol: match cluster.l7.protocol {
                UpstreamProtocol::Auto => "auto",
                UpstreamProtocol::Http1 => "http1",
                UpstreamProtocol::Http2 => "h2",
            }
            .into(),
            tls_verify: cluster.l7.tls.as_deref().map(|tls| verify(tls).into()),
            health_check: cluster.health_check.as_ref().map(health_check),
            names: (cluster.dns.iter())
                .map(|endpoint| format!("{}:{}", endpoint.name, endpoint.port))
                .collect(),
            effective_weight: total,
            endpoints: (cluster.endpoints.iter())
                .map(|endpoint| {
                    let counters = (
                        counted.kernel(&cluster.name, endpoint.address),
                        counted.endpoint(&cluster.name, endpoint.address),
                    );
                    self.endpoint_view(cluster, endpoint, total, counters)
                })
                .collect(),
        }
    }

    /// With what the kernel plane and the L7 plane count of it.
    pub(super) fn endpoint_view(
        &self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        total: u64,
        (kernel, l7): (Option<CounterStatus>, Option<UpstreamView>),
    ) -> EndpointView {
        let id = EndpointId {
            cluster: cluster.name.clone(),
            address: endpoint.address,
        };
        let configured = self.desired.configured(&id);
        let last_error = (self.verdicts.get(&id)).and_then(|verdict| verdict.last_error.clone());
        let (reason, why) = why(endpoint, configured.as_ref(), last_error.as_deref());
        EndpointView {
            address: endpoint.address.to_string(),
            name: endpoint.name.as_deref().map(str::to_owned),
            weight: endpoint.weight,
            effective_weight: endpoint.effective_weight(),
            share_percent: share_percent(endpoint.effective_weight(), total),
            reason,
            why,
            drain: endpoint.drain,
            health: endpoint.health.to_string(),
            last_error,
            configured,
            durable: self.desired.overrides.is_durable(&id),
            kernel,
            l7,
            history: None,
        }
    }
}

fn total_weight(cluster: &Cluster) -> u64 {
    let weights = cluster.endpoints.iter().map(Endpoint::effective_weight);
    weights.map(u64::from).sum()
}

/// What an effective weight follows from, in a word and in a sentence.
fn why(
    endpoint: &Endpoint,
    configured: Option<&ConfiguredStatus>,
    last_error: Option<&str>,
) -> (WeightReason, String) {
    let weight = endpoint.weight;
    if endpoint.health == Health::Unhealthy {
        let error = last_error.unwrap_or("no reason given");
        return (
            WeightReason::Unhealthy,
            format!("0 since its health check fails: {error}"),
        );
    }
    if endpoint.drain {
        let by = match configured {
            Some(configured) if !configured.drain => "by an operator",
            _ => "by the config",
        };
        let sentence = format!("0 since it drains {by}: it keeps its flows and gets no new ones");
        return (WeightReason::Drain, sentence);
    }
    match configured {
        Some(configured) if configured.weight != weight => (
            WeightReason::Override,
            format!(
                "{weight} by an operator, where the config says {}",
                configured.weight
            ),
        ),
        _ => (WeightReason::Config, format!("{weight} by the config")),
    }
}

pub(super) fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::RoundRobin => "round_robin",
        Policy::LeastRequest => "least_request",
        Policy::Random => "random",
        Policy::RingHash => "ring_hash",
        Policy::Maglev => "maglev",
        Policy::PeakEwma => "peak_ewma",
    }
}

fn verify(tls: &UpstreamTls) -> &'static str {
    match tls.verify {
        Verify::System => "system",
        Verify::Ca(_) => "ca",
        Verify::Off => "off",
    }
}

pub(super) fn health_check(check: &HealthCheck) -> HealthCheckView {
    HealthCheckView {
        kind: match check.probe {
            Probe::Tcp(_) => "tcp",
            Probe::Http(_) => "http",
        }
        .into(),
        interval_seconds: check.interval.as_secs_f64(),
        timeout_seconds: check.timeout.as_secs_f64(),
        rise: check.rise,
        fall: check.fall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_so_is_the_reason() {
        let endpoint = |weight, drain, health| Endpoint {
            address: BackendAddr("198.51.100.1:80".parse().unwrap()),
            name: None,
            weight,
            drain,
            server_id: None,
            health,
        };
        let configured = |weight, drain| Some(ConfiguredStatus { weight, drain });
        let cases = [
            (endpoint(2, false, Health::Unknown), None, "2 by the config"),
            (endpoint(0, false, Health::Healthy), None, "0 by the config"),
            (
                endpoint(3, false, Health::Healthy),
                configured(1, false),
                "3 by an operator, where the config says 1",
            ),
            (
                endpoint(3, true, Health::Healthy),
                configured(1, false),
                "0 since it drains by an operator: it keeps its flows and gets no new ones",
            ),
            (
                endpoint(3, true, Health::Healthy),
                configured(1, true),
                "0 since it drains by the config: it keeps its flows and gets no new ones",
            ),
            (
                endpoint(3, true, Health::Unhealthy),
                None,
                "0 since its health check fails: refused",
            ),
            (
                endpoint(1, false, Health::Healthy),
                configured(1, true),
                "1 by the config",
            ),
        ];
        for (endpoint, configured, expected) in cases {
            let (_, sentence) = why(&endpoint, configured.as_ref(), Some("refused"));
            assert_eq!(sentence, expected);
            let first = sentence.split(' ').next().unwrap();
            assert_eq!(first, endpoint.effective_weight().to_string());
        }
    }
}
