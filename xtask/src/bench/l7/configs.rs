//! The same job as each proxy wants to be told: no access log, one worker, upstream connections kept, the client's
//! address, scheme, host and a request id in headers (Envoy has no setting for the host).

mod envoy;
mod haproxy;
mod nginx;
mod weir;

pub use envoy::envoy;
pub use haproxy::{MAP, haproxy, haproxy_map};
pub use nginx::nginx;
pub use weir::weir;
