//! The L7 plane's part of the page of `GET /metrics`.

use super::{
    report_l7::{protocol, shown},
    report_metrics::MOST_ENDPOINTS,
};
use crate::{
    admin::metrics::{Labels, Page, catalogue as metric, catalogue::Metric},
    l7::{
        AcceptError, Compiled, CompiledKind, Counters, L7Plane, TraceCounters,
        meters::{BUCKETS, Exemplar, TrafficTotal, UpstreamTotal},
        tls,
    },
    model::Snapshot,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Classes of status codes.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A row of a table of counters.
type Row<T> = (Labels, T);

/// A family and what its samples count.
type Field<T> = (&'static Metric, fn(&T) -> u64);

/// Writes it all, as workers publish it: no worker is asked.
pub(super) fn write(page: &mut Page, plane: &L7Plane, snapshot: &Snapshot) {
    let steering = if plane.is_steered() {
        "sk_lookup"
    } else {
        "reuseport"
    };
    page.family(&metric::STEERING)
        .number(&Labels::new(&[("steering", steering)]), 1);
    let workers: Vec<Row<&Counters>> = (plane.counters().enumerate())
        .map(|(number, counters)| (Labels::new(&[("worker", &number.to_string())]), &**counters))
        .collect();
    worker_families(page, &workers);
    if let Some(counters) = plane.traced() {
        traces(page, counters);
    }
    listener_info(page, snapshot);
    let Some(compiled) = plane.compiled() else { return };
    listeners(page, compiled);
    routes(page, compiled);
    clusters(page, compiled);
}

fn fields<T>(page: &mut Page, rows: &[Row<T>], fields: &[Field<T>]) {
    for (metric, value) in fields {
        let mut family = page.family(metric);
        rows.iter()
            .for_each(|(labels, row)| family.number(labels, value(row)));
    }
}

fn worker_families(page: &mut Page, workers: &[Row<&Counters>]) {
    fields(
        page,
        workers,
        &[
            (&metric::WORKER_GENERATION, |it| it.generation.value()),
            (&metric::WORKER_CONNECTIONS, |it| it.connections.value()),
            (&metric::WORKER_ACCEPTED, |it| it.accepted.value()),
            (&metric::WORKER_REQUESTS, |it| it.requests.value()),
        ],
    );
    let mut responses = page.family(&metric::WORKER_RESPONSES);
    for (labels, counters) in workers {
        for (code, count) in CODES.iter().zip(&counters.responses) {
            responses.number_of(labels, ("code", code), count.value());
        }
    }
    fields(
        page,
        workers,
        &[
            (&metric::WORKER_RECEIVED, |it| it.received.value()),
            (&metric::WORKER_SENT, |it| it.sent.value()),
            (&metric::WORKER_ACCEPT_ERRORS, |it| it.accept_errors.value()),
            (&metric::WORKER_REFUSED, |it| it.refused.value()),
            (&metric::WORKER_PANICS, |it| it.panics.value()),
            (&metric::WORKER_REPLACED, |it| it.replaced.value()),
        ],
    );
    let mut failed = page.family(&metric::HANDSHAKES_FAILED);
    for (index, reason) in AcceptError::ALL.iter().enumerate() {
        let counts = workers
            .iter()
            .map(|(_, counters)| counters.handshakes_failed[index].value());
        failed.number_of(&Labels::default(), ("reason", reason.label()), counts.sum());
    }
}

fn traces(page: &mut Page, counters: &TraceCounters) {
    let none = Labels::default();
    let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
    page.family(&metric::SPANS_EXPORTED)
        .number(&none, value(&counters.exported));
    let mut dropped = page.family(&metric::SPANS_DROPPED);
    for (reason, count) in [
        ("queue_full", &counters.queue_full),
        ("refused", &counters.refused),
        ("unreachable", &counters.unreachable),
    ] {
        dropped.number_of(&none, ("reason", reason), value(count));
    }
    page.family(&metric::EXPORT_FAILURES)
        .number(&none, value(&counters.failures));
}

fn listener_info(page: &mut Page, snapshot: &Snapshot) {
    let mut infos = page.family(&metric::LISTENER);
    for listener in snapshot.listeners.iter() {
        let address = listener.addresses.first().map(shown).unwrap_or_default();
        let labels = [
            ("listener", &*listener.name),
            ("address", &address),
            ("protocol", protocol(listener).0),
        ];
        infos.number(&Labels::new(&labels), 1);
    }
    let mut routes = page.family(&metric::LISTENER_ROUTES);
    for listener in snapshot.listeners.iter() {
        let labels = Labels::new(&[("listener", &listener.name)]);
        routes.number(&labels, protocol(listener).1 as u64);
    }
    let mut expiries = page.family(&metric::CERTIFICATE_EXPIRY);
    for listener in snapshot.listeners.iter() {
        for (name, seconds) in listener.tls.iter().flat_map(|settings| tls::expiries(settings)) {
            let labels = Labels::new(&[("listener", &listener.name), ("name", &name)]);
            expiries.float(&labels, seconds as f64);
        }
    }
}

fn listeners(page: &mut Page, compiled: &Compiled) {
    let listeners = compiled.listeners.iter();
    let labels = |name: &str| Labels::new(&[("listener", name)]);
    let rows: Vec<_> = listeners
        .clone()
        .map(|listener| (labels(&listener.model.name), listener.meters.listener.total()))
        .collect();
    fields(
        page,
        &rows,
        &[
            (&metric::LISTENER_CONNECTIONS, |it| it.connections),
            (&metric::LISTENER_ACCEPTED, |it| it.accepted),
            (&metric::LISTENER_RECEIVED, |it| it.received),
            (&metric::LISTENER_SENT, |it| it.sent),
        ],
    );
    let mut dropped = page.family(&metric::LOG_DROPPED);
    for listener in listeners {
        if let Some((sink, _)) = &listener.log {
            dropped.number(&labels(&listener.model.name), sink.dropped());
        }
    }
}

fn routes(page: &mut Page, compiled: &Compiled) {
    let (mut rows, mut exemplars) = (Vec::new(), Vec::new());
    for listener in &compiled.listeners {
        if matches!(listener.kind, CompiledKind::Tcp(_)) {
            continue;
        }
        for (route, shares) in listener.meters.routes() {
            let labels = Labels::new(&[("listener", &listener.model.name), ("route", route)]);
            rows.push((labels, shares.total()));
            exemplars.push(shares.exemplars());
        }
    }
    let families = [
        &metric::ROUTE_REQUESTS,
        &metric::ROUTE_RESPONSES,
        &metric::ROUTE_DURATION,
        &metric::ROUTE_RECEIVED,
        &metric::ROUTE_SENT,
    ];
    traffic(page, families, &rows, |total| total, &exemplars);
}

fn clusters(page: &mut Page, compiled: &Compiled) {
    let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
    let mut left = MOST_ENDPOINTS;
    for cluster in &compiled.clusters {
        let name = &*cluster.model.name.0;
        let mut total = cluster.meters.cluster.total().unwrap_or_default();
        for endpoint in &cluster.model.endpoints {
            let shares = cluster.meters.endpoint(endpoint.address);
            let Some(of_endpoint) = shares.and_then(|shares| shares.total()) else {
                continue;
            };
            // Gauges: nothing is lost when an endpoint leaves.
            total.connections += of_endpoint.connections;
            total.idle += of_endpoint.idle;
            if left > 0 {
                left -= 1;
                let address = endpoint.address.to_string();
                let labels = Labels::new(&[("cluster", name), ("endpoint", &address)]);
                endpoints.push((labels, of_endpoint));
            }
        }
        clusters.push((Labels::new(&[("cluster", name)]), total));
    }
    upstream(
        page,
        &clusters,
        [
            &metric::CLUSTER_REQUESTS,
            &metric::CLUSTER_RESPONSES,
            &metric::CLUSTER_DURATION,
            &metric::CLUSTER_RECEIVED,
            &metric::CLUSTER_SENT,
        ],
        [
            &metric::CLUSTER_ACTIVE,
            &metric::CLUSTER_FAILURES,
            &metric::CLUSTER_RETRIES,
            &metric::CLUSTER_CONNECT_FAILURES,
            &metric::CLUSTER_OPENED,
            &metric::CLUSTER_CONNECTIONS,
            &metric::CLUSTER_IDLE,
        ],
    );
    upstream(
        page,
        &endpoints,
        [
            &metric::ENDPOINT_REQUESTS,
            &metric::ENDPOINT_RESPONSES,
            &metric::ENDPOINT_DURATION,
            &metric::ENDPOINT_RECEIVED,
            &metric::ENDPOINT_SENT,
        ],
        [
            &metric::ENDPOINT_ACTIVE,
            &metric::ENDPOINT_FAILURES,
            &metric::ENDPOINT_RETRIES,
            &metric::ENDPOINT_CONNECT_FAILURES,
            &metric::ENDPOINT_OPENED,
            &metric::ENDPOINT_CONNECTIONS,
            &metric::ENDPOINT_IDLE,
        ],
    );
}

fn upstream(
    page: &mut Page,
    rows: &[Row<UpstreamTotal>],
    of_traffic: [&'static Metric; 5],
    others: [&'static Metric; 7],
) {
    traffic(page, of_traffic, rows, |total| &total.traffic, &[]);
    let values: [fn(&UpstreamTotal) -> u64; 7] = [
        |it| it.active,
        |it| it.failures,
        |it| it.retries,
        |it| it.connect_failures,
        |it| it.opened,
        |it| it.connections,
        |it| it.idle,
    ];
    let pairs: Vec<Field<UpstreamTotal>> = others.into_iter().zip(values).collect();
    fields(page, rows, &pairs);
}

fn traffic<T>(
    page: &mut Page,
    [requests, responses, durations, received, sent]: [&'static Metric; 5],
    rows: &[Row<T>],
    total: fn(&T) -> &TrafficTotal,
    // By row; routes alone have some.
    exemplars: &[[Option<Exemplar>; BUCKETS]],
) {
    let mut family = page.family(requests);
    for (labels, row) in rows {
        family.number(labels, total(row).requests);
    }
    let mut family = page.family(responses);
    for (labels, row) in rows {
        for (code, count) in CODES.iter().zip(total(row).responses) {
            family.number_of(labels, ("code", code), count);
        }
    }
    let mut family = page.family(durations);
    for (place, (labels, row)) in rows.iter().enumerate() {
        let TrafficTotal {
            buckets,
            sum_nanoseconds,
            ..
        } = total(row);
        family.histogram(labels, buckets, *sum_nanoseconds, exemplars.get(place));
    }
    let mut family = page.family(received);
    for (labels, row) in rows {
        family.number(labels, total(row).received);
    }
    let mut family = page.family(sent);
    for (labels, row) in rows {
        family.number(labels, total(row).sent);
    }
}
