//! What goes wrong with a request: whose fault, which status the client sees, and whether another try may help.

use super::{log::Flags, path::PathMistake};
use http::StatusCode;
use std::fmt;

/// Why a request got no response from an endpoint. Its text is what the client sees as the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The client's: not a request that can be forwarded.
    BadRequest(&'static str),
    /// The client's: a path that may mean something else to somebody else, or a rewrite that makes one.
    BadPath(PathMistake),
    /// The client's: its body has a transfer coding other than `chunked`.
    UnknownCoding,
    /// The client's: path and query are too long.
    UriTooLong,
    /// The client's: it has too many header fields.
    HeadersTooMany,
    /// The client's: its body is over the listener's bound.
    BodyTooLarge,
    /// The client's: its body did not come.
    BodyTimeout,
    /// The client's: a method or upgrade that the listener does not take.
    NotAllowed(&'static str),
    /// The client went away.
    ClientGone,
    /// No route takes it.
    NoRoute,
    /// The cluster has no endpoint that takes requests.
    NoEndpoint,
    /// The endpoint's pool is full and its queue too.
    Overflow,
    /// This host has no file descriptor or port left for a connection to the endpoint.
    Exhausted,
    /// The endpoint could not be reached.
    Connect,
    /// The endpoint could not be reached in time.
    ConnectTimeout,
    /// TLS with the endpoint failed.
    ConnectTls,
    /// The endpoint closed the connection before a response.
    Reset,
    /// The endpoint refused the stream untouched (RFC 9113, 8.7): another try is safe.
    Refused,
    /// The endpoint's response is none.
    BadResponse,
    /// No response in time.
    Timeout,
    /// The client's own deadline (grpc-timeout) passed.
    Deadline,
}

impl Fault {
    /// Status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadPath(_) | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoEndpoint
            | Self::Overflow
            | Self::Exhausted
            | Self::Connect
            | Self::ConnectTimeout
            | Self::ConnectTls => StatusCode::SERVICE_UNAVAILABLE,
            Self::Reset | Self::Refused | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::Timeout | Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// grpc-status of the response (grpc.github.io, statuscodes; http-grpc-status-mapping).
    pub fn grpc_status(self) -> u8 {
        match self {
            Self::BadRequest(_)
            | Self::BadPath(_)
            | Self::UnknownCoding
            | Self::UriTooLong
            | Self::HeadersTooMany
            | Self::BodyTimeout => 13,
            Self::ClientGone => 1,
            Self::BodyTooLarge => 8,
            Self::NotAllowed(_) | Self::NoRoute => 12,
            Self::Timeout | Self::Deadline => 4,
            Self::NoEndpoint
            | Self::Overflow
            | Self::Exhausted
            | Self::Connect
            | Self::ConnectTimeout
            | Self::ConnectTls
            | Self::Reset
            | Self::Refused
            | Self::BadResponse => 14,
        }
    }

    /// Envoy's response flag, for logs.
    pub fn flag(self) -> Flags {
        match self {
            Self::BadRequest(_)
            | Self::BadPath(_)
            | Self::UnknownCoding
            | Self::UriTooLong
            | Self::HeadersTooMany
            | Self::NotAllowed(_)
            | Self::BodyTooLarge => Flags::DOWNSTREAM_PROTOCOL_ERROR,
            Self::BodyTimeout => Flags::STREAM_IDLE_TIMEOUT,
            Self::ClientGone => Flags::DOWNSTREAM_DISCONNECT,
            Self::NoRoute => Flags::NO_ROUTE,
            Self::NoEndpoint => Flags::NO_HEALTHY_UPSTREAM,
            Self::Overflow => Flags::UPSTREAM_OVERFLOW,
            Self::Exhausted | Self::Connect | Self::ConnectTimeout | Self::ConnectTls => {
                Flags::UPSTREAM_CONNECTION_FAILURE
            }
            Self::Reset => Flags::UPSTREAM_DISCONNECT,
            Self::Refused => Flags::UPSTREAM_RESET,
            Self::BadResponse => Flags::UPSTREAM_PROTOCOL_ERROR,
            Self::Timeout => Flags::UPSTREAM_TIMEOUT,
            Self::Deadline => Flags::DURATION_TIMEOUT,
        }
    }

    /// Whether nothing of the request has reached the endpoint's application.
    pub fn is_untouched(self) -> bool {
        matches!(
            self,
            Self::Exhausted
                | Self::Connect
                | Self::ConnectTimeout
                | Self::ConnectTls
                | Self::Refused
                | Self::Overflow
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPath(mistake) => return mistake.fmt(f),
            Self::BadRequest(why) | Self::NotAllowed(why) => why,
            Self::UnknownCoding => "the only transfer coding taken is chunked",
            Self::UriTooLong => "path and query are too long",
            Self::HeadersTooMany => "the request has too many header fields",
            Self::BodyTooLarge => "the body is too large",
            Self::BodyTimeout => "the request's body did not arrive in time",
            Self::ClientGone => "the client went away",
            Self::NoRoute => "no route matches",
            Self::NoEndpoint => "no healthy upstream",
            Self::Overflow => "upstream overflow: too many requests wait for a connection",
            Self::Exhausted => {
                "upstream connect error: the proxy is out of file descriptors, ports or memory"
            }
            Self::Connect => "upstream connect error: connection refused or unreachable",
            Self::ConnectTimeout => "upstream connect error: timeout",
            Self::ConnectTls => "upstream connect error: TLS handshake failed",
            Self::Reset => "upstream closed the connection before a response",
            Self::Refused => "upstream refused the stream",
            Self::BadResponse => "upstream sent no valid response",
            Self::Timeout => "upstream request timeout",
            Self::Deadline => "the request's deadline passed",
        })
    }
}

impl std::error::Error for Fault {}

impl From<PathMistake> for Fault {
    fn from(mistake: PathMistake) -> Self {
        Self::BadPath(mistake)
    }
}
