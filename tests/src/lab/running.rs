//! What most tests start from: the standard topology, echo servers, and a daemon for them.

use super::{
    Attempt, Daemon, DaemonConfig, EchoServer, Family, LongConnections, NewConnections, Protocol, Topology,
    ask_many,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two exchanges of a connection, and between two connections of a thread.
const PACE: Duration = Duration::from_millis(5);

/// The port of the echo servers and of the VIPs.
const PORT: u16 = 7;

/// Clusters and TCP services `tcp4` and `tcp6`, and UDP services `udp4` and `udp6` of the same clusters,
/// on VIP 1; every backend has an echo server and weight 1.
pub struct Running {
    /// Under test.
    pub daemon: Daemon,
    /// What it was started with.
    pub config: DaemonConfig,
    /// On backend-1 to backend-3.
    pub servers: Vec<EchoServer>,
    /// Where it all runs.
    pub topology: Topology,
}

impl Running {
    /// Starts it all.
    pub fn start() -> Result<Self> {
        Self::start_with(|config| config)
    }

    /// Starts it all with a change to the config.
    pub fn start_with(change: impl FnOnce(DaemonConfig) -> DaemonConfig) -> Result<Self> {
        let mut running = Self::prepare(change)?;
        running.daemon.start_again()?;
        Ok(running)
    }

    /// All but the daemon's start.
    pub fn prepare(change: impl FnOnce(DaemonConfig) -> DaemonConfig) -> Result<Self> {
        let topology = Topology::new()?;
        let servers = topology.echo_servers(PORT)?;
        let config =
            DaemonConfig::standard()
                .echo(&topology, Family::V4, PORT)
                .echo(&topology, Family::V6, PORT);
        let config = change(config);
        let daemon = Daemon::prepare(&topology.balancer, &config)?;
        Ok(Self {
            daemon,
            config,
            servers,
            topology,
        })
    }

    /// Where the services are.
    pub fn vip(family: Family) -> SocketAddr {
        SocketAddr::new(family.vip(1), PORT)
    }

    /// An endpoint of `tcp4`, counted from 0.
    pub fn backend(n: usize) -> SocketAddr {
        SocketAddr::new(Family::V4.backend(n), PORT)
    }

    /// Long connections from the client.
    pub fn long(&self, family: Family, count: usize) -> Result<LongConnections> {
        LongConnections::open(
            &self.topology.client,
            Protocol::Echo,
            Self::vip(family),
            count,
            PACE,
        )
    }

    /// New connections from the client, one after the other.
    pub fn new_connections(&self, family: Family) -> NewConnections {
        NewConnections::start(&self.topology.client, Protocol::Echo, Self::vip(family), 1, PACE)
    }

    /// Short connections from the client over IPv4.
    pub fn ask(&self, count: usize) -> Vec<Attempt> {
        ask_many(
            &self.topology.client,
            Protocol::Echo,
            Self::vip(Family::V4),
            count,
            4,
        )
    }

    /// bpftool's JSON.
    pub fn bpftool(&self, arguments: &str) -> Result<Value> {
        let output = self.daemon.host().execute(&format!("bpftool -j {arguments}"))?;
        serde_json::from_str(&output).with_context(|| format!("bpftool {arguments} printed {output}"))
    }

    /// The kernel's ids of what is pinned in a folder: `kind` is map, link or prog.
    pub fn ids(&self, kind: &str, folder: &Path) -> Result<Vec<(PathBuf, Value)>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                let shown = self.bpftool(&format!("{kind} show pinned {}", path.display()))?;
                ids.push((path, shown["id"].clone()));
            }
        }
        ids.sort_by(|a, b| a.0.cmp(&b.0));
        ensure!(!ids.is_empty(), "nothing is pinned in {}", folder.display());
        Ok(ids)
    }
}

/// The attempts that got no answer.
pub fn failures(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts
        .iter()
        .filter(|attempt| attempt.answer.is_err())
        .collect()
}
