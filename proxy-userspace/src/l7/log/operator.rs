//! Envoy's command operators: their names, and what each shows of an entry.

use super::{Entry, Escape, time::TimeFormat};
use crate::l7::trace::TraceId;
use http::{HeaderMap, HeaderName, Version};
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// What stands between two `%`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    StartTime(TimeFormat),
    Request(Named),
    Response(Named),
    Trailer(Named),
    GrpcStatus(GrpcForm),
    Simple(Simple),
}

/// A header, and another one for where the first is absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) name: Field,
    pub(super) or: Option<Field>,
}

/// A header or what HTTP/2 calls a pseudo-header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Method,
    Path,
    Authority,
    Scheme,
    Status,
    Header(HeaderName),
}

/// How a gRPC status is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GrpcForm {
    /// `NotFound`.
    Camel,
    /// `NOT_FOUND`.
    Snake,
    /// `5`.
    Number,
}

/// Operators without arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Simple {
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    ResponseDuration,
    UpstreamHost,
    UpstreamCluster,
    RouteName,
    RemoteAddress,
    RemoteAddressWithoutPort,
    LocalAddress,
    LocalAddressWithoutPort,
    RequestedServerName,
    TlsVersion,
    TlsCipher,
    PeerSubject,
    ConnectionId,
    TraceId,
}

/// Their names.
pub(super) const SIMPLE: &[(&str, Simple)] = &[
    ("PROTOCOL", Simple::Protocol),
    ("RESPONSE_CODE", Simple::ResponseCode),
    ("RESPONSE_FLAGS", Simple::ResponseFlags),
    ("RESPONSE_CODE_DETAILS", Simple::ResponseCodeDetails),
    ("BYTES_RECEIVED", Simple::BytesReceived),
    ("BYTES_SENT", Simple::BytesSent),
    ("DURATION", Simple::Duration),
    ("REQUEST_DURATION", Simple::RequestDuration),
    ("RESPONSE_DURATION", Simple::ResponseDuration),
    ("UPSTREAM_HOST", Simple::UpstreamHost),
    ("UPSTREAM_CLUSTER", Simple::UpstreamCluster),
    ("ROUTE_NAME", Simple::RouteName),
    ("DOWNSTREAM_REMOTE_ADDRESS", Simple::RemoteAddress),
    (
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        Simple::RemoteAddressWithoutPort,
    ),
    ("DOWNSTREAM_LOCAL_ADDRESS", Simple::LocalAddress),
    (
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
        Simple::LocalAddressWithoutPort,
    ),
    ("REQUESTED_SERVER_NAME", Simple::RequestedServerName),
    ("DOWNSTREAM_TLS_VERSION", Simple::TlsVersion),
    ("DOWNSTREAM_TLS_CIPHER", Simple::TlsCipher),
    ("DOWNSTREAM_PEER_SUBJECT", Simple::PeerSubject),
    ("CONNECTION_ID", Simple::ConnectionId),
    ("TRACE_ID", Simple::TraceId),
];

/// Those that take arguments, or are known when a template is read.
pub(super) const OTHERS: &[&str] = &[
    "START_TIME",
    "REQ",
    "RESP",
    "TRAILER",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
];

/// What an operator shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Missing,
    Number(u64),
    Bytes(&'a [u8]),
    Socket(SocketAddr),
    Ip(IpAddr),
    Flags(super::Flags),
    Trace(TraceId),
    Time(&'a TimeFormat),
}

impl Operator {
    /// What it shows of this entry.
    pub(super) fn value<'a>(&'a self, entry: &Entry<'a>) -> Value<'a> {
        match self {
            Self::StartTime(format) => Value::Time(format),
            Self::Request(named) => named.value(entry, entry.request_headers),
            Self::Response(named) => named.value(entry, entry.response_headers),
            Self::Trailer(named) => named.value(entry, entry.response_trailers),
            Self::GrpcStatus(form) => form.value(entry.grpc_status()),
            Self::Simple(simple) => simple.value(entry),
        }
    }
}

impl Named {
    fn value<'a>(&self, entry: &Entry<'a>, headers: Option<&'a HeaderMap>) -> Value<'a> {
        match self.name.value(entry, headers) {
            Value::Missing => {
                let or = self.or.as_ref();
                or.map_or(Value::Missing, |or| or.value(entry, headers))
            }
            value => value,
        }
    }
}

impl Field {
    fn value<'a>(&self, entry: &Entry<'a>, headers: Option<&'a HeaderMap>) -> Value<'a> {
        match self {
            Self::Method => text(entry.method),
            Self::Path => text(entry.path),
            Self::Authority => text(entry.authority),
            Self::Scheme => text(entry.scheme),
            Self::Status => number(entry.response_code.map(u64::from)),
            Self::Header(name) => {
                let value = headers.and_then(|headers| headers.get(name));
                value.map_or(Value::Missing, |value| Value::Bytes(value.as_bytes()))
            }
        }
    }
}

impl Simple {
    fn value<'a>(self, entry: &Entry<'a>) -> Value<'a> {
        match self {
            Self::Protocol => text(entry.protocol.map(protocol)),
            Self::ResponseCode => Value::Number(entry.response_code.unwrap_or(0).into()),
            Self::ResponseFlags if entry.response_flags.is_empty() => Value::Missing,
            Self::ResponseFlags => Value::Flags(entry.response_flags),
            Self::ResponseCodeDetails => text(entry.response_code_details),
            Self::BytesReceived => Value::Number(entry.bytes_received),
            Self::BytesSent => Value::Number(entry.bytes_sent),
            Self::Duration => number(Some(milliseconds(entry.duration))),
            Self::RequestDuration => number(entry.request_duration.map(milliseconds)),
            Self::ResponseDuration => number(entry.response_duration.map(milliseconds)),
            Self::UpstreamHost => socket(entry.upstream_host),
            Self::UpstreamCluster => text(entry.upstream_cluster),
            Self::RouteName => text(entry.route_name),
            Self::RemoteAddress => socket(entry.downstream_remote_address),
            Self::RemoteAddressWithoutPort => ip(entry.downstream_remote_address),
            Self::LocalAddress => socket(entry.downstream_local_address),
            Self::LocalAddressWithoutPort => ip(entry.downstream_local_address),
            Self::RequestedServerName => text(entry.requested_server_name),
            Self::TlsVersion => text(entry.downstream_tls_version),
            Self::TlsCipher => text(entry.downstream_tls_cipher),
            Self::PeerSubject => text(entry.downstream_peer_subject),
            Self::ConnectionId => Value::Number(entry.connection_id),
            Self::TraceId => entry.trace_id.map_or(Value::Missing, Value::Trace),
        }
    }
}

impl GrpcForm {
    /// Names of codes 0 to 16, as of grpc's status codes page.
    const NAMES: [(&str, &str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];

    fn value(self, status: Option<u32>) -> Value<'static> {
        let Some(status) = status else {
            return Value::Missing;
        };
        match (self, Self::NAMES.get(status as usize)) {
            (Self::Camel, Some((name, _))) | (Self::Snake, Some((_, name))) => Value::Bytes(name.as_bytes()),
            (Self::Number, _) | (_, None) => Value::Number(status.into()),
        }
    }
}

impl Value<'_> {
    /// Appends it, but for what is missing; `limit` bounds the bytes of texts.
    pub(super) fn write(&self, entry: &Entry<'_>, limit: Option<usize>, escape: Escape, out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        let _infallible = match self {
            Value::Missing => Ok(()),
            Value::Number(number) => write!(out, "{number}"),
            Value::Socket(address) => write!(out, "{address}"),
            Value::Ip(address) => write!(out, "{address}"),
            Value::Trace(id) => write!(out, "{id}"),
            Value::Bytes(bytes) => {
                escape.write(&bytes[..limit.unwrap_or(bytes.len()).min(bytes.len())], out);
                Ok(())
            }
            Value::Flags(flags) => {
                for (index, name) in flags.names().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b"," });
                    out.extend_from_slice(name.as_bytes());
                }
                Ok(())
            }
            Value::Time(format) => {
                format.write(entry.start, escape, out);
                Ok(())
            }
        };
    }
}

fn text(value: Option<&str>) -> Value<'_> {
    let value = value.filter(|text| !text.is_empty());
    value.map_or(Value::Missing, |text| Value::Bytes(text.as_bytes()))
}

fn number(value: Option<u64>) -> Value<'static> {
    value.map_or(Value::Missing, Value::Number)
}

fn socket(value: Option<SocketAddr>) -> Value<'static> {
    value.map_or(Value::Missing, Value::Socket)
}

fn ip(value: Option<SocketAddr>) -> Value<'static> {
    value.map_or(Value::Missing, |address| Value::Ip(address.ip()))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
