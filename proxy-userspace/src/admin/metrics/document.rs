//! docs/metrics.md, made from the catalogue.

use super::catalogue::{GROUPS, Kind, Metric};
use crate::{
    control::MOST_ENDPOINTS,
    l7::meters::{BOUNDS_SECONDS, MOST_ROUTES},
};
use std::fmt::Write;

/// The page.
pub fn document() -> String {
    let bounds: Vec<String> = BOUNDS_SECONDS.iter().map(f64::to_string).collect();
    let (routes, endpoints) = (with_commas(MOST_ROUTES), with_commas(MOST_ENDPOINTS));
    // Requests, codes, buckets with sum and count, bytes.
    let route_series = 1 + 5 + BOUNDS_SECONDS.len() + 3 + 2;
    let mut text = format!(
        r#"# Metrics

<!-- Made by `WEIR_BLESS=1 cargo test -p proxy-userspace --lib metrics`, which fails without WEIR_BLESS when this page is not true. -->

`GET /metrics` on the admin API answers in Prometheus' text format 0.0.4, or in OpenMetrics 1.0.0 to scrapers that prefer it:

    curl --unix-socket /run/weir/admin.sock http://weir/metrics

Prometheus needs TCP. `metrics: {{ address: 127.0.0.1:9100 }}` in the config serves `GET /metrics`, `/ready` and `/live`, and nothing else, at that address:
without authentication or encryption, so that it belongs on the loopback interface or a management network.

[config/prometheus/prometheus.yaml](../config/prometheus/prometheus.yaml) scrapes it, [alerts.yaml](../config/prometheus/alerts.yaml) has alert
rules, [config/grafana/weir.json](../config/grafana/weir.json) is a dashboard (Grafana asks for the data source when it is imported).

## Cardinality

Labels name what the config names, never what clients send. What bounds the number of series:

- Routes: the first {routes} routes of the config, over all listeners, have series of their own; all others of a listener are `route="_other"`. Requests
  that no route took (404, 400 and others) are `route="_none"`. A route without a name is `routes[N]`, by its place from 0. A route has
  {route_series} series.
- Endpoints: the first {endpoints} of the config in the order of cluster names have series of their own, and so have the first {endpoints} pairs of service and
  endpoint; sums of all are in the series of cluster and service. An endpoint has {state_series} series of weight and health, and {endpoint_series} more of its requests once
  a worker has sent it one, so that those of services alone have none; a pair of service and endpoint has 6.
- Workers, listeners, services, clusters, drop reasons, DNS names of endpoints: as many as there are.

Counters of listeners, routes, clusters and endpoints survive a reload as long as the name (or address) stays, and begin anew with the
daemon; those of packets are the kernel's and begin anew with its maps. A tunnel (WebSocket, CONNECT) is a request that ends with its
101 or 200; its bytes are counted when it closes, for listener, cluster and endpoint, not for the route. Cluster and endpoint count a response
only if the endpoint gave it; the route counts those too that Weir made.

Bounds of histograms, in seconds: {bounds}.

In OpenMetrics each bucket of `weir_route_request_duration_seconds` has an exemplar, once a request in it was traced ([tracing.md](tracing.md)): the trace's id, what
it took, and when. It is the last one of the bucket; 15 a route at most, of clusters and endpoints none. Prometheus keeps them with
`--enable-feature=exemplar-storage`.
"#,
        state_series = "5 to 7",
        endpoint_series = route_series + 7,
        bounds = bounds.join(", "),
    );
    for group in GROUPS {
        let written = write!(
            text,
            "\n## {}\n\n| Metric | Type | Labels | |\n|---|---|---|---|\n",
            group.title
        );
        // Writing to a String doesn't fail.
        debug_assert!(written.is_ok());
        for metric in group.metrics {
            text.push_str(&row(metric));
        }
    }
    text
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let histogram = if metric.kind == Kind::Histogram {
        "`le`"
    } else {
        ""
    };
    let mut labels = labels.join(", ");
    if !histogram.is_empty() {
        labels = format!("{labels}, {histogram}");
    }
    format!(
        "| `{}{}` | {} | {labels} | {} |\n",
        metric.name,
        metric.kind.suffix(),
        metric.kind.name(),
        metric.help
    )
}

fn with_commas(number: usize) -> String {
    format!("{},{:03}", number / 1_000, number % 1_000)
}

#[cfg(test)]
mod tests {
    use super::document;
    use std::{env, fs, path::Path};

    #[test]
    fn the_page_in_docs_is_true() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let page = document();
        if env::var_os("WEIR_BLESS").is_some() {
            fs::write(&path, &page).unwrap();
        }
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page,
            "docs/metrics.md is not what the catalogue says; rewrite it with WEIR_BLESS=1"
        );
    }
}
