//! nginx's configuration.

use super::super::job::{CONNECTIONS, Job, Kind, Routes};

/// The text of nginx.conf; `stream` is the module for TCP. Certificates lie beside it.
pub fn nginx(job: &Job, stream: &str) -> String {
    let module = if job.kind == Kind::Tcp {
        format!("load_module {stream};\n")
    } else {
        String::new()
    };
    // One process without a master: it dies with the bench.
    format!(
        "{module}daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
worker_rlimit_nofile {files};
events {{ worker_connections {CONNECTIONS}; }}
{body}",
        files = 3 * CONNECTIONS,
        body = if job.kind == Kind::Tcp {
            tcp(job)
        } else {
            http(job)
        },
    )
}

fn tcp(job: &Job) -> String {
    format!(
        "stream {{ server {{ listen {}; tcp_nodelay on; proxy_pass {}; }} }}\n",
        job.from, job.to
    )
}

fn http(job: &Job) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path tmp;\n"))
        .concat();
    let listen = match job.kind {
        Kind::Tls => format!("{} ssl http2", job.from),
        Kind::H2c => format!("{} http2", job.from),
        _ => job.from.to_string(),
    };
    let certificate = match job.kind {
        Kind::Tls => {
            "  ssl_certificate cert.pem;\n  ssl_certificate_key key.pem;\n  ssl_protocols TLSv1.3;\n"
        }
        _ => "",
    };
    format!(
        "http {{
{temporary}{certificate}  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1024;
  client_max_body_size 0;
  server_names_hash_max_size 1048576;
  server_names_hash_bucket_size 128;
  upstream b {{
    server {to};
    keepalive {CONNECTIONS};
    keepalive_requests 1000000000;
  }}
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
{headers}{servers}}}
",
        to = job.to,
        headers = headers("proxy", "  proxy_set_header Connection \"\";\n") + &headers("grpc", ""),
        servers = servers(job, &listen),
    )
}

fn headers(module: &str, more: &str) -> String {
    format!(
        "  {module}_set_header Host $http_host;
  {module}_set_header X-Forwarded-For $remote_addr;
  {module}_set_header X-Forwarded-Proto $scheme;
  {module}_set_header X-Forwarded-Host $http_host;
  {module}_set_header X-Request-Id $request_id;
{more}"
    )
}

fn servers(job: &Job, listen: &str) -> String {
    let pass = match job.kind {
        Kind::H2c => "grpc_pass grpc://b;",
        _ => "proxy_pass http://b;",
    };
    if job.routes.count == 0 {
        return format!("  server {{ listen {listen}; location / {{ {pass} }} }}\n");
    }
    let mut text = String::new();
    for host in 0..job.routes.hosts {
        text += &format!(
            "  server {{ listen {listen}; server_name {};\n",
            Routes::host(host)
        );
        for route in job.routes.of_host(host) {
            text += &format!("    location {} {{ {pass} }}\n", Routes::prefix(route));
        }
        text += "  }\n";
    }
    text
}
