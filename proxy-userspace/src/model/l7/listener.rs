//! L7 listeners: where clients connect, and what is spoken there.

use super::{AccessLog, HttpSettings, Place, Route, ServerTls};
use crate::model::{ClusterName, ListenAddr};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// One listener whose connections are terminated in the daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The listener's name, unique in a config among L4 and L7 listeners.
    pub name: Arc<str>,
    /// Where it stands in the config.
    pub place: Place,
    /// VIPs and ports it takes; no two listeners of a config overlap. Never empty.
    pub addresses: Vec<PortRange>,
    /// Whether every connection starts with a PROXY protocol header, v1 or v2, which then names the client.
    pub proxy_protocol: bool,
    /// TLS is terminated with these certificates; none for plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// Most connections at a time over all workers; more wait in the kernel's accept queue.
    pub max_connections: u32,
    /// What is spoken.
    pub kind: ListenerKind,
}

/// What a listener speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenerKind {
    /// HTTP/1.1 and HTTP/2.
    Http {
        /// Limits, timeouts, headers.
        settings: Arc<HttpSettings>,
        /// In order: the first that matches is taken.
        routes: Arc<[Route]>,
        /// Written for every request.
        access_log: Option<Arc<AccessLog>>,
    },
    /// A byte stream (with `tls`, what is inside of it).
    Tcp {
        /// Where it goes.
        settings: Arc<TcpSettings>,
        /// Written for every connection.
        access_log: Option<Arc<AccessLog>>,
    },
}

/// One address and a range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortRange {
    /// The VIP; unspecified (0.0.0.0, ::) for every address of this host.
    pub address: IpAddr,
    /// First port.
    pub first: u16,
    /// Last port, itself included; equal to `first` for one port.
    pub last: u16,
}

impl PortRange {
    /// Every address and port in it.
    pub fn addresses(&self) -> impl Iterator<Item = ListenAddr> + use<> {
        let address = self.address;
        (self.first..=self.last).map(move |port| ListenAddr((address, port).into()))
    }

    /// Whether a connection to this address and port is of this range.
    pub fn contains(&self, address: IpAddr, port: u16) -> bool {
        (self.address.is_unspecified() || self.address == address) && (self.first..=self.last).contains(&port)
    }
}

/// Where a TCP listener's connections go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpSettings {
    /// By the server name in the ClientHello, which is peeked at and passed on untouched (passthrough); in order, the
    /// first match is taken. Empty: no peek.
    pub sni: Vec<SniRoute>,
    /// Everything else; none refuses it.
    pub cluster: Option<ClusterName>,
    /// A connection without a byte in either direction for this long is closed. Default 1 h.
    pub idle_timeout: Duration,
}

/// Connections for these server names go to this cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SniRoute {
    /// `name.example` or `*.example` (any depth), lower case; never empty.
    pub hosts: Vec<super::HostMatch>,
    /// Where they go.
    pub cluster: ClusterName,
}
