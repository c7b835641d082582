//! TLS with openssl and curl as clients, and with rustls where openssl can't.

mod clients;
mod handshakes;
mod material;
mod mistakes;
mod site;
mod upstream;
