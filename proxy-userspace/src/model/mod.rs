//! What the planes run: validated, immutable, and unable to hold anything invalid.

mod address;
mod admin;
mod cluster;
mod diff;
pub mod l7;
mod quic;
mod service;
mod snapshot;
mod span;
mod tracing;

pub use address::{BackendAddr, ListenAddr};
pub use admin::{AdminSettings, AdminToken, RemoteAdmin};
pub use cluster::{
    Cluster, ClusterName, DnsEndpoint, Endpoint, EndpointId, Health, HealthCheck, HttpCheck, Probe, TcpCheck,
};
pub use diff::{Change, diff};
pub use quic::{ConnectionId, NotHexadecimal, Quic, ServerId};
pub use service::{Affinity, FlowHash, ForwardMode, Guard, IdleTimeouts, Rate, Service, Tracking};
pub use snapshot::{
    Clusters, DaemonSettings, DrainTimes, Interface, NatSettings, Role, SegmentSize, Snapshot,
    TunnelSettings, UpgradeTimeouts, XdpMode,
};
pub use span::Span;
pub use tracing::{Collector, OtlpProtocol, Ratio, Tracing};
