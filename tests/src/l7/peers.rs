//! Envoy, HAProxy and nginx as proxies: in front of the daemon, behind it, and in its place.

use super::{Site, site::venv_program};
use crate::lab::Process;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fmt::Write, fs, net::SocketAddr};

/// A listener of a peer, and the one server it forwards everything to.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it forwards to, HTTP/1.1.
    pub to: SocketAddr,
}

/// Starts nginx with a server for each hop.
pub fn nginx(site: &Site, hops: &[Hop]) -> Result<Process> {
    let folder = site.subfolder("nginx-proxy")?;
    let mut servers = String::new();
    for Hop { listen, to } in hops {
        // Without a path in proxy_pass the target goes on as it came.
        writeln!(
            servers,
            "  server {{ listen {listen}; location / {{ proxy_pass http://{to}; }} }}"
        )?;
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path tmp; "))
        .concat();
    let config = format!(
        "daemon off; master_process off; user root; pid nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ {temporary} access_log off; keepalive_timeout 0; proxy_http_version 1.1; proxy_set_header Connection \"\";
  proxy_set_header Host $http_host; proxy_buffering off; proxy_request_buffering off; client_max_body_size 0;
  large_client_header_buffers 8 128k; underscores_in_headers on;
{servers}}}
"
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = site.host().command("nginx")?;
    command
        .args(["-e", "/dev/null", "-c", "nginx.conf", "-p"])
        .arg(&folder);
    started(site, site.host().spawn(&mut command)?, hops)
}

/// Starts HAProxy with a frontend for each hop.
pub fn haproxy(site: &Site, hops: &[Hop]) -> Result<Process> {
    let folder = site.subfolder("haproxy")?;
    let mut config =
        "global\n  tune.bufsize 131072\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 10s\n  \
                      timeout client 60s\n  timeout server 60s\n  option http-keep-alive\n"
            .to_owned();
    for (number, Hop { listen, to }) in hops.iter().enumerate() {
        writeln!(config, "listen hop{number}\n  bind {listen}\n  server one {to}")?;
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, config)?;
    let mut command = site.host().command("haproxy")?;
    command.args(["-db", "-q", "-f"]).arg(&path);
    started(site, site.host().spawn(&mut command)?, hops)
}

/// Starts Envoy with these static listeners and clusters; `hops` are waited for.
pub fn envoy(site: &Site, config: &Value, hops: &[Hop]) -> Result<Process> {
    let folder = site.subfolder("envoy")?;
    let path = folder.join("envoy.json");
    fs::write(&path, config.to_string())?;
    let program = venv_program("envoy")?;
    let mut command = site.host().command(&program.to_string_lossy())?;
    command
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
            "-c",
        ])
        .arg(&path);
    started(site, site.host().spawn(&mut command)?, hops)
}

fn started(site: &Site, mut process: Process, hops: &[Hop]) -> Result<Process> {
    for hop in hops {
        site.wait_for(hop.listen, &mut process)
            .with_context(|| process.output())?;
    }
    Ok(process)
}

/// Envoy's bootstrap for these listeners and the clusters they name.
pub fn envoy_bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

/// A cluster of one endpoint that speaks HTTP/1.1.
pub fn envoy_cluster(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": envoy_address(to)}}]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
            }
        },
    })
}

/// A listener of HTTP whose settings are those of the daemon's defaults.
pub fn envoy_listener(name: &str, listen: SocketAddr, routes: &Value) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": true,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "strip_any_host_port": false,
        "http_protocol_options": {"accept_http_10": true, "enable_trailers": true, "allow_chunked_length": false},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "proxy_100_continue": true,
        "max_request_headers_kb": 64,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": true}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    json!({
        "name": name,
        "address": envoy_address(listen),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    })
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
