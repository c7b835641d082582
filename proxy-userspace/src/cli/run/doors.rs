//! Where others than clients come in: the admin API's sockets, that of metrics, and that of the next process.

use crate::{
    admin::{AdminSocket, metrics::MetricsSocket},
    model::DaemonSettings,
    upgrade::{self, SocketKind, UpgradeSocket},
};
use anyhow::Context;
use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};
use tracing::info;

/// All of them, open.
pub(super) struct Doors {
    pub(super) admin: AdminSocket,
    pub(super) upgrade: UpgradeSocket,
    pub(super) metrics: Option<MetricsSocket>,
    /// The API's at `admin.address`.
    pub(super) remote: Option<(SocketAddr, TcpListener)>,
}

/// Sockets of the process before this one that are at an address.
pub(super) struct Inherited {
    pub(super) metrics: Vec<(SocketAddr, TcpListener)>,
    pub(super) remote: Vec<(SocketAddr, TcpListener)>,
}

impl Doors {
    /// Opens them.
    ///
    /// # Errors
    /// Another daemon has them, or the system's.
    pub(super) fn open(settings: &DaemonSettings) -> anyhow::Result<Self> {
        let path = &settings.admin_socket;
        Ok(Self {
            admin: AdminSocket::bind(path)?,
            upgrade: UpgradeSocket::bind(&upgrade::socket_path(path))
                .context("making the socket for upgrades")?,
            metrics: metrics(settings, Vec::new())?,
            remote: remote(settings, Vec::new())?,
        })
    }

    /// Takes over those of the process before this one, and opens what it had not. Their files are its own until [`Doors::own`].
    ///
    /// # Errors
    /// The system's.
    pub(super) fn inherit(
        settings: &DaemonSettings,
        (admin, upgrade): ([OwnedFd; 2], OwnedFd),
        inherited: Inherited,
    ) -> anyhow::Result<Self> {
        let path = &settings.admin_socket;
        Ok(Self {
            admin: AdminSocket::inherited(admin, path),
            upgrade: UpgradeSocket::inherited(upgrade, &upgrade::socket_path(path)),
            metrics: metrics(settings, inherited.metrics)?,
            remote: remote(settings, inherited.remote)?,
        })
    }

    /// This process is the daemon.
    pub(super) fn own(&mut self) -> anyhow::Result<()> {
        self.upgrade.own();
        self.admin.own().context("taking the admin socket over")
    }

    /// Set, the files are the next process's.
    pub(super) fn given_away(&self) -> Arc<AtomicBool> {
        self.admin.given_away()
    }

    /// Sockets at an address once more, for the next process.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub(super) fn duplicates(&self) -> anyhow::Result<Vec<(SocketKind, OwnedFd)>> {
        let mut all = Vec::new();
        if let Some(metrics) = &self.metrics {
            let (address, socket) = metrics
                .duplicate()
                .context("sharing the socket of metrics.address")?;
            all.push((SocketKind::Metrics(address), socket));
        }
        if let Some((address, socket)) = &self.remote {
            let socket = socket
                .try_clone()
                .context("sharing the socket of admin.address")?;
            all.push((SocketKind::Remote(*address), socket.into()));
        }
        Ok(all)
    }
}

/// Gives the files of these doors to the next process.
pub(super) fn give_away(files: &AtomicBool) {
    files.store(true, Ordering::Relaxed);
}

fn at(address: SocketAddr, inherited: Vec<(SocketAddr, TcpListener)>) -> Option<TcpListener> {
    let mut inherited = inherited.into_iter();
    inherited.find_map(|(before, socket)| (before == address).then_some(socket))
}

fn metrics(
    settings: &DaemonSettings,
    inherited: Vec<(SocketAddr, TcpListener)>,
) -> anyhow::Result<Option<MetricsSocket>> {
    let Some(address) = settings.metrics_address else {
        return Ok(None);
    };
    Ok(Some(MetricsSocket::open(address, at(address, inherited))?))
}

fn remote(
    settings: &DaemonSettings,
    inherited: Vec<(SocketAddr, TcpListener)>,
) -> anyhow::Result<Option<(SocketAddr, TcpListener)>> {
    let Some(remote) = &settings.admin.remote else {
        return Ok(None);
    };
    let address = remote.address;
    let listener = match at(address, inherited) {
        Some(before) => before,
        None => TcpListener::bind(address).with_context(|| {
            format!(
                "listening on {address} for the admin API; see who does (`ss -tlnp`), or change admin.address"
            )
        })?,
    };
    listener.set_nonblocking(true).context("admin.address")?;
    info!("admin API on {address}");
    Ok(Some((address, listener)))
}
