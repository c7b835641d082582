//! Weir's configuration.

use super::super::job::{CONNECTIONS, Job, Kind};
use std::path::Path;

/// The text of weir.yaml. Certificates lie in `folder`, as does the admin socket.
pub fn weir(job: &Job, folder: &Path) -> String {
    let tls = match job.kind {
        Kind::Tls => "    tls: { certificates: [{ cert: cert.pem, key: key.pem }], min_version: \"1.3\" }\n",
        _ => "",
    };
    let service = match (job.kind, job.routes.count) {
        (Kind::Tcp, _) => "    tcp: { cluster: b }\n".to_owned(),
        (_, 0) => "    routes:\n      - cluster: b\n".to_owned(),
        _ => {
            let route = |host: &str, prefix: &str| {
                format!("      - {{ match: {{ host: {host}, path_prefix: {prefix} }}, cluster: b }}")
            };
            format!("    routes:\n{}", job.routes.lines(route))
        }
    };
    let protocol = match job.kind {
        Kind::H2c => "    protocol: h2\n",
        _ => "",
    };
    format!(
        "admin: {{ socket: \"{socket}\" }}
listeners:
  - name: l
    address: {from}
{tls}{service}clusters:
  - name: b
{protocol}    pool: {{ max_idle: {CONNECTIONS} }}
    endpoints: [\"{to}\"]
",
        socket = folder.join("admin.sock").display(),
        from = job.from,
        to = job.to,
    )
}
