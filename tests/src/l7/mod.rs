//! Real clients and real servers around a daemon whose L7 plane is under test.
//!
//! A test program has one [`Site`]: a network namespace, so that ports are never taken by others, and a folder. The
//! servers behind the daemon start when first asked for and serve every test of the program; each test starts a
//! daemon of its own.

mod answer;
mod backends;
mod certificates;
mod curl;
mod daemon;
pub mod parity;
mod peers;
mod raw;
mod site;

pub use answer::{Answer, Seen};
pub use backends::{Backend, HttpFiles};
pub use certificates::{Authority, Identity};
pub use curl::{Curl, h2_request};
pub use daemon::Weir;
pub use peers::{Hop, envoy, envoy_bootstrap, envoy_cluster, envoy_listener, haproxy, nginx};
pub use raw::Raw;
pub use site::{Site, data, python, script, venv_program};
