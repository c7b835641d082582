//! The admin API: HTTP/1.1 with JSON over a UNIX socket, and over TCP where configured, and the page for browsers; metrics over TCP too.

mod access;
mod answer;
mod audit;
mod browser;
mod caller;
mod client;
pub mod drain;
pub(crate) mod figures;
pub mod flow;
pub(crate) mod judge;
mod log;
pub mod metrics;
mod openapi;
mod operations;
mod pages;
mod parameter;
mod server;
mod socket;
pub mod status;
pub mod topology;
pub mod views;

pub use access::Access;
pub use answer::Context;
pub use audit::{Audit, AuditError};
pub use caller::{Caller, Origin};
pub use client::{ClientError, call};
pub use log::LogControl;
pub use openapi::openapi;
pub use server::{serve, serve_tcp};
pub use socket::{AdminShare, AdminSocket, SocketError};
