//! Traces as OTLP's spans, by the semantic conventions for HTTP.

use super::live::{Trace, Try};
use crate::l7::error::Fault;
use http::{Method, Version};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use std::time::{Duration, UNIX_EPOCH};

/// Of `Span.flags`: it is known whether the parent is of another process (OTLP 1.5, `SpanFlags`).
const KNOWS_PARENT: u32 = 0x100;

/// Of `Span.flags`: it is.
const PARENT_IS_REMOTE: u32 = 0x200;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A request for the collector.
pub(super) fn request(traces: &[Trace], service_name: &str) -> ExportTraceServiceRequest {
    let mut spans = Vec::new();
    for trace in traces {
        spans.push(server(trace));
        let tries = trace.tries.iter().enumerate();
        spans.extend(tries.map(|(number, each)| client(trace, number, each)));
    }
    let node = rustix::system::uname();
    let attributes = vec![
        text("service.name", service_name),
        text("service.version", VERSION),
        text("host.name", node.nodename().to_string_lossy()),
        number("process.pid", i64::from(std::process::id())),
    ];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "weir".into(),
                    version: VERSION.into(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn server(trace: &Trace) -> Span {
    let mut attributes = common(trace);
    attributes.push(text("url.path", path(trace)));
    let scheme = if trace.is_secure { "https" } else { "http" };
    attributes.push(text("url.scheme", scheme));
    let (host, port) = host(trace);
    attributes.push(text("server.address", host));
    attributes.push(number("server.port", i64::from(port)));
    attributes.push(text("client.address", trace.client.ip().to_string()));
    attributes.push(text("network.protocol.name", "http"));
    attributes.push(text("network.protocol.version", version(trace.version)));
    let agent = trace.user_agent.as_ref();
    attributes
        .extend(agent.map(|agent| text("user_agent.original", String::from_utf8_lossy(agent.as_bytes()))));
    attributes.push(text("weir.listener", &*trace.listener));
    attributes.extend(trace.route.as_deref().map(|route| text("weir.route", route)));
    attributes.extend(status_attribute(trace.status));
    // Codes that are the server's fault, by the conventions for gRPC.
    let is_grpc_error = matches!(trace.grpc_status, Some(2 | 4 | 12 | 13 | 14 | 15));
    let error = match trace.fault {
        // A client's mistake is no error of the server.
        Some(fault) if fault.status().is_server_error() => Some(error_type(fault).to_owned()),
        _ if trace.status >= 500 => Some(trace.status.to_string()),
        _ if is_grpc_error => trace.grpc_status.map(|code| code.to_string()),
        None if !trace.is_complete => Some("aborted".to_owned()),
        _ => None,
    };
    attributes.extend(error.as_ref().map(|error| text("error.type", error.as_str())));
    let method = &trace.method;
    let name = match (is_known(method), trace.route.as_deref()) {
        (true, Some(route)) => format!("{method} {route}"),
        (true, None) => method.to_string(),
        (false, Some(route)) => format!("HTTP {route}"),
        (false, None) => "HTTP".to_owned(),
    };
    Span {
        span_id: trace.span_id.to_be_bytes().to_vec(),
        parent_span_id: trace
            .parent
            .map(|parent| parent.to_be_bytes().to_vec())
            .unwrap_or_default(),
        flags: u32::from(trace.flags) | KNOWS_PARENT | trace.parent.map_or(0, |_| PARENT_IS_REMOTE),
        kind: SpanKind::Server.into(),
        name,
        attributes,
        status: Some(status(error)),
        ..bare(trace, Duration::ZERO, trace.duration)
    }
}

fn client(trace: &Trace, place: usize, each: &Try) -> Span {
    let mut attributes = common(trace);
    attributes.push(text("server.address", each.endpoint.ip().to_string()));
    attributes.push(number("server.port", i64::from(each.endpoint.port())));
    attributes.push(text("network.peer.address", each.endpoint.ip().to_string()));
    attributes.push(number("network.peer.port", i64::from(each.endpoint.port())));
    attributes.push(text("weir.cluster", &*each.cluster.0));
    if place > 0 {
        attributes.push(number("http.request.resend_count", place as i64));
    }
    attributes.extend(status_attribute(each.status));
    let is_last = place + 1 == trace.tries.len();
    let grpc_status = trace.grpc_status.filter(|code| is_last && *code != 0);
    let error = match each.fault {
        Some(fault) => Some(error_type(fault).to_owned()),
        None if each.status >= 400 => Some(each.status.to_string()),
        None if grpc_status.is_some() => grpc_status.map(|code| code.to_string()),
        None if each.status == 0 || !trace.is_complete => Some("aborted".to_owned()),
        None => None,
    };
    attributes.extend(error.as_ref().map(|error| text("error.type", error.as_str())));
    let method = &trace.method;
    Span {
        span_id: each.span_id.to_be_bytes().to_vec(),
        parent_span_id: trace.span_id.to_be_bytes().to_vec(),
        flags: u32::from(trace.flags) | KNOWS_PARENT,
        kind: SpanKind::Client.into(),
        name: if is_known(method) {
            method.to_string()
        } else {
            "HTTP".into()
        },
        attributes,
        status: Some(status(error)),
        ..bare(trace, each.begin, each.end)
    }
}

/// What both kinds have.
fn bare(trace: &Trace, begin: Duration, end: Duration) -> Span {
    let start = trace.start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = |offset: Duration| u64::try_from((start + offset).as_nanos()).unwrap_or(u64::MAX);
    Span {
        trace_id: trace.trace_id.0.to_be_bytes().to_vec(),
        trace_state: trace.state.clone(),
        start_time_unix_nano: at(begin),
        end_time_unix_nano: at(end),
        ..Span::default()
    }
}

fn common(trace: &Trace) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(16);
    let method = trace.method.as_str();
    if is_known(&trace.method) {
        attributes.push(text("http.request.method", method));
    } else {
        attributes.push(text("http.request.method", "_OTHER"));
        attributes.push(text("http.request.method_original", method));
    }
    if trace.is_grpc {
        attributes.push(text("rpc.system", "grpc"));
        if let Some((service, method)) = trace
            .uri
            .path()
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
        {
            attributes.push(text("rpc.service", service));
            attributes.push(text("rpc.method", method));
        }
        let code = trace.grpc_status;
        attributes.extend(code.map(|code| number("rpc.grpc.status_code", i64::from(code))));
    }
    attributes
}

fn status_attribute(status: u16) -> Option<KeyValue> {
    (status != 0).then(|| number("http.response.status_code", i64::from(status)))
}

fn status(error: Option<String>) -> Status {
    Status {
        code: if error.is_some() {
            StatusCode::Error
        } else {
            StatusCode::Unset
        }
        .into(),
        message: String::new(),
    }
}

fn path(trace: &Trace) -> &str {
    match trace.uri.path() {
        "" => "/",
        path => path,
    }
}

/// What the client asked for; else what it connected to.
fn host(trace: &Trace) -> (String, u16) {
    let typed = (trace.uri.authority().map(|authority| authority.as_str()))
        .or_else(|| trace.host.as_ref().and_then(|host| host.to_str().ok()));
    let authority: Option<http::uri::Authority> = typed.and_then(|typed| typed.parse().ok());
    let default = if trace.is_secure { 443 } else { 80 };
    match authority {
        Some(authority) => (
            authority.host().to_owned(),
            authority.port_u16().unwrap_or(default),
        ),
        None => (trace.local.ip().to_string(), trace.local.port()),
    }
}

/// Those of RFC 9110 and PATCH: the rest is the client's invention.
fn is_known(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// `error.type`: a word of few.
fn error_type(fault: Fault) -> &'static str {
    match fault {
        Fault::BadRequest(_) | Fault::BadPath(_) => "bad_request",
        Fault::UnknownCoding => "unknown_coding",
        Fault::UriTooLong => "uri_too_long",
        Fault::HeadersTooMany => "headers_too_many",
        Fault::BodyTooLarge => "body_too_large",
        Fault::BodyTimeout => "body_timeout",
        Fault::NotAllowed(_) => "not_allowed",
        Fault::ClientGone => "client_gone",
        Fault::NoRoute => "no_route",
        Fault::NoEndpoint => "no_endpoint",
        Fault::Overflow => "overflow",
        Fault::Exhausted => "exhausted",
        Fault::Connect => "connect",
        Fault::ConnectTimeout => "connect_timeout",
        Fault::ConnectTls => "connect_tls",
        Fault::Reset => "reset",
        Fault::Refused => "refused",
        Fault::BadResponse => "bad_response",
        Fault::Timeout => "timeout",
        Fault::Deadline => "deadline",
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
