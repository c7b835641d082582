//! TLS towards clients and endpoints: certificates by SNI, tickets, client certificates.

mod accept;
mod certificate;
mod client;
mod identity;
mod resolver;
mod server;
mod shared;
#[cfg(test)]
mod tests;

pub use accept::{AcceptError, accept};
pub use client::{client, server_name};
pub use identity::{PeerIdentity, peer_identity};
pub use server::{Leaf, expiries, leaf, server};
pub use shared::Shared;

use crate::model::l7::{PemBytes, TlsVersion};
use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, version};
use std::{
    fmt,
    path::Path,
    sync::{Arc, LazyLock},
};

/// What is wrong with TLS material, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsMistake {
    /// The PEM file, as it was named; none where it was generated or no file is to blame.
    pub file: Option<Arc<Path>>,
    /// What is wrong.
    pub problem: String,
    /// What to do instead.
    pub remedy: String,
}

impl TlsMistake {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    fn of(pem: &PemBytes, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: pem.path.clone(),
            ..Self::new(problem, remedy)
        }
    }
}

impl fmt::Display for TlsMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for TlsMistake {}

/// The cryptography of every connection: aws-lc-rs with rustls's defaults, X25519MLKEM768 before X25519, P-256 and P-384.
///
/// As a server rustls takes the client's first group that it knows: a client that offers no hybrid group, or X25519
/// before it, gets X25519 without a HelloRetryRequest.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Every version from this one on.
fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match oldest {
        TlsVersion::V1_2 => &BOTH,
        TlsVersion::V1_3 => &BOTH[..1],
    }
}
