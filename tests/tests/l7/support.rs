//! A daemon with one listener, in front of the scripted backend.

use anyhow::Result;
use std::net::SocketAddr;
use weir_tests::l7::{Answer, Curl, Raw, Site, Weir};

/// A daemon, and where its listener `web` is.
pub struct Proxy {
    pub weir: Weir,
    pub address: SocketAddr,
}

impl Proxy {
    /// With these further keys of the listener, everything goes to the backend's HTTP/1.1 port.
    pub fn start(listener: &str) -> Result<Self> {
        Self::with_routes(listener, "      - { cluster: backend }")
    }

    /// With these routes; clusters are `backend` (HTTP/1.1), `h2c`, `tls` (with the backend's certificate verified).
    pub fn with_routes(listener: &str, routes: &str) -> Result<Self> {
        Self::with_clusters(listener, routes, "")
    }

    /// With further clusters.
    pub fn with_clusters(listener: &str, routes: &str, clusters: &str) -> Result<Self> {
        let site = Site::shared();
        let address = site.port();
        let config = config(site, address, listener, routes, clusters);
        Ok(Self {
            weir: Weir::start(site, &config)?,
            address,
        })
    }

    /// curl for a path of the listener.
    pub fn curl(&self, path: &str) -> Curl<'static> {
        Curl::new(Site::shared(), &format!("http://{}{path}", self.address))
    }

    /// What curl gets for a path.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.curl(path).answer()
    }

    /// A connection to the listener.
    pub fn raw(&self) -> Result<Raw> {
        Raw::connect(Site::shared(), self.address)
    }

    /// Sends bytes on a connection of their own, and reads one answer.
    pub fn ask(&self, bytes: &str) -> Result<Answer> {
        let mut raw = self.raw()?;
        raw.send(bytes);
        raw.answer_to(bytes.split(' ').next().unwrap_or_default())
    }
}

/// The config of [`Proxy`].
pub fn config(site: &Site, address: SocketAddr, listener: &str, routes: &str, clusters: &str) -> String {
    let backend = site.backend();
    let ca = site.authority().cert.display().to_string();
    let indented: String = listener.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "listeners:
  - name: web
    address: {address}
{indented}    routes:
{routes}
clusters:
  - {{ name: backend, endpoints: [\"{}\"] }}
  - {{ name: h2c, protocol: h2, endpoints: [\"{}\"] }}
  - {{ name: tls, tls: {{ ca: {ca} }}, endpoints: [\"{}\"] }}
  - {{ name: tls1, protocol: http1, tls: {{ ca: {ca} }}, endpoints: [\"{}\"] }}
{clusters}
",
        backend.h1, backend.h2c, backend.tls, backend.tls
    )
}
