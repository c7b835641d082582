//! The admin API: HTTP/1.1 with JSON over a UNIX socket.

mod client;
pub mod flow;
mod server;
mod socket;
pub mod status;

pub use client::{ClientError, call};
pub use server::serve;
pub use socket::{AdminSocket, SocketError};
