//! What both planes count of clusters and endpoints, by their names.

use crate::{
    admin::{status::CounterStatus, views::UpstreamView},
    kernel::KernelCounters,
    l7::{Compiled, CompiledCluster, meters::UpstreamTotal},
    model::{BackendAddr, ClusterName, Service},
};
use std::collections::HashMap;

/// Of one reading.
#[derive(Default)]
pub(super) struct Counted<'a> {
    kernel: HashMap<(&'a ClusterName, BackendAddr), CounterStatus>,
    l7: HashMap<&'a ClusterName, &'a CompiledCluster>,
}

impl<'a> Counted<'a> {
    /// What the workers publish: none is asked.
    pub(super) fn of_l7(compiled: Option<&'a Compiled>) -> Self {
        let clusters = compiled.into_iter().flat_map(|compiled| &compiled.clusters);
        Self {
            kernel: HashMap::new(),
            l7: clusters
                .map(|cluster| (&cluster.model.name, &**cluster))
                .collect(),
        }
    }

    /// And what the kernel plane counts of services' backends.
    pub(super) fn with_kernel(mut self, counters: &KernelCounters, services: &'a [Service]) -> Self {
        let counted = super::report::by_service(counters);
        for service in services {
            let backends = counted.get(&(service.address, service.protocol));
            for backend in backends.iter().flat_map(|counted| &counted.backends) {
                let sum = self
                    .kernel
                    .entry((&service.cluster, backend.address))
                    .or_default();
                *sum = *sum + backend.counters.into();
            }
        }
        self
    }

    /// A cluster in the L7 plane.
    pub(super) fn cluster(&self, name: &ClusterName) -> Option<UpstreamView> {
        let cluster = self.l7.get(name)?;
        let mut total = cluster.meters.cluster.total()?;
        // Gauges are the endpoints'.
        let endpoints = cluster.model.endpoints.iter();
        let shares = endpoints.filter_map(|endpoint| cluster.meters.endpoint(endpoint.address));
        total.connections = shares
            .flat_map(|shares| shares.made())
            .map(|share| share.connections.value())
            .sum();
        Some(upstream(&total))
    }

    /// An endpoint in the kernel plane.
    pub(super) fn kernel(&self, cluster: &ClusterName, address: BackendAddr) -> Option<CounterStatus> {
        self.kernel.get(&(cluster, address)).copied()
    }

    /// An endpoint in the L7 plane.
    pub(super) fn endpoint(&self, cluster: &ClusterName, address: BackendAddr) -> Option<UpstreamView> {
        let shares = self.l7.get(cluster)?.meters.endpoint(address)?;
        Some(upstream(&shares.total()?))
    }
}

fn upstream(total: &UpstreamTotal) -> UpstreamView {
    let traffic = &total.traffic;
    UpstreamView {
        requests: traffic.requests,
        responses: traffic.responses,
        failures: total.failures,
        connect_failures: total.connect_failures,
        retries: total.retries,
        active: total.active,
        connections: total.connections,
        durations: traffic.buckets.to_vec(),
        duration_seconds: traffic.sum_nanoseconds as f64 / 1e9,
        received_bytes: traffic.received,
        sent_bytes: traffic.sent,
    }
}
