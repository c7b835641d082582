//! Addresses with a meaning: where clients come in, and where backends listen.

use std::{fmt, net::SocketAddr};

/// A VIP and port that a listener takes traffic for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddr(pub SocketAddr);

/// Where an endpoint listens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendAddr(pub SocketAddr);

macro_rules! shown_as_socket_address {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

shown_as_socket_address!(ListenAddr);
shown_as_socket_address!(BackendAddr);
