//! What the planes run: validated, immutable, and unable to hold anything invalid.

mod address;
mod cluster;
mod service;
mod snapshot;

pub use address::{BackendAddr, ListenAddr};
pub use cluster::{Cluster, ClusterName, Endpoint, Health, HealthCheck, TcpCheck};
pub use service::{ForwardMode, IdleTimeouts, Service};
pub use snapshot::{DaemonSettings, Interface, NatSettings, Snapshot, XdpMode};
