//! The L7 plane end to end: real clients, the real daemon without its kernel plane, real servers.

mod bulk;
mod combinations;
mod grpc;
mod headers;
mod http1;
mod http2;
mod limits;
mod log;
mod parity;
mod readme;
mod routes;
mod smuggling;
mod support;
mod tcp;
mod tls;
mod tracing;
mod upgrade;
mod upstreams;
mod websocket;
