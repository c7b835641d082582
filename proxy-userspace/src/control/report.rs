//! The state of things, as `GET /status` answers it.

use super::{Core, report_l7::l7_status};
use crate::{
    admin::status::{
        BackendState, BackendStatus, DecapStatus, DropStatus, HealthStatus, InterfaceStatus, KernelStatus,
        ServiceStatus, Status, SteeringStatus,
    },
    kernel::{KernelCounters, ServiceCounters},
    model::{BackendAddr, Cluster, Endpoint, EndpointId, Health, ListenAddr, Service},
};
use proxy_common::{counters::Counters, net::Protocol};
use std::{
    collections::HashMap,
    process,
    time::{SystemTime, UNIX_EPOCH},
};

/// Counters by what identifies a service.
pub(super) type ServicesCounted<'a> = HashMap<(ListenAddr, Protocol), &'a ServiceCounters>;

/// None when they can't be read.
type Counted<'a> = Option<ServicesCounted<'a>>;

impl Core {
    /// Reads the counters and puts everything together.
    pub fn status(&self) -> Status {
        let (counters, trouble) = match self.plane.counters() {
            Ok(counters) => (counters, None),
            Err(error) => (None, Some(format!("counters can't be read: {error}"))),
        };
        let counted: Counted<'_> = counters.as_ref().map(by_service);
        let last_error = [&self.refused_config, &self.kernel_trouble];
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: process::id(),
            started_unix_seconds: unix_seconds(self.started),
            generation: self.snapshot.generation,
            drain: self.drain_status(),
            kernel: self.kernel_status(counters.as_ref()),
            last_error: last_error
                .into_iter()
                .flatten()
                .max_by_key(|error| error.at_unix_seconds)
                .cloned(),
            warnings: (self.warnings.iter().cloned())
                .chain(self.desired.resolved.warnings())
                .chain(self.saved_trouble.iter().cloned())
                .chain(self.companions.audit.trouble())
                .chain(trouble)
                .collect(),
            services: (self.snapshot.services.iter())
                .map(|service| self.service_status(service, &counted))
                .collect(),
            l7: l7_status(self.plane.l7(), &self.snapshot, self.memory_status()),
        }
    }

    /// What a daemon that has just started does, in a line.
    pub fn summary(&self) -> String {
        let status = self.status();
        let backends: usize = status.services.iter().map(|service| service.backends.len()).sum();
        let listeners = self.snapshot.listeners.len();
        let mut sizes = Vec::new();
        if listeners > 0 {
            sizes.push(counted(listeners, "L7 listener"));
        }
        if listeners == 0 || !status.services.is_empty() {
            sizes.push(counted(status.services.len(), "service"));
            sizes.push(counted(backends, "backend"));
        }
        let sizes = sizes.join(", ");
        match status.kernel.absent {
            Some(reason) if status.services.is_empty() => format!("{sizes}; no kernel plane ({reason})"),
            Some(reason) => format!("{sizes}; services not forwarded: no kernel plane ({reason})"),
            None => {
                let attached = status.kernel.interfaces.iter();
                let attached: Vec<String> = attached.map(|it| format!("{} ({})", it.name, it.xdp)).collect();
                format!("forwarding on {}; {sizes}", attached.join(", "))
            }
        }
    }

    fn kernel_status(&self, counters: Option<&KernelCounters>) -> KernelStatus {
        let interfaces = counters.iter().flat_map(|counters| &counters.interfaces);
        let drops = counters.iter().flat_map(|counters| &counters.drops);
        let decap = counters.iter().flat_map(|counters| &counters.decap);
        let steering = counters.iter().flat_map(|counters| &counters.steering);
        KernelStatus {
            generation: self.plane.generation(),
            absent: self.plane.absence().map(Into::into),
            pin_path: self.snapshot.settings.pin_path.display().to_string(),
            interfaces: interfaces
                .map(|interface| InterfaceStatus {
                    name: interface.name.clone(),
                    xdp: interface.xdp.into(),
                    warning: interface.warning.clone(),
                })
                .collect(),
            flows: counters.map_or(0, |counters| counters.flows as u64),
            tracked_flows: counters.map_or(0, |counters| counters.tracked_flows as u64),
            drops: drops
                .map(|(reason, packets)| DropStatus {
                    reason: reason.label().into(),
                    packets: *packets,
                })
                .collect(),
            steering: steering
                .map(|(outcome, connections)| SteeringStatus {
                    outcome: outcome.label().into(),
                    connections: *connections,
                })
                .collect(),
            decap: decap
                .map(|(outcome, packets)| DecapStatus {
                    outcome: outcome.label().into(),
                    packets: *packets,
                })
                .collect(),
        }
    }

    fn service_status(&self, service: &Service, counted: &Counted<'_>) -> ServiceStatus {
        let counted = counted
            .as_ref()
            .and_then(|all| all.get(&(service.address, service.protocol)));
        let by_backend: Option<HashMap<_, _>> = counted.map(|counted| {
            counted
                .backends
                .iter()
                .map(|backend| (backend.address, backend.counters))
                .collect()
        });
        let backends = self
            .snapshot
            .clusters
            .get(&service.cluster)
            .map_or_else(Vec::new, |cluster| {
                let total = cluster
                    .endpoints
                    .iter()
                    .map(|each| u64::from(each.effective_weight()))
                    .sum();
                let status = |endpoint| self.backend_status(cluster, endpoint, total, by_backend.as_ref());
                cluster.endpoints.iter().map(status).collect()
            });
        ServiceStatus {
            name: service.name.to_string(),
            address: service.span.text(service.address),
            protocol: service.protocol.name().into(),
            mode: service.mode.to_string(),
            cluster: service.cluster.to_string(),
            counters: counted.map(|counted| counted.counters.into()),
            backends,
        }
    }

    fn backend_status(
        &self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        total_weight: u64,
        counters: Option<&HashMap<BackendAddr, Counters>>,
    ) -> BackendStatus {
        let id = EndpointId {
            cluster: cluster.name.clone(),
            address: endpoint.address,
        };
        BackendStatus {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            effective_weight: endpoint.effective_weight(),
            share_percent: share_percent(endpoint.effective_weight(), total_weight),
            state: state(endpoint),
            drain: endpoint.drain,
            overridden: self.desired.configured(&id),
            health: cluster.health_check.as_ref().map(|_| self.health_status(&id)),
            counters: counters.map(|all| all.get(&endpoint.address).copied().unwrap_or_default().into()),
        }
    }

    fn health_status(&self, id: &EndpointId) -> HealthStatus {
        let verdict = self.verdicts.get(id);
        HealthStatus {
            last_error: verdict.and_then(|verdict| verdict.last_error.clone()),
            changed_unix_seconds: verdict.and_then(|verdict| verdict.changed).map(unix_seconds),
        }
    }
}

pub(super) fn by_service(counters: &KernelCounters) -> ServicesCounted<'_> {
    let services = counters.services.iter();
    services.map(|it| ((it.address, it.protocol), it)).collect()
}

/// Maglev rounds every share to the nearest slot, so the weights tell it to one slot.
pub(super) fn share_percent(weight: u32, total: u64) -> f64 {
    if total == 0 {
        0.0
    } else {
        f64::from(weight) * 100.0 / total as f64
    }
}

pub(super) fn state(endpoint: &Endpoint) -> BackendState {
    match endpoint.health {
        Health::Unhealthy => BackendState::Unhealthy,
        _ if endpoint.drain => BackendState::Draining,
        Health::Healthy => BackendState::Healthy,
        Health::Unknown => BackendState::Unknown,
    }
}

/// Seconds since 1970; 0 for a clock before that.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 1 change, 2 changes.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
