//! TLS material as it was read from files, towards clients and towards endpoints.

use std::{fmt, path::Path, sync::Arc, time::Duration};

/// How a listener terminates TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerTls {
    /// By SNI, the most exact name first; the first one is for clients whose name has none. Never empty.
    pub certificates: Vec<Certificate>,
    /// Offered by ALPN in this order: `h2`, `http/1.1`; empty for TCP.
    pub alpn: Vec<Box<str>>,
    /// Oldest version spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Whether clients show certificates.
    pub client_auth: Option<ClientAuth>,
    /// A client that hasn't finished by then is gone. Default 10 s.
    pub handshake_timeout: Duration,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    V1_2,
    /// 1.3 (RFC 8446).
    V1_3,
}

/// A chain and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The leaf first.
    pub chain: PemBytes,
    /// The leaf's.
    pub key: Secret,
}

/// A PEM file's contents.
#[derive(Clone, PartialEq, Eq)]
pub struct PemBytes {
    /// As it was named; none where it was generated.
    pub path: Option<Arc<Path>>,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for PemBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.path, self.bytes.len())
    }
}

/// A PEM file that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub PemBytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (secret)", self.0.path)
    }
}

/// Certificates that clients show (mutual TLS).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientAuth {
    /// Trusted roots.
    pub ca: PemBytes,
    /// What becomes of clients without one.
    pub mode: ClientAuthMode,
}

/// What becomes of clients without a certificate; a wrong one is always refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuthMode {
    /// Refused.
    Require,
    /// Accepted.
    Request,
}

/// TLS towards a cluster's endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamTls {
    /// How its certificate is verified.
    pub verify: Verify,
    /// Name sent as SNI and verified; none takes the endpoint's DNS name, else its address.
    pub server_name: Option<Box<str>>,
    /// Our own, for endpoints that ask.
    pub certificate: Option<Certificate>,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
}

/// How an endpoint's certificate is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verify {
    /// Against the system's roots.
    System,
    /// Against these.
    Ca(PemBytes),
    /// Not at all: a warning.
    Off,
}
