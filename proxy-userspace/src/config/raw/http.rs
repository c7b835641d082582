//! How an HTTP listener speaks: limits, timeouts, paths, headers about the connection.

use super::{Duration, Text};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;

/// Bounds on what a client may send.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct HttpLimits {
    /// Bytes of a request's head; more are answered 431.
    #[schemars(range(min = limits::MIN_HEADER_BYTES, max = limits::MAX_HEADER_BYTES), example = 65_536, extend("default" = 65_536))]
    pub(in crate::config) header_bytes: Option<u32>,
    /// Header fields of a request; more are answered 431.
    #[schemars(range(min = 1, max = limits::MAX_HEADERS), example = 100, extend("default" = 100))]
    pub(in crate::config) header_count: Option<u16>,
    /// Bytes of path and query; more are answered 414.
    #[schemars(range(min = 16, max = limits::MAX_URI_BYTES), example = 16_384, extend("default" = 16_384))]
    pub(in crate::config) uri_bytes: Option<u32>,
    /// HTTP/2 streams of a connection at a time.
    #[schemars(range(min = 1, max = limits::MAX_STREAMS), example = 1_024, extend("default" = 1_024))]
    pub(in crate::config) concurrent_streams: Option<u32>,
    /// Bytes of a request's body; more are answered 413. By default there is no bound.
    #[schemars(range(min = 0, max = limits::MAX_BODY_BYTES), example = 1_048_576)]
    pub(in crate::config) body_bytes: Option<u64>,
}

/// When waiting for a client or an endpoint ends; `0s` never ends.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct HttpTimeouts {
    /// From a request's first byte, or the connection's begin, until its head is whole.
    #[schemars(example = &"10s", extend("default" = "10s"))]
    pub(in crate::config) header_read: Option<Duration>,
    /// From the request's last byte until the response's last: 504.
    #[schemars(example = &"15s", extend("default" = "15s"))]
    pub(in crate::config) request: Option<Duration>,
    /// Without a byte of a body in either direction.
    #[schemars(example = &"5m", extend("default" = "5m"))]
    pub(in crate::config) idle_stream: Option<Duration>,
    /// A connection without a request for this long is closed.
    #[schemars(example = &"1h", extend("default" = "1h"))]
    pub(in crate::config) idle_connection: Option<Duration>,
    /// One try at one endpoint, until the response's head.
    #[schemars(example = &"2s", extend("default" = "0s"))]
    pub(in crate::config) per_try: Option<Duration>,
}

/// How paths are made canonical.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct PathOptions {
    /// Whether `.` and `..` are resolved.
    #[schemars(example = true, extend("default" = true))]
    pub(in crate::config) resolve_dot_segments: Option<bool>,
    /// Whether `//` becomes `/`.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) merge_slashes: Option<bool>,
    /// What becomes of `%2F` and `%5C`.
    #[schemars(example = &"reject", extend("default" = "reject"))]
    pub(in crate::config) encoded_slashes: Option<EncodedSlashes>,
}

/// What becomes of a percent-encoded slash or backslash.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlashes {
    /// The request is answered 400.
    Reject,
    /// It passes as it is.
    Keep,
    /// It becomes a slash or backslash.
    Decode,
}

/// Headers about the client's connection.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    /// Proxies in front of this one whose X-Forwarded-* and Forwarded headers are believed.
    #[schemars(range(min = 0, max = limits::MAX_HOPS), example = 1, extend("default" = 0))]
    pub(in crate::config) trusted_hops: Option<u8>,
    /// X-Forwarded-For, -Proto and -Host.
    #[schemars(example = true, extend("default" = true))]
    pub(in crate::config) x_forwarded: Option<bool>,
    /// Forwarded (RFC 7239).
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) forwarded: Option<bool>,
    /// X-Request-Id.
    #[schemars(example = true, extend("default" = true))]
    pub(in crate::config) request_id: Option<bool>,
    /// X-Forwarded-Client-Cert.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) client_certificate: Option<bool>,
}

/// What becomes of a response's `Server` header: `keep`, `remove`, or `{ set: TEXT }`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServerHeader {
    /// A word.
    Word(ServerHeaderWord),
    /// A text of its own.
    Set(ServerHeaderText),
}

/// What becomes of a response's `Server` header.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum ServerHeaderWord {
    /// The endpoint's passes.
    Keep,
    /// There is none.
    Remove,
}

/// A `Server` header that is always the same.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerHeaderText {
    /// Its value.
    #[schemars(with = "Text", example = &"weir")]
    pub(in crate::config) set: Option<Text>,
}
