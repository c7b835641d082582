//! Where the other proxies and the load generators are; `cargo xtask setup` has all but nginx's module for TCP.

use crate::{
    setup::{self, Apt, Show},
    shell,
};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// nginx's module for TCP, and Debian's package of it: nothing but this bench needs it.
const NGINX_STREAM: (&str, &str) = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "libnginx-mod-stream",
);

/// Programs of the bench.
pub struct Peers {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// HAProxy's.
    pub haproxy: PathBuf,
    /// nginx's.
    pub nginx: PathBuf,
    /// nginx's stream module.
    pub nginx_stream: &'static str,
    /// HTTP/1.1 load.
    pub wrk: PathBuf,
    /// HTTP/2 load.
    pub h2load: PathBuf,
}

impl Peers {
    /// Finds all of them.
    ///
    /// # Errors
    /// When one is missing: the message says what to do.
    pub fn find() -> Result<Self> {
        if !Path::new(NGINX_STREAM.0).is_file() {
            Apt::new(Show::News).install(&[NGINX_STREAM.1])?;
        }
        let envoy = setup::peers::folder().join("venv/bin/envoy");
        if !envoy.is_file() {
            bail!("there is no {}: run `cargo xtask setup`", envoy.display());
        }
        let find = |name: &str| {
            shell::find(name).with_context(|| format!("{name} is not installed: run `cargo xtask setup`"))
        };
        Ok(Self {
            envoy,
            haproxy: find("haproxy")?,
            nginx: find("nginx")?,
            nginx_stream: NGINX_STREAM.0,
            wrk: find("wrk")?,
            h2load: find("h2load")?,
        })
    }
}
