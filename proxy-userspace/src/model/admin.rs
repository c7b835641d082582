//! Where the admin API listens beside its UNIX socket, and what is kept of it.

use super::l7::ServerTls;
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

/// The admin API beside its UNIX socket.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AdminSettings {
    /// Over TCP.
    pub remote: Option<RemoteAdmin>,
    /// A file that changes are written to, a JSON object each.
    pub audit_log: Option<PathBuf>,
    /// The directory of what outlives the daemon.
    pub state_directory: PathBuf,
}

/// The admin API over TCP. It has client certificates or tokens, or both: either is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteAdmin {
    /// Where it listens.
    pub address: SocketAddr,
    /// None for plain text, on loopback alone.
    pub tls: Option<Arc<ServerTls>>,
    /// Names are unique.
    pub tokens: Vec<AdminToken>,
}

/// A token that lets its holder in.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// What the audit log calls its holder.
    pub name: Arc<str>,
    /// SHA-256 of the token: the daemon keeps no token.
    pub sha256: [u8; 32],
    /// Whether it lets its holder change nothing.
    pub read_only: bool,
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (secret)", self.name)
    }
}
