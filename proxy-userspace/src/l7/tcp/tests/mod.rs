//! Connections proxied over real sockets, plain and with TLS.

mod copies;
mod routes;
mod site;
