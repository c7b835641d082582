//! Just what was typed: the shape of a config, from which the JSON Schema is generated too.
//!
//! Every value is optional here, required or not: a mistake takes its value away, so that all the
//! others can still be checked. What is required is said by the schema (`schemars(with = …)` without
//! an `Option`), which `structure` holds every file against before these types see it.

mod cluster;
mod http;
mod listener;
mod log;
mod route;
mod settings;
mod text;
mod tls;
mod tracing;

pub(super) use cluster::{
    Cluster, Endpoint, Hashed, HealthCheck, HttpCheck, Policy, Pool, ProxyVersion, Statuses, Sticky,
    UpstreamProtocol, UpstreamTimeouts,
};
pub(super) use http::{
    EncodedSlashes, Forwarded, HttpLimits, HttpTimeouts, PathOptions, ServerHeader, ServerHeaderWord,
};
pub(super) use listener::{
    Affinity, FlowHash, Forward, IdleTimeouts, ListenAddresses, Listener, Mode, Protocol, SourceRate,
    TcpProxy, Tracking,
};
pub(super) use log::{AccessLog, LogForm};
pub(super) use route::{
    GrpcMatch, HeaderOps, Redirect, RegexRewrite, Respond, Rewrite, Route, RouteMatch, RouteTimeouts, Scheme,
    TextMatch, WeightedCluster,
};
pub(super) use settings::{
    Admin, AdminTls, Decap, Dns, Drain, Interface, Kernel, Metrics, Nat, OwnLimits, Role, SegmentSize,
    SegmentWord, Tunnel, Upgrade, Xdp,
};
pub(super) use text::{
    AbsolutePath, Duration, EndpointAddress, FilePath, HeaderNameText, HostPattern, InterfaceName,
    Ipv4PrefixText, Ipv4Text, Ipv6PrefixText, Ipv6Text, ListenAddress, Name, PathText, PortRange, PrefixText,
    RegexText, ServerAddress, ServerIdText, Sha256Text, Text, Texts, UrlText, VipText,
};
pub(super) use tls::{
    Certificate, ClientCertificates, ClientMode, ServerTls, TlsVersion, UpstreamTls, VerifyWord,
};

pub(super) use tracing::{Otlp, OtlpProtocol, Tracing};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// A list; an element that could not be used is none, so that positions stay as they were typed.
pub(super) type List<T> = Vec<Option<T>>;

/// A config of Weir: what to listen on, and where it goes.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What this host is: with `backend` it takes what balancers send to it, and forwards nothing itself. Changes need a
    /// restart.
    #[schemars(example = &"backend", extend("default" = "balancer"))]
    pub(super) role: Option<Role>,
    /// The VIPs that this host serves as a backend of modes other than NAT. Changes need a restart.
    #[schemars(example = json!({"vips": ["192.0.2.53"]}))]
    pub(super) decap: Option<Decap>,
    /// Worker threads of the L7 plane; by default one a core. Changes need a restart.
    #[schemars(range(min = 1, max = super::limits::MAX_WORKERS), example = 4)]
    pub(super) workers: Option<u16>,
    /// Whether worker N runs on the N-th CPU only. Changes need a restart.
    #[schemars(example = true, extend("default" = false))]
    pub(super) pin_workers: Option<bool>,
    /// Interfaces the kernel programs are attached to: those that clients and backends are
    /// reached by. L7 listeners need none. Changes need a restart.
    #[schemars(with = "Option<Vec<Interface>>", example = json!(["eth0"]))]
    pub(super) interfaces: Option<List<Interface>>,
    /// Where the kernel's maps are kept and how many entries they hold. Changes need a restart.
    #[schemars(example = json!({"max_flows": 262_144}))]
    pub(super) kernel: Option<Kernel>,
    /// The addresses and ports that NAT gives to packets for backends. Changes need a restart.
    #[schemars(example = json!({"source_ipv4": "192.0.2.1"}))]
    pub(super) nat: Option<Nat>,
    /// The outer headers of tunnels to backends. Changes need a restart.
    #[schemars(example = json!({"source_ipv4": "172.16.0.0/16"}))]
    pub(super) tunnel: Option<Tunnel>,
    /// How names of endpoints are resolved. Changes need a restart.
    #[schemars(example = json!({"servers": ["192.0.2.53"]}))]
    pub(super) dns: Option<Dns>,
    /// The API. Changes need a restart, but for `tls` and `tokens`.
    #[schemars(example = json!({"socket": "/run/weir/admin.sock"}))]
    pub(super) admin: Option<Admin>,
    /// Directory of what outlives the daemon: changes by the API that are durable. By default /var/lib/weir; beside
    /// the admin socket where that is another than root's default. Changes need a restart.
    #[schemars(example = &"/var/lib/weir")]
    pub(super) state_directory: Option<AbsolutePath>,
    /// How long an upgrade may take. Changes need a restart.
    #[schemars(example = json!({"drain_timeout": "10m"}))]
    pub(super) upgrade: Option<Upgrade>,
    /// How the daemon is drained by `weir drain`.
    #[schemars(example = json!({"notice": "10s"}))]
    pub(super) drain: Option<Drain>,
    /// What the daemon itself may take.
    #[schemars(example = json!({"memory_bytes": 536_870_912}))]
    pub(super) limits: Option<OwnLimits>,
    /// Serves metrics over TCP too, for Prometheus. Changes need a restart.
    #[schemars(example = json!({"address": "127.0.0.1:9100"}))]
    pub(super) metrics: Option<Metrics>,
    /// Traces requests: spans go to a collector by OTLP.
    #[schemars(example = json!({"otlp": {"endpoint": "http://127.0.0.1:4318"}}))]
    pub(super) tracing: Option<Tracing>,
    /// What traffic is taken, and where it goes.
    #[schemars(with = "Option<Vec<Listener>>", example = json!([{"name": "dns", "address": "192.0.2.53:53", "forward": {"cluster": "dns"}}]))]
    pub(super) listeners: Option<List<Listener>>,
    /// Named sets of endpoints.
    #[schemars(with = "Option<Vec<Cluster>>", example = json!([{"name": "dns", "endpoints": ["192.0.2.11:53"]}]))]
    pub(super) clusters: Option<List<Cluster>>,
}
