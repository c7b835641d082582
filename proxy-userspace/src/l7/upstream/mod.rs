//! Endpoints' connections: a pool per endpoint and worker, HTTP/1.1 and HTTP/2.

mod connect;
mod eyeballs;
mod h1;
mod h2;
mod pool;

pub use connect::{connect_tcp, connect_transport};
pub use eyeballs::race;
pub use h1::{Answer, H1Lease};
pub use h2::{H2Answer, H2Lease, Uploading};
pub use pool::{Lease, Pool, Slot};

use super::{body::RequestBody, error::Fault};
use http::Request;

/// A request that got no response.
pub struct Failed {
    /// Why.
    pub fault: Fault,
    /// The request, where nothing of it was sent: another connection can take it.
    pub unsent: Option<Box<Request<RequestBody>>>,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, unsent: None }
    }
}
