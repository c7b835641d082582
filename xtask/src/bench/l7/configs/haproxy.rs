//! HAProxy's configuration.

use super::super::job::{CONNECTIONS, Job, Kind};

/// The routes' file, beside the configuration.
pub const MAP: &str = "routes.map";

/// The text of haproxy.cfg. The certificate lies beside it, in both.pem.
pub fn haproxy(job: &Job) -> String {
    let (mode, bind, server) = match job.kind {
        Kind::Http1 => ("http", "", ""),
        Kind::Tls => (
            "http",
            " ssl crt both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3",
            "",
        ),
        Kind::H2c => ("http", " proto h2", " proto h2"),
        Kind::Tcp => ("tcp", "", ""),
    };
    let headers = match job.kind {
        Kind::Tcp => "",
        _ => {
            "  option forwardfor
  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
  http-request set-header X-Forwarded-Proto https if { ssl_fc }
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Request-Id %[uuid()]
"
        }
    };
    let reuse = if mode == "http" {
        "  http-reuse always\n"
    } else {
        ""
    };
    let chosen = if job.routes.count == 0 {
        "default_backend b".to_owned()
    } else {
        // `base` is host and path; the map is a tree of prefixes.
        format!("use_backend %[base,map_beg({MAP})]")
    };
    format!(
        "global
  nbthread 1
  maxconn {CONNECTIONS}
  tune.h2.max-concurrent-streams 1024
defaults
  mode {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
{reuse}frontend f
  bind {from}{bind}
{headers}  {chosen}
backend b
  server s {to}{server} pool-max-conn -1
",
        from = job.from,
        to = job.to,
    )
}

/// The text of the routes' file.
pub fn haproxy_map(job: &Job) -> String {
    job.routes.lines(|host, prefix| format!("{host}{prefix} b"))
}
