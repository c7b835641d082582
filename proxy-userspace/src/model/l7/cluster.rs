//! How requests are spread over a cluster's endpoints, and how these are spoken to.

use super::UpstreamTls;
use http::HeaderName;
use std::{sync::Arc, time::Duration};

/// L7 settings of a cluster; L4 services don't look at them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct L7Settings {
    /// How an endpoint is chosen.
    pub policy: Policy,
    /// What ring_hash and maglev hash, the first of these that a request has; without any, an endpoint by chance.
    pub hash: Vec<Hashing>,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints.
    pub tls: Option<Arc<UpstreamTls>>,
    /// A cookie that keeps a client at an endpoint, whatever the policy, while it takes requests.
    pub sticky: Option<Arc<Sticky>>,
    /// Bounds on connections.
    pub pool: PoolSettings,
    /// When waiting ends.
    pub timeouts: UpstreamTimeouts,
    /// PROXY protocol header at the begin of every connection; such connections are never shared between clients.
    pub proxy_protocol: Option<ProxyHeader>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// Of two by chance, the one with fewer requests for its weight (power of two choices).
    LeastRequest,
    /// By chance, by weight.
    Random,
    /// Ketama-like ring.
    RingHash,
    /// Weighted Maglev, the kernel plane's table.
    Maglev,
    /// Of two by chance, the one with less latency times load (peak-sensitive moving average).
    PeakEwma,
}

/// What is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hashing {
    /// A request header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(Box<str>),
    /// The client's address, without port.
    Source,
    /// A query parameter's value.
    Query(Box<str>),
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpstreamProtocol {
    /// With TLS what ALPN yields (h2 preferred); without, HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS with prior knowledge.
    Http2,
}

/// A signed cookie that names an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: Box<str>,
    /// Max-Age; none for a session cookie.
    pub max_age: Option<Duration>,
    /// Path attribute. Default `/`.
    pub path: Box<str>,
    /// Key of the signature (HMAC-SHA256), from a file; none: one made at the daemon's start.
    pub secret: Option<super::Secret>,
}

/// Bounds on a worker's connections to one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSettings {
    /// Idle connections kept. Default 256.
    pub max_idle: u32,
    /// Most connections; more requests wait, or are answered 503 once `max_pending` wait. Default 4,096.
    pub max_connections: u32,
    /// Most requests waiting for a connection. Default 1,024.
    pub max_pending: u32,
    /// HTTP/2 streams of a connection; more open another. Default 100.
    pub max_streams: u32,
    /// An idle connection is closed. Default 60 s.
    pub idle_timeout: Duration,
    /// A connection this old takes no more requests; zero for no bound, the default.
    pub max_age: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            max_idle: 256,
            max_connections: 4_096,
            max_pending: 1_024,
            max_streams: 100,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::ZERO,
        }
    }
}

/// When waiting for an endpoint ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamTimeouts {
    /// TCP and TLS handshake: 503. Default 5 s, Envoy's.
    pub connect: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
        }
    }
}

/// A version of the PROXY protocol (HAProxy's proxy-protocol.txt).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// Text.
    V1,
    /// Binary.
    V2,
}
