//! The lab of network namespaces, packet builders, the packet model, and the L7 peers that Weir is tested with.

pub mod l7;
pub mod lab;
pub mod model;
pub mod routes;
pub mod testrun;
