//! The lab of network namespaces, packet builders and the packet model that Weir is tested with.

pub mod lab;
pub mod model;
pub mod routes;
pub mod testrun;
