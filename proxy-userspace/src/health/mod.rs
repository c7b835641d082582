//! Health checks: a task per checked endpoint probes it and reports verdicts to control.

mod http;
mod judge;
mod probe;

use crate::model::{
    Cluster, Clusters, Endpoint, EndpointId, Health, HealthCheck, Probe,
    l7::{ProxyHeader, UpstreamProtocol, UpstreamTls},
};
use judge::Judge;
use probe::Outcome;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time};

/// What a check found; sent when the verdict or the error is another than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// The verdict after the last probe.
    pub health: Health,
    /// What the last probe that failed met; kept when a later one passes.
    pub last_error: Option<String>,
    /// Which task says so: reports of tasks that were since replaced are void.
    task: u64,
}

/// The running checks. They follow the snapshot's clusters and are aborted on drop.
pub struct Checks {
    running: HashMap<EndpointId, Running>,
    reports: mpsc::Sender<Report>,
    next_task: u64,
}

struct Running {
    how: How,
    task: u64,
    handle: JoinHandle<()>,
}

/// The way of clients' packets to a backend without NAT, which its probes go too: so they fail when the tunnel or the VIP on the
/// backend is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// VIP and port of the service.
    pub vip: SocketAddr,
    /// The socket's mark, by which the kernel programs know the backend.
    pub mark: u32,
}

/// The ways of endpoints that have one.
pub type Ways = HashMap<EndpointId, Way>;

/// How an endpoint is probed: what of its cluster matters to that, and nothing else.
#[derive(Clone, PartialEq, Eq)]
struct How {
    check: HealthCheck,
    name: Option<Arc<str>>,
    protocol: UpstreamProtocol,
    tls: Option<Arc<UpstreamTls>>,
    proxy_protocol: Option<ProxyHeader>,
    way: Option<Way>,
}

impl How {
    fn new(check: &HealthCheck, cluster: &Cluster, endpoint: &Endpoint, way: Option<Way>) -> Self {
        let by_tcp = Self {
            check: check.clone(),
            name: None,
            protocol: UpstreamProtocol::Auto,
            tls: None,
            proxy_protocol: None,
            way,
        };
        match check.probe {
            Probe::Tcp(_) => by_tcp,
            Probe::Http(_) => Self {
                name: endpoint.name.clone(),
                protocol: cluster.l7.protocol,
                tls: cluster.l7.tls.clone(),
                proxy_protocol: cluster.l7.proxy_protocol,
                ..by_tcp
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Checks {
    /// No checks yet; what they find will go to `reports`.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            running: HashMap::new(),
            reports,
            next_task: 0,
        }
    }

    /// Starts checks for endpoints that came, ends those of endpoints that went, and restarts those
    /// that are to be probed otherwise; these go on from the verdict they had. Others run on
    /// undisturbed. Must be called within a tokio runtime.
    pub fn follow(&mut self, clusters: &Clusters, ways: &Ways) {
        let mut before = std::mem::take(&mut self.running);
        for cluster in clusters.values() {
            let Some(check) = &cluster.health_check else {
                continue;
            };
            for endpoint in &cluster.endpoints {
                let id = EndpointId {
                    cluster: cluster.name.clone(),
                    address: endpoint.address,
                };
                let how = How::new(check, cluster, endpoint, ways.get(&id).copied());
                let running = match before.remove(&id) {
                    Some(running) if running.how == how => running,
                    _ => self.start(id.clone(), how, endpoint.health),
                };
                self.running.insert(id, running);
            }
        }
    }

    /// Starts checks again that a panic ended; they go on from nothing known.
    pub fn revive(&mut self) {
        let ended = |(id, running): (&EndpointId, &Running)| {
            (running.handle.is_finished()).then(|| (id.clone(), running.how.clone()))
        };
        let ended: Vec<_> = self.running.iter().filter_map(ended).collect();
        for (id, how) in ended {
            let running = self.start(id.clone(), how, Health::Unknown);
            self.running.insert(id, running);
        }
    }

    /// Whether a report comes from a check that is still running.
    pub fn is_current(&self, report: &Report) -> bool {
        (self.running.get(&report.endpoint)).is_some_and(|running| running.task == report.task)
    }

    fn start(&mut self, endpoint: EndpointId, how: How, health: Health) -> Running {
        self.next_task += 1;
        let report = Report {
            endpoint,
            health,
            last_error: None,
            task: self.next_task,
        };
        let handle = tokio::spawn(probe_for_ever(report, how.clone(), self.reports.clone()));
        Running {
            how,
            task: self.next_task,
            handle,
        }
    }
}

/// Ends when control is gone.
async fn probe_for_ever(mut report: Report, how: How, reports: mpsc::Sender<Report>) {
    let check = &how.check;
    let mut target: SocketAddr = how.way.map_or(report.endpoint.address.0, |way| way.vip);
    let mark = how.way.map(|way| way.mark);
    let (port, http) = match &check.probe {
        Probe::Tcp(tcp) => (tcp.port, None),
        Probe::Http(http) => (http.port, Some(http::Probe::new(&report.endpoint, http, &how))),
    };
    if let Some(port) = port {
        target.set_port(port);
    }
    let mut judge = Judge::new(report.health, check.rise, check.fall);
    // Spread over one interval: probes of many endpoints neither start nor go on in step.
    time::sleep(jitter(&report.endpoint, check.interval)).await;
    let mut turns = time::interval(check.interval);
    turns.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let outcome = match &http {
            None => probe::tcp_connect(target, mark, check.timeout).await,
            Some(Ok(probe)) => probe.ask(target, mark, check.timeout).await,
            Some(Err(error)) => Outcome::NotAsked(format!("{target}: not probed: {error}")),
        };
        let before = (report.health, report.last_error.clone());
        match outcome {
            Outcome::Passed => report.health = judge.observe(true),
            Outcome::Failed(error) => {
                report.health = judge.observe(false);
                report.last_error = Some(error);
            }
            Outcome::NotAsked(error) => report.last_error = Some(error),
        }
        if (report.health, &report.last_error) != (before.0, &before.1)
            && reports.send(report.clone()).await.is_err()
        {
            return;
        }
    }
}

/// A random part of the interval. `RandomState` is seeded by the system: no need for a crate.
fn jitter(endpoint: &EndpointId, interval: Duration) -> Duration {
    let random = RandomState::new().hash_one(endpoint) as u32;
    interval.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
