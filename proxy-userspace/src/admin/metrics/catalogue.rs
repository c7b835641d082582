//! Every metric there is: the page and docs/metrics.md are made from this table alone.

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its family's name: a counter's without `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The base unit its name ends with; empty for plain numbers.
    pub unit: &'static str,
    /// Labels of its samples, in order.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Grows, and begins anew with the daemon (those of the kernel with its maps).
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A part of the catalogue.
#[derive(Debug)]
pub struct Group {
    /// As the docs head it.
    pub title: &'static str,
    /// In the page's order.
    pub metrics: &'static [&'static Metric],
}

macro_rules! catalogue {
    ($($title:literal { $($constant:ident $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal)* })*) => {
        $($(#[doc = $help] pub static $constant: Metric = Metric {
            name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help,
        };)*)*

        /// All of them.
        pub static GROUPS: &[Group] = &[$(Group { title: $title, metrics: &[$(&$constant),*] }),*];
    };
}

catalogue! {
    "General" {
        BUILD_INFO Gauge "weir_build_info" "" ["version"]
            "Always 1; Weir's version."
        START_TIME Gauge "weir_start_time_seconds" "seconds" []
            "When the daemon started, since 1970."
        GENERATION Gauge "weir_generation" "" ["plane"]
            "The generation of the config, endpoints and health that is `wanted`, and that `kernel` and `l7` have. It grows with every change."
        READY Gauge "weir_ready" "" []
            "1 while traffic should be sent here; 0 while the daemon drains."
        CONFIG_REFUSED Gauge "weir_config_refused" "" []
            "1 while the last reload was refused and an older config goes on."
        PLANE_FAILING Gauge "weir_kernel_plane_failing" "" []
            "1 while the kernel plane could not take a change or its counters can't be read; it is tried again."
        WARNINGS Gauge "weir_warnings" "" []
            "Warnings that `weir status` shows now."
        MEMORY Gauge "weir_memory_resident_bytes" "bytes" []
            "Memory that the daemon has."
        MEMORY_LIMIT Gauge "weir_memory_limit_bytes" "bytes" []
            "Memory that it may have, by limits.memory_bytes, else by its control group; absent where neither says."
        MEMORY_SHORT Gauge "weir_memory_short" "" []
            "1 while it has that much, and new client connections are closed."
        NAME_RESOLVED Gauge "weir_dns_name_resolved" "" ["name"]
            "1 while a name of endpoints resolves, 0 while look-ups fail and the addresses it had stay in use."
        NAME_SINCE Gauge "weir_dns_name_changed_timestamp_seconds" "seconds" ["name"]
            "Since when weir_dns_name_resolved is what it is, since 1970."
        AUDIT_LOST Counter "weir_audit_log_lost_lines" "" []
            "Changes that are in the log alone, since the file of admin.audit_log could not be written."
        PANICS Counter "weir_panics" "" []
            "Panics in threads that are no worker's, each a bug of Weir."
    }
    "Kernel" {
        KERNEL_UP Gauge "weir_kernel_plane_up" "" []
            "1 with a kernel plane, 0 without one (`--no-kernel`, or no privileges)."
        INTERFACE Gauge "weir_interface_info" "" ["interface", "xdp"]
            "Always 1; how XDP is attached: native, generic, off, absent or refused."
        DROPS Counter "weir_kernel_dropped_packets" "" ["reason"]
            "Packets dropped, by reason, since the maps were made."
        STEERED Counter "weir_kernel_steering_lookups" "" ["outcome"]
            "Lookups for L7 addresses, about one a connection, by outcome."
        DECAP Counter "weir_kernel_tunnel_packets" "" ["outcome"]
            "Packets that came through tunnels, by outcome."
        MAP_ENTRIES Gauge "weir_kernel_map_entries" "" ["map"]
            "Entries of a kernel map; flows as of the last sweep, 5 s ago at most."
        MAP_MAX Gauge "weir_kernel_map_max_entries" "" ["map"]
            "Most entries that the map can hold."
        SERVICE Gauge "weir_service_info" "" ["service", "address", "protocol", "mode", "cluster"]
            "Always 1; a listener with `forward`."
        SERVICE_PACKETS Counter "weir_service_packets" "" ["service", "direction"]
            "Packets forwarded: `in` from clients, `out` from endpoints (with NAT alone: others answer directly)."
        SERVICE_BYTES Counter "weir_service_bytes" "bytes" ["service", "direction"]
            "Frame bytes of these."
        SERVICE_FLOWS Counter "weir_service_flows_opened" "" ["service"]
            "Flows opened."
        SERVICE_DROPS Counter "weir_service_dropped_packets" "" ["service"]
            "Packets from clients that were dropped after the service was known."
        SERVICE_UNTRACKED Counter "weir_service_untracked_packets" "" ["service"]
            "Packets whose flow was to be remembered and was not: the table was full, or too many came."
        BACKEND_PACKETS Counter "weir_service_endpoint_packets" "" ["service", "endpoint", "direction"]
            "Packets forwarded, by endpoint."
        BACKEND_BYTES Counter "weir_service_endpoint_bytes" "bytes" ["service", "endpoint", "direction"]
            "Frame bytes of these."
        BACKEND_FLOWS Counter "weir_service_endpoint_flows_opened" "" ["service", "endpoint"]
            "Flows opened, by endpoint."
        BACKEND_DROPS Counter "weir_service_endpoint_dropped_packets" "" ["service", "endpoint"]
            "Packets from clients that were dropped after the endpoint was known."
    }
    "Endpoints of both planes" {
        WEIGHT Gauge "weir_endpoint_weight" "" ["cluster", "endpoint"]
            "The weight that is wanted: the config's, or what `weir endpoint set` said."
        EFFECTIVE_WEIGHT Gauge "weir_endpoint_effective_weight" "" ["cluster", "endpoint"]
            "The weight in force: 0 while draining or unhealthy."
        SHARE Gauge "weir_endpoint_share_ratio" "" ["cluster", "endpoint"]
            "Its part of the cluster's effective weights, 0 to 1."
        HEALTHY Gauge "weir_endpoint_healthy" "" ["cluster", "endpoint"]
            "1 while its health check passes, 0 while it fails; absent without a verdict."
        HEALTH_CHANGED Gauge "weir_endpoint_health_changed_timestamp_seconds" "seconds" ["cluster", "endpoint"]
            "When the verdict last changed, since 1970; absent before the first one."
        DRAINING Gauge "weir_endpoint_draining" "" ["cluster", "endpoint"]
            "1 while it keeps what it has and gets nothing new."
        OVERRIDDEN Gauge "weir_endpoint_overridden" "" ["cluster", "endpoint"]
            "1 while `weir endpoint set` says otherwise than the config."
    }
    "Workers" {
        STEERING Gauge "weir_steering_info" "" ["steering"]
            "Always 1; how connections reach workers: sk_lookup or reuseport."
        WORKER_GENERATION Gauge "weir_worker_generation" "" ["worker"]
            "The generation that a worker serves."
        WORKER_CONNECTIONS Gauge "weir_worker_connections" "" ["worker"]
            "Client connections open."
        WORKER_ACCEPTED Counter "weir_worker_connections_accepted" "" ["worker"]
            "Client connections accepted."
        WORKER_REQUESTS Counter "weir_worker_requests" "" ["worker"]
            "HTTP requests, and TCP connections forwarded."
        WORKER_RESPONSES Counter "weir_worker_responses" "" ["worker", "code"]
            "Responses by class of their status, 1xx to 5xx."
        WORKER_RECEIVED Counter "weir_worker_received_bytes" "bytes" ["worker"]
            "Bytes from clients, inside TLS."
        WORKER_SENT Counter "weir_worker_sent_bytes" "bytes" ["worker"]
            "Bytes to clients, inside TLS."
        WORKER_ACCEPT_ERRORS Counter "weir_worker_accept_errors" "" ["worker"]
            "Failures to accept, for want of file descriptors or memory."
        WORKER_REFUSED Counter "weir_worker_connections_refused" "" ["worker"]
            "Client connections closed at once, for want of memory."
        WORKER_PANICS Counter "weir_worker_panics" "" ["worker"]
            "Panics on a worker's thread, each a bug of Weir that ended a connection, a stream or the worker itself."
        WORKER_REPLACED Counter "weir_worker_replacements" "" ["worker"]
            "How often another thread took the place of a worker that had ended."
        HANDSHAKES_FAILED Counter "weir_tls_handshake_failures" "" ["reason"]
            "TLS handshakes with clients that failed, by reason."
    }
    "Tracing" {
        SPANS_EXPORTED Counter "weir_trace_spans_exported" "" []
            "Spans that the collector has taken. This group is there once `tracing` was."
        SPANS_DROPPED Counter "weir_trace_spans_dropped" "" ["reason"]
            "Spans lost: `queue_full` while the collector was slow or away, `refused` by it, `unreachable` when it was away for too long."
        EXPORT_FAILURES Counter "weir_trace_export_failures" "" []
            "Tries to send spans that failed; most are repeated."
    }
    "Listeners" {
        LISTENER Gauge "weir_listener_info" "" ["listener", "address", "protocol"]
            "Always 1; a listener with `routes` or `tcp`, its first address, and http, https, tcp or tls."
        LISTENER_ROUTES Gauge "weir_listener_routes" "" ["listener"]
            "Routes it has."
        LISTENER_CONNECTIONS Gauge "weir_listener_connections" "" ["listener"]
            "Client connections open."
        LISTENER_ACCEPTED Counter "weir_listener_connections_accepted" "" ["listener"]
            "Client connections accepted."
        LISTENER_RECEIVED Counter "weir_listener_received_bytes" "bytes" ["listener"]
            "Bytes from clients, inside TLS."
        LISTENER_SENT Counter "weir_listener_sent_bytes" "bytes" ["listener"]
            "Bytes to clients, inside TLS."
        CERTIFICATE_EXPIRY Gauge "weir_tls_certificate_expiry_timestamp_seconds" "seconds" ["listener", "name"]
            "When a certificate ends, since 1970, by its first name."
        LOG_DROPPED Counter "weir_access_log_dropped_lines" "" ["listener"]
            "Access log lines of the listener's file that were dropped since the disk was slower than the requests."
    }
    "Routes" {
        ROUTE_REQUESTS Counter "weir_route_requests" "" ["listener", "route"]
            "Requests."
        ROUTE_RESPONSES Counter "weir_route_responses" "" ["listener", "route", "code"]
            "Responses by class of their status, 1xx to 5xx."
        ROUTE_DURATION Histogram "weir_route_request_duration_seconds" "seconds" ["listener", "route"]
            "From a request's head to its response's last byte."
        ROUTE_RECEIVED Counter "weir_route_received_bytes" "bytes" ["listener", "route"]
            "Bytes of bodies from clients."
        ROUTE_SENT Counter "weir_route_sent_bytes" "bytes" ["listener", "route"]
            "Bytes of bodies to clients."
    }
    "Clusters" {
        CLUSTER_REQUESTS Counter "weir_cluster_requests" "" ["cluster"]
            "Requests and TCP connections for a cluster."
        CLUSTER_RESPONSES Counter "weir_cluster_responses" "" ["cluster", "code"]
            "Responses by class of their status, 1xx to 5xx."
        CLUSTER_DURATION Histogram "weir_cluster_request_duration_seconds" "seconds" ["cluster"]
            "From a request's head to its response's last byte."
        CLUSTER_RECEIVED Counter "weir_cluster_received_bytes" "bytes" ["cluster"]
            "Bytes of bodies from clients."
        CLUSTER_SENT Counter "weir_cluster_sent_bytes" "bytes" ["cluster"]
            "Bytes of bodies to clients."
        CLUSTER_ACTIVE Gauge "weir_cluster_requests_active" "" ["cluster"]
            "Requests and TCP connections that are not over."
        CLUSTER_FAILURES Counter "weir_cluster_request_failures" "" ["cluster"]
            "Requests and TCP connections that got no answer from there: refused, timed out, reset."
        CLUSTER_RETRIES Counter "weir_cluster_retries" "" ["cluster"]
            "Requests sent again, to there or on a fresh connection, since they can't have been seen or do no harm twice."
        CLUSTER_CONNECT_FAILURES Counter "weir_cluster_connect_failures" "" ["cluster"]
            "Connections that could not be opened, TLS included."
        CLUSTER_OPENED Counter "weir_cluster_connections_opened" "" ["cluster"]
            "Connections opened."
        CLUSTER_CONNECTIONS Gauge "weir_cluster_connections" "" ["cluster"]
            "Connections open or being opened: the pools of all workers."
        CLUSTER_IDLE Gauge "weir_cluster_connections_idle" "" ["cluster"]
            "Those of them that wait for a request (HTTP/1.1)."
    }
    "Endpoints, L7" {
        ENDPOINT_REQUESTS Counter "weir_endpoint_requests" "" ["cluster", "endpoint"]
            "Requests sent to an endpoint, those of tries that failed too, and TCP connections."
        ENDPOINT_RESPONSES Counter "weir_endpoint_responses" "" ["cluster", "endpoint", "code"]
            "Responses by class of their status, 1xx to 5xx."
        ENDPOINT_DURATION Histogram "weir_endpoint_request_duration_seconds" "seconds" ["cluster", "endpoint"]
            "From a request's head to its response's last byte."
        ENDPOINT_RECEIVED Counter "weir_endpoint_received_bytes" "bytes" ["cluster", "endpoint"]
            "Bytes of bodies from clients."
        ENDPOINT_SENT Counter "weir_endpoint_sent_bytes" "bytes" ["cluster", "endpoint"]
            "Bytes of bodies to clients."
        ENDPOINT_ACTIVE Gauge "weir_endpoint_requests_active" "" ["cluster", "endpoint"]
            "Requests and TCP connections that are not over."
        ENDPOINT_FAILURES Counter "weir_endpoint_request_failures" "" ["cluster", "endpoint"]
            "Requests and TCP connections that got no answer from there: refused, timed out, reset."
        ENDPOINT_RETRIES Counter "weir_endpoint_retries" "" ["cluster", "endpoint"]
            "Requests sent again, to there or on a fresh connection, since they can't have been seen or do no harm twice."
        ENDPOINT_CONNECT_FAILURES Counter "weir_endpoint_connect_failures" "" ["cluster", "endpoint"]
            "Connections that could not be opened, TLS included."
        ENDPOINT_OPENED Counter "weir_endpoint_connections_opened" "" ["cluster", "endpoint"]
            "Connections opened."
        ENDPOINT_CONNECTIONS Gauge "weir_endpoint_connections" "" ["cluster", "endpoint"]
            "Connections open or being opened: the pools of all workers."
        ENDPOINT_IDLE Gauge "weir_endpoint_connections_idle" "" ["cluster", "endpoint"]
            "Those of them that wait for a request (HTTP/1.1)."
    }
}

/// Names of the samples that a metric has.
pub fn sample_names(metric: &Metric) -> Vec<String> {
    let suffixes: &[&str] = match metric.kind {
        Kind::Histogram => &["_bucket", "_sum", "_count"],
        _ => &[metric.kind.suffix()],
    };
    suffixes
        .iter()
        .map(|suffix| format!("{}{suffix}", metric.name))
        .collect()
}

/// All of them, without their groups.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut names = HashSet::new();
        for Metric {
            name,
            unit,
            labels,
            help,
            ..
        } in all()
        {
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("weir_") && !name.ends_with("_total"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
            );
            assert!(
                unit.is_empty() || name.ends_with(&format!("_{unit}")),
                "{name}: {unit}"
            );
            assert!(
                labels.iter().collect::<HashSet<_>>().len() == labels.len(),
                "{name}"
            );
            assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        }
    }
}
