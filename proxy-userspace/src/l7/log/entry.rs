//! What is known of a request, or a connection, when it is over.

use crate::l7::trace::TraceId;
use http::{HeaderMap, Version};
use std::{
    net::SocketAddr,
    ops::BitOrAssign,
    time::{Duration, SystemTime},
};

/// Facts that templates can show; what isn't known is none, and shown as `-` (in JSON `null`).
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request's head, or the connection, began.
    pub start: SystemTime,
    /// From there until the last byte of the response.
    pub duration: Duration,
    /// From there until the last byte of the request was received.
    pub request_duration: Option<Duration>,
    /// From there until the first byte of the upstream's response.
    pub response_duration: Option<Duration>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// Path and query as the client sent them.
    pub path: Option<&'a str>,
    /// `:authority` or Host, as the client sent it.
    pub authority: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: Option<&'a str>,
    /// The client's.
    pub protocol: Option<Version>,
    /// The request's, as they are at its end.
    pub request_headers: Option<&'a HeaderMap>,
    /// Those sent to the client.
    pub response_headers: Option<&'a HeaderMap>,
    /// Those sent to the client.
    pub response_trailers: Option<&'a HeaderMap>,
    /// Sent to the client; none is shown as 0.
    pub response_code: Option<u16>,
    /// What was out of the ordinary.
    pub response_flags: Flags,
    /// Where the response came from: `via_upstream`, `direct_response`, or why Weir made it.
    pub response_code_details: Option<&'a str>,
    /// Bytes of the request's body, or from the client.
    pub bytes_received: u64,
    /// Bytes of the response's body, or to the client.
    pub bytes_sent: u64,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// Its cluster.
    pub upstream_cluster: Option<&'a str>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The client, as PROXY protocol or trusted headers tell it.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The address the client connected to.
    pub downstream_local_address: Option<SocketAddr>,
    /// SNI.
    pub requested_server_name: Option<&'a str>,
    /// `TLSv1.3`.
    pub downstream_tls_version: Option<&'a str>,
    /// `TLS_AES_128_GCM_SHA256`.
    pub downstream_tls_cipher: Option<&'a str>,
    /// Of the client's certificate.
    pub downstream_peer_subject: Option<&'a str>,
    /// Unique in this process.
    pub connection_id: u64,
    /// Where requests are traced, sampled or not.
    pub trace_id: Option<TraceId>,
}

impl<'a> Entry<'a> {
    /// An entry that knows nothing but when it began.
    pub fn new(start: SystemTime) -> Entry<'a> {
        Entry {
            start,
            duration: Duration::ZERO,
            request_duration: None,
            response_duration: None,
            method: None,
            path: None,
            authority: None,
            scheme: None,
            protocol: None,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            response_code: None,
            response_flags: Flags::default(),
            response_code_details: None,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            upstream_cluster: None,
            route_name: None,
            downstream_remote_address: None,
            downstream_local_address: None,
            requested_server_name: None,
            downstream_tls_version: None,
            downstream_tls_cipher: None,
            downstream_peer_subject: None,
            connection_id: 0,
            trace_id: None,
        }
    }

    /// From the trailers, or where there were none from a response that is headers only.
    pub(super) fn grpc_status(&self) -> Option<u32> {
        let maps = [self.response_trailers, self.response_headers];
        let status = maps
            .into_iter()
            .flatten()
            .find_map(|map| map.get("grpc-status"))?;
        status.to_str().ok()?.parse().ok()
    }
}

/// What was out of the ordinary, as a set. Shown with Envoy's short names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// UH: no endpoint takes requests.
    pub const NO_HEALTHY_UPSTREAM: Self = Self(1);
    /// UF: connecting to the endpoint failed.
    pub const UPSTREAM_CONNECTION_FAILURE: Self = Self(1 << 1);
    /// UO: too many wait for a connection.
    pub const UPSTREAM_OVERFLOW: Self = Self(1 << 2);
    /// NR: no route.
    pub const NO_ROUTE: Self = Self(1 << 3);
    /// URX: the last of several tries failed.
    pub const UPSTREAM_RETRY_LIMIT: Self = Self(1 << 4);
    /// NC: the route's cluster is not there.
    pub const NO_CLUSTER: Self = Self(1 << 5);
    /// DC: the client went away.
    pub const DOWNSTREAM_DISCONNECT: Self = Self(1 << 6);
    /// UT: the endpoint did not answer in time.
    pub const UPSTREAM_TIMEOUT: Self = Self(1 << 7);
    /// LR: Weir reset the stream.
    pub const LOCAL_RESET: Self = Self(1 << 8);
    /// UR: the endpoint reset the stream.
    pub const UPSTREAM_RESET: Self = Self(1 << 9);
    /// UC: the endpoint closed the connection.
    pub const UPSTREAM_DISCONNECT: Self = Self(1 << 10);
    /// DPE: the client broke the protocol.
    pub const DOWNSTREAM_PROTOCOL_ERROR: Self = Self(1 << 11);
    /// UPE: the endpoint broke the protocol.
    pub const UPSTREAM_PROTOCOL_ERROR: Self = Self(1 << 12);
    /// SI: the stream was idle for too long.
    pub const STREAM_IDLE_TIMEOUT: Self = Self(1 << 13);
    /// DT: the request, or the connection, took too long.
    pub const DURATION_TIMEOUT: Self = Self(1 << 14);

    const NAMES: [&str; 15] = [
        "UH", "UF", "UO", "NR", "URX", "NC", "DC", "UT", "LR", "UR", "UC", "DPE", "UPE", "SI", "DT",
    ];

    /// By its short name; one that isn't known is none of them.
    pub fn from_name(name: &str) -> Self {
        let bit = Self::NAMES.iter().position(|known| *known == name);
        bit.map_or(Self::default(), |bit| Self(1 << bit))
    }

    /// None of them.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of the other's are in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// `UF,URX`.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let names = Self::NAMES.iter().zip(0..);
        names.filter_map(move |(name, bit)| (self.0 & (1 << bit) != 0).then_some(*name))
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
