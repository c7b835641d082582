//! The admin API: HTTP/1.1 with JSON over a UNIX socket; metrics over TCP too.

mod client;
pub mod flow;
pub mod metrics;
mod server;
mod socket;
pub mod status;

pub use client::{ClientError, call};
pub use server::serve;
pub use socket::{AdminSocket, SocketError};
