//! TLS towards clients and towards endpoints.

use super::{Duration, FilePath, HostPattern, List, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// How a listener terminates TLS: with `certificates`, or `self_signed`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// Chosen by the name that a client asks for, the most exact first; the first one is for all other clients.
    #[schemars(with = "Option<Vec<Certificate>>", length(min = 1), example = json!([{"cert": "web.pem", "key": "web.key"}]))]
    pub(in crate::config) certificates: Option<List<Certificate>>,
    /// Whether a certificate is made at start, for the listener's addresses, localhost and the hosts
    /// of its routes. For trying out: no client trusts it.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) self_signed: Option<bool>,
    /// Protocols offered by ALPN, in this order; by default `[h2, http/1.1]` with `routes`, none with `tcp`.
    #[schemars(with = "Option<Vec<Text>>", example = json!(["h2", "http/1.1"]))]
    pub(in crate::config) alpn: Option<List<Text>>,
    /// Oldest version of TLS that is spoken.
    #[schemars(example = &"1.3", extend("default" = "1.2"))]
    pub(in crate::config) min_version: Option<TlsVersion>,
    /// Asks clients for certificates (mutual TLS).
    #[schemars(example = json!({"ca": "ca.pem"}))]
    pub(in crate::config) client_certificates: Option<ClientCertificates>,
    /// A client that has not finished the handshake by then is gone.
    #[schemars(example = &"10s", extend("default" = "10s"))]
    pub(in crate::config) handshake_timeout: Option<Duration>,
}

/// A certificate and its key, in PEM.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// File with the certificate, and behind it those that it was issued by.
    #[schemars(with = "FilePath", example = &"web.pem")]
    pub(in crate::config) cert: Option<FilePath>,
    /// File with the certificate's private key.
    #[schemars(with = "FilePath", example = &"web.key")]
    pub(in crate::config) key: Option<FilePath>,
}

/// A version of TLS.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Certificates that clients show.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// File with the CAs that they must be issued by.
    #[schemars(with = "FilePath", example = &"ca.pem")]
    pub(in crate::config) ca: Option<FilePath>,
    /// Whether a client without one is refused. A wrong one is always refused.
    #[schemars(example = &"require", extend("default" = "require"))]
    pub(in crate::config) mode: Option<ClientMode>,
}

/// What becomes of a client without a certificate.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum ClientMode {
    /// It is refused.
    Require,
    /// It is served.
    Request,
}

/// TLS towards a cluster's endpoints.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// File with the CAs that the endpoints' certificates must be issued by, in place of the system's.
    #[schemars(example = &"ca.pem")]
    pub(in crate::config) ca: Option<FilePath>,
    /// How the endpoints' certificates are verified.
    #[schemars(example = &"system", extend("default" = "system"))]
    pub(in crate::config) verify: Option<VerifyWord>,
    /// The name that is asked for and verified; by default the endpoint's own, or its address.
    #[schemars(example = &"api.internal")]
    pub(in crate::config) server_name: Option<HostPattern>,
    /// The certificate that Weir shows where endpoints ask for one.
    #[schemars(example = json!({"cert": "client.pem", "key": "client.key"}))]
    pub(in crate::config) certificate: Option<Certificate>,
    /// Oldest version of TLS that is spoken.
    #[schemars(example = &"1.3", extend("default" = "1.2"))]
    pub(in crate::config) min_version: Option<TlsVersion>,
}

/// How the endpoints' certificates are verified.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum VerifyWord {
    /// Against the system's CAs.
    System,
    /// Not at all: anybody in between can read and change everything.
    Off,
}
