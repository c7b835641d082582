//! Who asks for a change, and from where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, sync::Arc};

/// Who, as far as the system or cryptography says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A process of this host, over the UNIX socket (SO_PEERCRED).
    Unix {
        /// Its user.
        uid: u32,
        /// Its process.
        pid: Option<i32>,
    },
    /// Whoever has the key of a certificate with this subject (RFC 2253).
    Certificate(Box<str>),
    /// Whoever has the token of this name.
    Token(Arc<str>),
    /// Whoever changed the config's files.
    Files,
    /// Whoever sent SIGHUP.
    Hangup,
}

/// Who, and from where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Who.
    pub caller: Caller,
    /// From where, over TCP.
    pub remote: Option<SocketAddr>,
}

/// The answer to `GET /caller`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct CallerAnswer {
    /// Who, as the audit log names it.
    pub caller: String,
    /// Whether it may change anything.
    pub may_change: bool,
}

impl From<Caller> for Origin {
    fn from(caller: Caller) -> Self {
        Self { caller, remote: None }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Unix { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Certificate(subject) => write!(f, "certificate {subject}"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Files => f.write_str("files"),
            Self::Hangup => f.write_str("SIGHUP"),
        }
    }
}

impl Origin {
    /// From where, in a word: an address, `unix`, or `local` for files and signals.
    pub fn place(&self) -> String {
        match (&self.caller, self.remote) {
            (_, Some(address)) => address.to_string(),
            (Caller::Unix { .. }, None) => "unix".to_owned(),
            _ => "local".to_owned(),
        }
    }
}
