//! Clusters: named sets of endpoints with weights and health.

use super::{BackendAddr, ServerId, l7::L7Settings};
use std::{fmt, sync::Arc, time::Duration};

/// A cluster's name, unique in a config.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClusterName(pub Arc<str>);

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One endpoint of one cluster. The same address in two clusters is two endpoints, each with its
/// own weight and health.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EndpointId {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Where it listens.
    pub address: BackendAddr,
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {} endpoint {}", self.cluster, self.address)
    }
}

/// A set of endpoints that serve the same thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Unique name.
    pub name: ClusterName,
    /// In config order; addresses are unique.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints given by name: control resolves them, and what it finds stands in `endpoints` of the Snapshot too.
    pub dns: Vec<DnsEndpoint>,
    /// How endpoints are probed; none means always taken for healthy.
    pub health_check: Option<HealthCheck>,
    /// How the L7 plane spreads requests over them and speaks to them.
    pub l7: L7Settings,
}

/// An endpoint given by name; each of its addresses becomes an endpoint. For the L7 plane only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DnsEndpoint {
    /// Lower case, without a dot at its end.
    pub name: Arc<str>,
    /// The port of every address.
    pub port: u16,
    /// The weight of every address.
    pub weight: u32,
    /// Whether every address drains.
    pub drain: bool,
}

/// One endpoint and all that its effective weight follows from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: BackendAddr,
    /// The DNS name it was resolved from.
    pub name: Option<Arc<str>>,
    /// Relative share of new flows; 0 means none.
    pub weight: u32,
    /// Keeps its flows, gets no new ones.
    pub drain: bool,
    /// How QUIC connection IDs name it.
    pub server_id: Option<ServerId>,
    /// The last verdict of its health check.
    pub health: Health,
}

impl Endpoint {
    /// Greatest weight: finer shares than a slot in 65,537 could not be kept.
    pub const MAX_WEIGHT: u32 = 65_535;

    /// The weight both planes use: 0 while draining or unhealthy.
    pub fn effective_weight(&self) -> u32 {
        if self.drain || self.health == Health::Unhealthy {
            0
        } else {
            self.weight
        }
    }
}

/// A health check's verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// No verdict yet, or no check: taken for healthy, as Envoy and HAProxy do at start.
    Unknown,
    /// Passed `rise` times in a row.
    Healthy,
    /// Failed `fall` times in a row: leaves the table and loses its flows.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// How a cluster's endpoints are probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// What a probe does.
    pub probe: Probe,
    /// Time between two probes of an endpoint.
    pub interval: Duration,
    /// Time a probe may take.
    pub timeout: Duration,
    /// Passes in a row until healthy.
    pub rise: u32,
    /// Failures in a row until unhealthy.
    pub fall: u32,
}

/// What a probe does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Connects.
    Tcp(TcpCheck),
    /// Asks.
    Http(HttpCheck),
}

/// A probe that sends `GET path` by HTTP: over TLS where the cluster has it, its certificate not verified; by HTTP/2
/// where the cluster's protocol is that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpCheck {
    /// Path and query.
    pub path: Box<str>,
    /// The Host header; none takes the endpoint's name, else its address.
    pub host: Option<Box<str>>,
    /// Codes that pass; empty for 200 to 299.
    pub status: Vec<http::StatusCode>,
    /// Another port than the endpoint's.
    pub port: Option<u16>,
}

/// A probe that connects by TCP and closes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpCheck {
    /// Another port than the endpoint's.
    pub port: Option<u16>,
}
