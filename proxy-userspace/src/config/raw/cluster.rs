//! Clusters: endpoints, how they are checked, and how the L7 plane speaks to them.

use super::{
    Duration, EndpointAddress, FilePath, HeaderNameText, List, Name, PathText, ServerIdText, Text,
    UpstreamTls,
};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// A named set of endpoints that serve the same thing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Unique among clusters.
    #[schemars(with = "Name", example = &"dns")]
    pub(in crate::config) name: Option<Name>,
    /// Where it is served; each address once.
    #[schemars(with = "Vec<Endpoint>", length(min = 1), example = json!(["192.0.2.11:53"]))]
    pub(in crate::config) endpoints: Option<List<Endpoint>>,
    /// How endpoints are probed; without it all are taken for healthy.
    #[schemars(example = json!({"tcp": {}, "interval": "2s"}))]
    pub(in crate::config) health_check: Option<HealthCheck>,
    /// How an endpoint is chosen for a request or connection (L7).
    #[schemars(example = &"least_request", extend("default" = "round_robin"))]
    pub(in crate::config) policy: Option<Policy>,
    /// What ring_hash and maglev hash: the first of these that a request has.
    #[schemars(with = "Option<Vec<Hashed>>", length(min = 1), example = json!([{"header": "x-user"}, "source"]))]
    pub(in crate::config) hash: Option<List<Hashed>>,
    /// What is spoken to endpoints (L7).
    #[schemars(example = &"h2", extend("default" = "auto"))]
    pub(in crate::config) protocol: Option<UpstreamProtocol>,
    /// Speaks TLS to endpoints; `{}` verifies them against the system's CAs.
    #[schemars(example = json!({}))]
    pub(in crate::config) tls: Option<UpstreamTls>,
    /// A signed cookie that keeps a client at an endpoint.
    #[schemars(example = json!({"cookie": "weir"}))]
    pub(in crate::config) sticky: Option<Sticky>,
    /// Bounds on each worker's connections to an endpoint.
    #[schemars(example = json!({"max_idle": 256}))]
    pub(in crate::config) pool: Option<Pool>,
    /// When waiting for an endpoint ends.
    #[schemars(example = json!({"connect": "5s"}))]
    pub(in crate::config) timeouts: Option<UpstreamTimeouts>,
    /// Sends a PROXY protocol header at the begin of every connection.
    #[schemars(example = &"v2")]
    pub(in crate::config) proxy_protocol: Option<ProxyVersion>,
}

/// An endpoint: its address, or a mapping with its address and more.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoint {
    /// The address alone, with weight 1.
    Address(EndpointAddress),
    /// The address and more.
    Settings(EndpointSettings),
}

/// An endpoint with settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// IP address and port; for L7 also a name, each of whose addresses is an endpoint.
    #[schemars(with = "EndpointAddress", example = &"192.0.2.11:53")]
    pub(in crate::config) address: Option<EndpointAddress>,
    /// Relative share of new flows; 0 for none.
    #[schemars(range(min = 0, max = limits::MAX_WEIGHT), example = 2, extend("default" = 1))]
    pub(in crate::config) weight: Option<u32>,
    /// Whether it keeps the flows it has and gets no new ones.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) drain: Option<bool>,
    /// What names it in the QUIC connection IDs that it gives out, for listeners with `quic`: unique in the cluster.
    #[schemars(example = &"0a01")]
    pub(in crate::config) server_id: Option<ServerIdText>,
}

/// How a cluster's endpoints are probed: exactly one of `tcp` and `http`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Connects by TCP and closes.
    #[schemars(example = json!({}))]
    pub(in crate::config) tcp: Option<TcpCheck>,
    /// Asks by HTTP.
    #[schemars(example = json!({"path": "/healthz"}))]
    pub(in crate::config) http: Option<HttpCheck>,
    /// Time between two probes of an endpoint.
    #[schemars(example = &"2s", extend("default" = "2s"))]
    pub(in crate::config) interval: Option<Duration>,
    /// Time a probe may take; no longer than the interval.
    #[schemars(example = &"1s", extend("default" = "1s"))]
    pub(in crate::config) timeout: Option<Duration>,
    /// Passes in a row until an endpoint is healthy.
    #[schemars(range(min = 1, max = limits::MAX_PROBES), example = 2, extend("default" = limits::RISE))]
    pub(in crate::config) rise: Option<u32>,
    /// Failures in a row until an endpoint is unhealthy: it then gets no new flows and loses
    /// those it has.
    #[schemars(range(min = 1, max = limits::MAX_PROBES), example = 3, extend("default" = limits::FALL))]
    pub(in crate::config) fall: Option<u32>,
}

/// A probe that connects by TCP and closes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// Port to probe; by default the endpoint's own.
    #[schemars(range(min = 1, max = 65535), example = 8080)]
    pub(in crate::config) port: Option<u16>,
}

/// A probe that asks by HTTP, over TLS where the cluster has `tls`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// What is asked for, by GET.
    #[schemars(example = &"/healthz", extend("default" = "/"))]
    pub(in crate::config) path: Option<PathText>,
    /// The Host header; by default the endpoint's name or address.
    #[schemars(example = &"www.example.com")]
    pub(in crate::config) host: Option<Text>,
    /// Status codes that pass; by default 200 to 299.
    #[schemars(example = json!([200, 204]))]
    pub(in crate::config) status: Option<Statuses>,
    /// Port to probe; by default the endpoint's own.
    #[schemars(range(min = 1, max = 65535), example = 8080)]
    pub(in crate::config) port: Option<u16>,
}

/// A status code, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    /// The only one.
    One(StatusCode),
    /// Several.
    Several(#[schemars(with = "Vec<StatusCode>", length(min = 1))] List<StatusCode>),
}

/// A status code.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(transparent)]
pub struct StatusCode(#[schemars(range(min = 200, max = 599))] pub(in crate::config) u16);

/// How an endpoint is chosen.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Each in turn, by weight.
    RoundRobin,
    /// Of two by chance the one with fewer requests for its weight.
    LeastRequest,
    /// By chance, by weight.
    Random,
    /// By hash, on a ring.
    RingHash,
    /// By hash, with the kernel plane's table.
    Maglev,
    /// Of two by chance the one with less latency times load.
    PeakEwma,
}

/// What is hashed: `source`, the client's address, or a part of the request.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Hashed {
    /// The client's address.
    Source(Source),
    /// A part of the request.
    Part(HashPart),
}

/// The client's address, without port.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The client's address, without port.
    Source,
}

/// A part of a request: exactly one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashPart {
    /// The value of this header.
    #[schemars(example = &"x-user")]
    pub(in crate::config) header: Option<HeaderNameText>,
    /// The value of this cookie.
    #[schemars(example = &"session")]
    pub(in crate::config) cookie: Option<Text>,
    /// The value of this query parameter.
    #[schemars(example = &"user")]
    pub(in crate::config) query: Option<Text>,
}

/// What is spoken to endpoints.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// With TLS what endpoints agree to, HTTP/2 first; without TLS HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS with prior knowledge.
    H2,
}

/// A signed cookie that names an endpoint.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// Its name.
    #[schemars(with = "Text", example = &"weir")]
    pub(in crate::config) cookie: Option<Text>,
    /// How long clients keep it; by default until they end.
    #[schemars(example = &"1h")]
    pub(in crate::config) max_age: Option<Duration>,
    /// Paths it is sent for.
    #[schemars(example = &"/", extend("default" = "/"))]
    pub(in crate::config) path: Option<PathText>,
    /// File with the key of its signature, 32 bytes or more; by default a key is made at start,
    /// and clients may go elsewhere after a restart.
    #[schemars(example = &"sticky.key")]
    pub(in crate::config) secret: Option<FilePath>,
}

/// Bounds on a worker's connections to one endpoint.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Idle connections that are kept.
    #[schemars(range(min = 0, max = limits::MAX_POOL), example = 256, extend("default" = 256))]
    pub(in crate::config) max_idle: Option<u32>,
    /// Most connections; more requests wait.
    #[schemars(range(min = 1, max = limits::MAX_POOL), example = 4_096, extend("default" = 4_096))]
    pub(in crate::config) max_connections: Option<u32>,
    /// Most requests that wait for a connection; more are answered 503.
    #[schemars(range(min = 0, max = limits::MAX_POOL), example = 1_024, extend("default" = 1_024))]
    pub(in crate::config) max_pending: Option<u32>,
    /// HTTP/2 streams of a connection; for more another is opened.
    #[schemars(range(min = 1, max = limits::MAX_STREAMS), example = 100, extend("default" = 100))]
    pub(in crate::config) max_streams: Option<u32>,
    /// An idle connection is closed after this time.
    #[schemars(example = &"60s", extend("default" = "1m"))]
    pub(in crate::config) idle_timeout: Option<Duration>,
    /// A connection this old takes no more requests; `0s` for no bound.
    #[schemars(example = &"1h", extend("default" = "0s"))]
    pub(in crate::config) max_age: Option<Duration>,
}

/// When waiting for an endpoint ends.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTimeouts {
    /// Handshake of TCP and TLS.
    #[schemars(example = &"5s", extend("default" = "5s"))]
    pub(in crate::config) connect: Option<Duration>,
}

/// A version of the PROXY protocol.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}
