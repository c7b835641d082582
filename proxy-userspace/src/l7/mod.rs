//! The L7 plane: a worker per core that accepts, terminates TLS, routes, balances and streams.

pub mod balance;
pub mod log;
pub mod path;
mod peek;
pub mod proxy_header;
pub mod router;
mod scratch;
pub mod tcp;
pub mod tls;
