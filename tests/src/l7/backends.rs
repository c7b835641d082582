//! The servers behind the daemon that speak HTTP: a scripted one in Node, and nginx with big files.

use super::{Site, script};
use crate::lab::Process;
use anyhow::{Context, Result};
use serde_json::json;
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
};

/// tests/data/l7/backend.mjs: what it does is said there, by path.
pub struct Backend {
    /// HTTP/1.1.
    pub h1: SocketAddr,
    /// HTTP/2 without TLS.
    pub h2c: SocketAddr,
    /// TLS, with HTTP/2 and HTTP/1.1, for `localhost` and 127.0.0.1; asks for client certificates.
    pub tls: SocketAddr,
    /// Held to keep it running.
    pub process: Process,
}

impl Backend {
    /// Starts one that calls itself by this name.
    pub fn start(site: &Site, name: &str) -> Result<Self> {
        Self::start_on(site, name, [site.port(), site.port(), site.port()])
    }

    /// Starts one on these ports: HTTP/1.1, HTTP/2 without TLS, TLS.
    pub fn start_on(site: &Site, name: &str, addresses: [SocketAddr; 3]) -> Result<Self> {
        let [h1, h2c, tls] = addresses;
        let identity = site
            .authority()
            .issue(name, name, &["DNS:localhost", "IP:127.0.0.1"])?;
        let options = json!({
            "name": name, "h1": h1.port(), "h2c": h2c.port(), "tls": tls.port(),
            "cert": identity.cert, "key": identity.key, "ca": site.authority().cert,
        });
        let mut process = site
            .host()
            .spawn(script(site, "backend.mjs")?.arg(options.to_string()))?;
        for address in addresses {
            site.wait_for(address, &mut process)?;
        }
        Ok(Self {
            h1,
            h2c,
            tls,
            process,
        })
    }
}

/// nginx that serves files without reading them through a program's memory.
pub struct HttpFiles {
    /// HTTP/1.1.
    pub address: SocketAddr,
    folder: PathBuf,
    /// Held to keep it running.
    pub process: Process,
}

impl HttpFiles {
    /// The length of `/2g`, which holds zeroes.
    pub const BIG: u64 = 2 << 30;

    pub(super) fn start(site: &Site) -> Result<Self> {
        let folder = site.subfolder("files")?;
        let address = site.port();
        // Without blocks on disk: 2 GiB that cost nothing.
        File::create(folder.join("2g"))?.set_len(Self::BIG)?;
        fs::write(folder.join("small"), "small\n")?;
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path tmp; "))
            .concat();
        let config = format!(
            "daemon off; master_process off; user root; pid nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{ {temporary} access_log off; sendfile on; default_type text/plain; keepalive_requests 100000000;
  server {{ listen {address} backlog=4096; root .; location = / {{ return 200 \"nginx\\n\"; }} }} }}
"
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = site.host().command("nginx")?;
        command
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(&folder);
        let mut process = site.host().spawn(&mut command).context("start nginx")?;
        site.wait_for(address, &mut process)?;
        Ok(Self {
            address,
            folder,
            process,
        })
    }

    /// What `/2g` is.
    pub fn big_file(&self) -> PathBuf {
        self.folder.join("2g")
    }
}
