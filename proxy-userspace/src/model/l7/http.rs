//! How a listener speaks HTTP: limits, timeouts, paths, headers about the connection.

use http::HeaderValue;
use std::time::Duration;

/// Settings of an HTTP listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpSettings {
    /// Bounds on what a client may send.
    pub limits: HttpLimits,
    /// When waiting ends.
    pub timeouts: HttpTimeouts,
    /// How paths are made canonical.
    pub path: PathOptions,
    /// Headers about the client's connection.
    pub forwarded: ForwardedSettings,
    /// Protocols a client may upgrade to, lower case; `websocket` unless configured.
    pub upgrades: Upgrades,
    /// Whether gRPC-Web requests become gRPC.
    pub grpc_web: bool,
    /// Name added to `Via` in both directions; none adds nothing.
    pub via: Option<Box<str>>,
    /// What becomes of the response's `Server` header.
    pub server_header: ServerHeader,
    /// Whether CONNECT is forwarded and tunnelled instead of refused.
    pub connect: bool,
}

/// Protocols a client may upgrade to.
pub type Upgrades = Vec<Box<str>>;

/// What becomes of a response's `Server` header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ServerHeader {
    /// The upstream's passes; none is added.
    #[default]
    Keep,
    /// Always this one.
    Set(HeaderValue),
    /// Removed.
    Remove,
}

/// Bounds on what a client may send; over them it is answered and nothing is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpLimits {
    /// Bytes of a request's head: 431. Default 64 KiB.
    pub header_bytes: u32,
    /// Header fields of a request: 431. Default 100.
    pub header_count: u16,
    /// Bytes of path and query: 414. Default 16 KiB.
    pub uri_bytes: u32,
    /// HTTP/2 streams of a connection at a time. Default 1,024.
    pub concurrent_streams: u32,
    /// Bytes of a request's body: 413. None for no bound, the default.
    pub body_bytes: Option<u64>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            header_count: 100,
            uri_bytes: 16 << 10,
            concurrent_streams: 1_024,
            body_bytes: None,
        }
    }
}

/// When waiting ends; zero never ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpTimeouts {
    /// From a request's first byte (or the connection's begin) until its head is whole: 408. Default 10 s.
    pub header_read: Duration,
    /// From the request's last byte until the response's last: 504 while nothing was answered. Default 15 s, Envoy's.
    pub request: Duration,
    /// Without a byte of a body in either direction: 504, or the stream is reset. Default 5 min, Envoy's.
    pub idle_stream: Duration,
    /// A connection without a request is closed. Default 1 h, Envoy's.
    pub idle_connection: Duration,
    /// One try at one endpoint, until the response's head. Default none (zero).
    pub per_try: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            request: Duration::from_secs(15),
            idle_stream: Duration::from_secs(300),
            idle_connection: Duration::from_secs(3_600),
            per_try: Duration::ZERO,
        }
    }
}

/// How paths are made canonical; router, access rules and upstream see the result. Strict by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathOptions {
    /// `.` and `..` segments, also percent-encoded, are resolved (RFC 3986, 5.2.4); a path that leaves the root is
    /// refused with 400. Off: they pass.
    pub resolve_dot_segments: bool,
    /// `//` becomes `/`. Default off: they pass as they are, as in Envoy.
    pub merge_slashes: bool,
    /// What becomes of `%2F` and `%5C`.
    pub encoded_slashes: EncodedSlashes,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            resolve_dot_segments: true,
            merge_slashes: false,
            encoded_slashes: EncodedSlashes::Reject,
        }
    }
}

/// What becomes of a percent-encoded slash or backslash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodedSlashes {
    /// 400.
    Reject,
    /// They pass as they are.
    Keep,
    /// Decoded before dot segments are resolved.
    Decode,
}

/// Headers about the client's connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardedSettings {
    /// Proxies in front of this one whose X-Forwarded-* and Forwarded are believed; 0, the default, believes none and
    /// replaces what came.
    pub trusted_hops: u8,
    /// X-Forwarded-For, -Proto, -Host. Default on.
    pub x_forwarded: bool,
    /// Forwarded (RFC 7239). Default off.
    pub forwarded: bool,
    /// X-Request-Id: made where absent, and replaced where the client is not trusted. Default on.
    pub request_id: bool,
    /// x-forwarded-client-cert: subject and SANs of the client's certificate. Default off.
    pub client_certificate: bool,
}

impl Default for ForwardedSettings {
    fn default() -> Self {
        Self {
            trusted_hops: 0,
            x_forwarded: true,
            forwarded: false,
            request_id: true,
            client_certificate: false,
        }
    }
}
