//! The L7 plane: a worker per core that accepts, terminates TLS, routes, balances and streams.
//!
//! In the order a request goes: plane → worker → accept → http1, http2 → serve → decide → router → forward → balance → upstream.

mod accept;
pub mod balance;
mod body;
mod clock;
mod compile;
mod connection;
mod counters;
mod crew;
mod date;
mod decide;
mod error;
mod farewell;
mod fields;
mod forward;
mod gather;
mod grpc;
mod grpc_web;
mod headers;
mod http1;
mod http2;
mod interim;
mod listener;
pub mod log;
pub mod meters;
mod outgoing;
pub mod panics;
pub mod path;
mod peek;
mod plane;
mod pressure;
mod promptness;
pub mod proxy_header;
mod pump;
mod record;
pub mod router;
mod scratch;
mod serve;
pub mod sockets;
mod stream;
mod streams;
pub mod tcp;
mod tcp_proxy;
pub mod tls;
mod trace;
mod tunnel;
mod upstream;
mod worker;

pub use compile::{Compiled, CompiledCluster, CompiledKind, CompiledListener};
pub use counters::{Count, Counters};
pub use plane::{L7Error, L7Plane};
pub use pressure::Shortage;
pub use tls::AcceptError;
pub use trace::TraceCounters;
