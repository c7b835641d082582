//! What the L7 plane runs: listeners with their TLS, routes and limits, and how clusters are reached.

mod cluster;
mod http;
mod listener;
mod log;
mod route;
mod tls;

pub use cluster::{
    Hashing, L7Settings, Policy, PoolSettings, ProxyHeader, Sticky, UpstreamProtocol, UpstreamTimeouts,
};
pub use http::{
    EncodedSlashes, ForwardedSettings, HttpLimits, HttpSettings, HttpTimeouts, PathOptions, ServerHeader,
};
pub use listener::{Listener, ListenerKind, PortRange, SniRoute, TcpSettings};
pub use log::{AccessLog, LogFormat, LogTarget};
pub use route::{
    Action, GrpcMatch, HeaderOps, HostMatch, NamedMatch, PathMatch, PathRewrite, Place, Redirect, Regex,
    Respond, Rewrite, Route, RouteMatch, RouteTimeouts, TextMatch, WeightedCluster,
};
pub use tls::{
    Certificate, ClientAuth, ClientAuthMode, PemBytes, Secret, ServerTls, TlsVersion, UpstreamTls, Verify,
};
