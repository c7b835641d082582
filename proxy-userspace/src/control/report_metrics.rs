//! The page of `GET /metrics`: what control and the kernel plane know. The L7 plane's part is beside it.

use super::{
    Core,
    report::{ServicesCounted, by_service, share_percent, unix_seconds},
    report_metrics_l7,
};
use crate::{
    admin::metrics::{Format, Labels, Page, catalogue as metric},
    kernel::KernelCounters,
    l7::panics,
    model::{BackendAddr, EndpointId, Health},
};
use bytes::Bytes;
use proxy_common::counters::Counters;
use std::{collections::HashMap, iter};

/// Endpoints with series of their own, and pairs of service and endpoint: the page of 20,000 of each has some 60 MB.
pub const MOST_ENDPOINTS: usize = 20_000;

impl Core {
    /// Reads all counters and writes them down. Costs a system call a service, backend and drop reason, and about a
    /// microsecond a series.
    pub fn metrics(&self, format: Format) -> Bytes {
        let (counters, is_unread) = match self.plane.counters() {
            Ok(counters) => (counters, false),
            Err(_) => (None, true),
        };
        let mut page = Page::new(format);
        self.general(&mut page, is_unread);
        self.names(&mut page);
        if let Some(counters) = &counters {
            self.kernel(&mut page, counters);
        }
        self.services(&mut page, counters.as_ref());
        self.endpoints(&mut page);
        report_metrics_l7::write(&mut page, self.plane.l7(), &self.snapshot);
        page.finish()
    }

    fn general(&self, page: &mut Page, is_unread: bool) {
        let version = Labels::new(&[("version", env!("CARGO_PKG_VERSION"))]);
        page.family(&metric::BUILD_INFO).number(&version, 1);
        page.single(&metric::START_TIME, unix_seconds(self.started) as f64);
        let mut generations = page.family(&metric::GENERATION);
        let planes = [
            ("wanted", Some(self.snapshot.generation)),
            ("kernel", self.plane.generation()),
            ("l7", self.plane.l7().generation()),
        ];
        for (plane, generation) in planes {
            if let Some(generation) = generation {
                generations.number_of(&Labels::default(), ("plane", plane), generation);
            }
        }
        let is = |it: bool| f64::from(u8::from(it));
        page.single(&metric::READY, is(self.draining.is_none()));
        page.single(&metric::CONFIG_REFUSED, is(self.refused_config.is_some()));
        let is_failing = is_unread || self.kernel_trouble.is_some();
        page.single(&metric::PLANE_FAILING, is(is_failing));
        let warnings = self.warnings.len() + self.desired.resolved.warnings().count();
        page.single(&metric::WARNINGS, warnings as f64);
        let memory = self.memory_status();
        page.single(&metric::MEMORY, memory.resident_bytes as f64);
        if let Some(limit) = memory.limit_bytes {
            page.single(&metric::MEMORY_LIMIT, limit as f64);
        }
        page.single(&metric::MEMORY_SHORT, is(memory.shortage == "full"));
        page.single(&metric::AUDIT_LOST, self.companions.audit.lost() as f64);
        page.single(&metric::PANICS, panics::elsewhere() as f64);
        page.single(&metric::KERNEL_UP, is(self.plane.absence().is_none()));
    }

    fn names(&self, page: &mut Page) {
        let states = || self.desired.resolved.states();
        let mut resolved = page.family(&metric::NAME_RESOLVED);
        for (name, is_resolved, _) in states() {
            resolved.number(&Labels::new(&[("name", name)]), is_resolved.into());
        }
        let mut since = page.family(&metric::NAME_SINCE);
        for (name, _, seconds) in states() {
            since.number(&Labels::new(&[("name", name)]), seconds);
        }
    }

    fn kernel(&self, page: &mut Page, counters: &KernelCounters) {
        let none = Labels::default();
        let mut interfaces = page.family(&metric::INTERFACE);
        for interface in &counters.interfaces {
            let labels = Labels::new(&[("interface", &interface.name), ("xdp", interface.xdp)]);
            interfaces.number(&labels, 1);
        }
        let mut drops = page.family(&metric::DROPS);
        for (reason, packets) in &counters.drops {
            drops.number_of(&none, ("reason", reason.label()), *packets);
        }
        let mut steered = page.family(&metric::STEERED);
        for (outcome, connections) in &counters.steering {
            steered.number_of(&none, ("outcome", outcome.label()), *connections);
        }
        let mut decap = page.family(&metric::DECAP);
        for (outcome, packets) in &counters.decap {
            decap.number_of(&none, ("outcome", outcome.label()), *packets);
        }
        let settings = &self.snapshot.settings;
        let backends = counters.services.iter().map(|service| service.backends.len());
        let maps = [
            ("flows", counters.flows, settings.max_flows),
            (
                "tracked_flows",
                counters.tracked_flows,
                settings.max_tracked_flows,
            ),
            ("services", counters.services.len(), settings.max_services),
            ("backends", backends.sum(), settings.max_backends),
        ];
        let mut entries = page.family(&metric::MAP_ENTRIES);
        for (map, count, _) in maps {
            entries.number_of(&none, ("map", map), count as u64);
        }
        let mut most = page.family(&metric::MAP_MAX);
        for (map, _, max) in maps {
            most.number_of(&none, ("map", map), max.into());
        }
    }

    fn services(&self, page: &mut Page, counters: Option<&KernelCounters>) {
        let mut infos = page.family(&metric::SERVICE);
        for service in self.snapshot.services.iter() {
            infos.number(
                &Labels::new(&[
                    ("service", &service.name),
                    ("address", &service.span.text(service.address)),
                    ("protocol", service.protocol.name()),
                    ("mode", &service.mode.to_string()),
                    ("cluster", &service.cluster.0),
                ]),
                1,
            );
        }
        let Some(counters) = counters else { return };
        let counted: ServicesCounted<'_> = by_service(counters);
        let (mut services, mut backends) = (Vec::new(), Vec::new());
        for service in self.snapshot.services.iter() {
            let Some(counters) = counted.get(&(service.address, service.protocol)) else {
                continue;
            };
            services.push((Labels::new(&[("service", &service.name)]), counters.counters));
            let by_address: HashMap<BackendAddr, Counters> = (counters.backends.iter())
                .map(|backend| (backend.address, backend.counters))
                .collect();
            let cluster = self.snapshot.clusters.get(&service.cluster);
            let endpoints = cluster.iter().flat_map(|cluster| &cluster.endpoints);
            let left = MOST_ENDPOINTS - backends.len();
            backends.extend(endpoints.take(left).map(|endpoint| {
                let address = endpoint.address.to_string();
                let labels = Labels::new(&[("service", &service.name), ("endpoint", &address)]);
                (
                    labels,
                    by_address.get(&endpoint.address).copied().unwrap_or_default(),
                )
            }));
        }
        let families = [
            &metric::SERVICE_PACKETS,
            &metric::SERVICE_BYTES,
            &metric::SERVICE_FLOWS,
            &metric::SERVICE_DROPS,
        ];
        packets(page, families, &services);
        let mut untracked = page.family(&metric::SERVICE_UNTRACKED);
        for (labels, counters) in &services {
            untracked.number(labels, counters.untracked);
        }
        let families = [
            &metric::BACKEND_PACKETS,
            &metric::BACKEND_BYTES,
            &metric::BACKEND_FLOWS,
            &metric::BACKEND_DROPS,
        ];
        packets(page, families, &backends);
    }

    fn endpoints(&self, page: &mut Page) {
        let clusters = self.snapshot.clusters.values();
        let all = clusters.flat_map(|cluster| iter::repeat(cluster).zip(&cluster.endpoints));
        let rows: Vec<_> = (all.take(MOST_ENDPOINTS))
            .map(|(cluster, endpoint)| {
                let address = endpoint.address.to_string();
                let labels = Labels::new(&[("cluster", &cluster.name.0), ("endpoint", &address)]);
                (labels, cluster, endpoint)
            })
            .collect();
        let mut weights = page.family(&metric::WEIGHT);
        for (labels, _, endpoint) in &rows {
            weights.number(labels, endpoint.weight.into());
        }
        let mut effective = page.family(&metric::EFFECTIVE_WEIGHT);
        for (labels, _, endpoint) in &rows {
            effective.number(labels, endpoint.effective_weight().into());
        }
        let mut shares = page.family(&metric::SHARE);
        let (mut of, mut total) = (None, 0);
        for (labels, cluster, endpoint) in &rows {
            if of.replace(&cluster.name) != Some(&cluster.name) {
                let weights = cluster.endpoints.iter();
                total = weights.map(|each| u64::from(each.effective_weight())).sum();
            }
            shares.float(labels, share_percent(endpoint.effective_weight(), total) / 100.0);
        }
        let mut healthy = page.family(&metric::HEALTHY);
        for (labels, _, endpoint) in &rows {
            match endpoint.health {
                Health::Healthy => healthy.number(labels, 1),
                Health::Unhealthy => healthy.number(labels, 0),
                Health::Unknown => {}
            }
        }
        let ids = rows.iter().map(|(labels, cluster, endpoint)| {
            let id = EndpointId {
                cluster: cluster.name.clone(),
                address: endpoint.address,
            };
            (labels, id)
        });
        let mut changed = page.family(&metric::HEALTH_CHANGED);
        for (labels, id) in ids.clone() {
            if let Some(at) = self.verdicts.get(&id).and_then(|verdict| verdict.changed) {
                changed.number(labels, unix_seconds(at));
            }
        }
        let mut draining = page.family(&metric::DRAINING);
        for (labels, _, endpoint) in &rows {
            draining.number(labels, endpoint.drain.into());
        }
        let mut overridden = page.family(&metric::OVERRIDDEN);
        for (labels, id) in ids {
            overridden.number(labels, self.desired.configured(&id).is_some().into());
        }
    }
}

/// Packets, bytes, flows and drops of services, or of endpoints.
fn packets(page: &mut Page, families: [&'static metric::Metric; 4], rows: &[(Labels, Counters)]) {
    let [packets, bytes, flows, drops] = families;
    let mut family = page.family(packets);
    for (labels, counters) in rows {
        family.number_of(labels, ("direction", "in"), counters.packets);
        family.number_of(labels, ("direction", "out"), counters.reply_packets);
    }
    let mut family = page.family(bytes);
    for (labels, counters) in rows {
        family.number_of(labels, ("direction", "in"), counters.bytes);
        family.number_of(labels, ("direction", "out"), counters.reply_bytes);
    }
    let mut family = page.family(flows);
    for (labels, counters) in rows {
        family.number(labels, counters.flows);
    }
    let mut family = page.family(drops);
    for (labels, counters) in rows {
        family.number(labels, counters.drops);
    }
}
