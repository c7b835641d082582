//! The L7 plane: a worker per core that accepts, terminates TLS, routes, balances and streams.

pub mod balance;
pub mod log;
pub mod path;
pub mod router;
pub mod tls;
