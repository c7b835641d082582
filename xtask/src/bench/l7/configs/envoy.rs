//! Envoy's configuration.

use super::super::job::{CONNECTIONS, Job, Kind, Routes};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};

/// The start of the names of Envoy's types.
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The text of a JSON configuration; certificates lie in `folder`.
pub fn envoy(job: &Job, folder: &Path) -> String {
    let mut chain = json!({ "filters": [filter(job)] });
    if job.kind == Kind::Tls {
        chain["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_3",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "tls_certificates": [{
                        "certificate_chain": { "filename": folder.join("cert.pem") },
                        "private_key": { "filename": folder.join("key.pem") },
                    }],
                },
            },
        });
    }
    let listener = json!({ "name": "l", "address": address(job.from), "filter_chains": [chain] });
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster(job)] } }).to_string()
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn filter(job: &Job) -> Value {
    if job.kind == Kind::Tcp {
        return json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "l",
                "cluster": "b",
            },
        });
    }
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "l",
            "codec_type": "AUTO",
            // X-Forwarded-For and -Proto are made by us.
            "use_remote_address": true,
            "http2_protocol_options": { "max_concurrent_streams": 1024 },
            "route_config": { "virtual_hosts": hosts(job) },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
            }],
        },
    })
}

fn hosts(job: &Job) -> Vec<Value> {
    let route = |prefix: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": "b" } });
    if job.routes.count == 0 {
        return vec![json!({ "name": "any", "domains": ["*"], "routes": [route("/")] })];
    }
    let host = |host| {
        let routes: Vec<Value> = job
            .routes
            .of_host(host)
            .map(|number| route(&Routes::prefix(number)))
            .collect();
        json!({ "name": Routes::host(host), "domains": [Routes::host(host)], "routes": routes })
    };
    (0..job.routes.hosts).map(host).collect()
}

fn cluster(job: &Job) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(job.to) } });
    let mut cluster = json!({
        "name": "b",
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [{
            "max_connections": CONNECTIONS,
            "max_pending_requests": CONNECTIONS,
            "max_requests": CONNECTIONS,
        }] },
        "load_assignment": { "cluster_name": "b", "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if job.kind == Kind::H2c {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    cluster
}
