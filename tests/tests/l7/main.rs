//! The L7 plane end to end: real clients, the real daemon without its kernel plane, real servers.

mod combinations;
mod headers;
mod http1;
mod limits;
mod parity;
mod routes;
mod smuggling;
mod support;
mod upstreams;
