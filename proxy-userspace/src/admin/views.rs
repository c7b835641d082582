//! What the read operations beside `GET /status` answer: the config as it runs, and why. Secrets, header values and bodies are left out.

use super::status::{ConfiguredStatus, CounterStatus, WorkerStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Snapshot that runs.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ConfigDump {
    /// Its generation.
    pub generation: u64,
    /// Where it was read from: a file or a directory.
    pub path: String,
    /// What the daemon read once at start.
    pub settings: SettingsView,
    /// L4 listeners, then those of the L7 plane, each in config order.
    pub listeners: Vec<ListenerView>,
    /// By name.
    pub clusters: Vec<ClusterView>,
}

/// What the daemon reads once at start.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct SettingsView {
    /// Interfaces the kernel programs are attached to.
    pub interfaces: Vec<String>,
    /// Where maps and links are pinned.
    pub pin_path: String,
    /// The admin API's UNIX socket.
    pub admin_socket: String,
    /// Its TCP address, if it has one.
    pub admin_address: Option<String>,
    /// The names of its tokens.
    pub admin_tokens: Vec<String>,
    /// Where durable changes are kept.
    pub state_directory: String,
    /// DNS servers to ask; empty for those of /etc/resolv.conf.
    pub dns_servers: Vec<String>,
}

/// The answer to `GET /listeners`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ListenersAnswer {
    /// The generation they are of.
    pub generation: u64,
    /// L4 listeners, then those of the L7 plane, each in config order.
    pub listeners: Vec<ListenerView>,
}

/// A listener of either plane.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// What is done with its traffic.
    pub kind: ListenerKind,
    /// Addresses and ports.
    pub addresses: Vec<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where it stands in the config, `file:line`; null for L4 listeners.
    pub place: Option<String>,
    /// How the kernel forwards; null for the L7 plane's.
    pub forward: Option<ForwardView>,
    /// In order: the first that matches is taken.
    pub routes: Vec<RouteView>,
    /// Where byte streams go; null but for `tcp` and `tls`.
    pub tcp: Option<TcpView>,
    /// How TLS is terminated; null where it isn't.
    pub tls: Option<TlsView>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Most connections at a time; null for L4 listeners.
    pub max_connections: Option<u32>,
}

/// What is done with a listener's traffic.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Forwarded in the kernel.
    L4,
    /// HTTP without TLS.
    Http,
    /// HTTP inside TLS.
    Https,
    /// Byte streams, passed on as they are.
    Tcp,
    /// Byte streams inside TLS.
    Tls,
}

/// How the kernel forwards.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ForwardView {
    /// Where flows go.
    pub cluster: String,
    /// `nat`, `dsr-l2`, `ipip` or `gue`.
    pub mode: String,
    /// What of a packet picks its backend: `five_tuple`, `source`, `source_destination`.
    pub hash: String,
    /// Which flows are remembered without NAT: `auto`, `always`, `never`.
    pub tracking: String,
    /// Maglev slots.
    pub table_size: u32,
    /// How long and by which prefixes a source stays with its backend; null without affinity.
    pub affinity: Option<String>,
    /// Prefixes that alone may send to it; 0 for all.
    pub allowed_prefixes: usize,
    /// Prefixes that may not.
    pub denied_prefixes: usize,
    /// Packets that a source may send a second; null for any number.
    pub packets_per_second: Option<u32>,
    /// Connections that a source may open a second; null for any number.
    pub connections_per_second: Option<u32>,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct RouteView {
    /// Counted from 1.
    pub number: usize,
    /// If it has one.
    pub name: Option<String>,
    /// Where it stands in the config, `file:line`.
    pub place: String,
    /// All of these must hold; empty for any request.
    pub conditions: Vec<String>,
    /// What is done then.
    pub action: ActionView,
}

/// What a route does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ActionView {
    /// Forwards to one of these by weight.
    Forward(Vec<TargetView>),
    /// Answers with a redirect of this status.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// Answers itself.
    Respond {
        /// The status code.
        status: u16,
        /// Bytes of the body.
        body_bytes: usize,
    },
}

/// A cluster and its share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct TargetView {
    /// Its name.
    pub cluster: String,
    /// Relative share; 0 for none.
    pub weight: u32,
}

/// Where byte streams go.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct TcpView {
    /// Where those go whose server name has no route; null refuses them.
    pub cluster: Option<String>,
    /// By server name, in order.
    pub sni: Vec<SniView>,
}

/// A route by server name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct SniView {
    /// Names, `*.` before those with anything in front.
    pub hosts: Vec<String>,
    /// Where they go.
    pub cluster: String,
}

/// How TLS is terminated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct TlsView {
    /// Offered by ALPN, in this order.
    pub alpn: Vec<String>,
    /// Oldest version spoken: `1.2` or `1.3`.
    pub min_version: String,
    /// Whether clients show certificates: `require`, `request`; null for no.
    pub client_certificates: Option<String>,
    /// How many certificates it has; `GET /certificates` has more of them.
    pub certificates: usize,
}

/// The answer to `GET /clusters`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ClustersAnswer {
    /// The generation they are of.
    pub generation: u64,
    /// By name.
    pub clusters: Vec<ClusterView>,
}

/// A cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// How the L7 plane chooses: `round_robin`, `least_request`, `random`, `ring_hash`, `maglev`, `peak_ewma`.
    pub policy: String,
    /// What the L7 plane speaks to endpoints: `auto`, `http1`, `h2`.
    pub protocol: String,
    /// How endpoints' certificates are verified: `system`, `ca`, `off`; null without TLS.
    pub tls_verify: Option<String>,
    /// Null where none is: endpoints are taken for healthy then.
    pub health_check: Option<HealthCheckView>,
    /// DNS names and ports whose addresses are endpoints too.
    pub names: Vec<String>,
    /// Sum of the effective weights; with 0 nothing can be forwarded.
    pub effective_weight: u64,
    /// In config order.
    pub endpoints: Vec<EndpointView>,
}

/// How endpoints are probed.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct HealthCheckView {
    /// `tcp` or `http`.
    pub kind: String,
    /// Between two probes of an endpoint.
    pub interval_seconds: f64,
    /// What a probe may take.
    pub timeout_seconds: f64,
    /// Passes in a row until healthy.
    pub rise: u32,
    /// Failures in a row until unhealthy.
    pub fall: u32,
}

/// An endpoint, and why it has the weight that it has.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct EndpointView {
    /// Where it listens.
    pub address: String,
    /// The DNS name it was resolved from.
    pub name: Option<String>,
    /// The weight wanted: the config's, or an override.
    pub weight: u32,
    /// The weight in force.
    pub effective_weight: u32,
    /// Its part of the cluster's effective weight, in percent.
    pub share_percent: f64,
    /// What the effective weight follows from.
    pub reason: WeightReason,
    /// The same in a sentence.
    pub why: String,
    /// Keeps its flows, gets no new ones.
    pub drain: bool,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health: String,
    /// What the last probe that failed met.
    pub last_error: Option<String>,
    /// What the config says, where an operator said otherwise.
    pub configured: Option<ConfiguredStatus>,
    /// Whether an override of it outlives the daemon.
    pub durable: bool,
    /// What the kernel plane counts of it, over all L4 services of the cluster; null where it counts nothing.
    pub kernel: Option<CounterStatus>,
    /// What the L7 plane counts of it; null where none of its workers ever had to do with it.
    pub l7: Option<UpstreamView>,
    /// When its health changed, the oldest first: the last eight times. Left out where many endpoints are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<HealthChange>>,
}

/// What the L7 plane counts of an endpoint, or of all endpoints of a cluster, since the daemon started.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct UpstreamView {
    /// Requests sent there, and TCP connections.
    pub requests: u64,
    /// Responses: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// Requests that got no response.
    pub failures: u64,
    /// Connections that could not be opened.
    pub connect_failures: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Requests and TCP connections that are not over.
    pub active: u64,
    /// Connections open now.
    pub connections: u64,
    /// Durations from a request's head to its response's last byte, by bucket, not cumulated: `latency_bounds_seconds`
    /// of `GET /topology` has their upper bounds, the last bucket has none.
    pub durations: Vec<u64>,
    /// The sum of these durations.
    pub duration_seconds: f64,
    /// Bytes of bodies from clients.
    pub received_bytes: u64,
    /// Bytes of bodies to clients.
    pub sent_bytes: u64,
}

/// A change of an endpoint's health.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct HealthChange {
    /// When, seconds since 1970.
    pub at_unix_seconds: u64,
    /// `healthy` or `unhealthy` since then.
    pub health: String,
    /// What the probe met that was the last straw; null for a recovery.
    pub why: Option<String>,
}

/// What an effective weight follows from: the first of these that is so.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
pub enum WeightReason {
    /// Its health check fails: 0.
    Unhealthy,
    /// It drains: 0.
    Drain,
    /// An operator's weight.
    Override,
    /// The config's weight.
    Config,
}

/// The answer to `GET /certificates`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct CertificatesAnswer {
    /// The generation they are of.
    pub generation: u64,
    /// Of listeners, then of clusters, then of the admin API.
    pub certificates: Vec<CertificateView>,
}

/// A certificate that Weir shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct CertificateView {
    /// The listener that shows it to clients.
    pub listener: Option<String>,
    /// The cluster whose endpoints it is shown to; null for both: the admin API's.
    pub cluster: Option<String>,
    /// Its file; null where it was made at start.
    pub file: Option<String>,
    /// Its subject.
    pub subject: String,
    /// DNS names it is for.
    pub names: Vec<String>,
    /// When it begins, seconds since 1970.
    pub not_before_unix_seconds: i64,
    /// When it ends, seconds since 1970.
    pub not_after_unix_seconds: i64,
    /// Until it ends; negative when it has.
    pub seconds_left: i64,
}

/// The answer to `GET /workers`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct WorkersAnswer {
    /// The generation that was published last.
    pub generation: Option<u64>,
    /// How connections reach workers: `sk_lookup` or `reuseport`.
    pub steering: String,
    /// Client connections open now, over all workers.
    pub connections: u64,
    /// In order.
    pub workers: Vec<WorkerStatus>,
}

/// The answer to `GET /log`, and the body of `PUT /log`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, and after a comma `TARGET=LEVEL` for parts: `info,weir::health=debug`.
    #[schemars(length(min = 1, max = 1_000), example = &"info,weir::health=debug")]
    pub filter: String,
}
