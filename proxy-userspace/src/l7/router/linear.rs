//! The plain matcher: every route in order, straight from the model's documentation. It says what is right; the
//! compiled form is fuzzed against it and shares no code with it.

use super::Facts;
use crate::model::l7::{GrpcMatch, HostMatch, NamedMatch, PathMatch, Route, TextMatch};
use http::{HeaderName, header::CONTENT_TYPE};

/// Why a route does not match: the first of its conditions, in the order of the fields of
/// [`RouteMatch`](crate::model::l7::RouteMatch), that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch<'a> {
    /// Another host.
    Host(&'a [HostMatch]),
    /// Another path.
    Path(&'a PathMatch),
    /// Another method.
    Method(&'a [http::Method]),
    /// This header is not as it should be.
    Header(&'a HeaderName, &'a NamedMatch),
    /// This query parameter is not as it should be.
    Query(&'a str, &'a NamedMatch),
    /// No gRPC call, or another.
    Grpc(&'a GrpcMatch),
}

/// The first route that matches.
pub fn find(routes: &[Route], facts: &Facts<'_>) -> Option<usize> {
    routes.iter().position(|route| mismatch(route, facts).is_none())
}

/// Why this route does not match; none if it does.
pub fn mismatch<'a>(route: &'a Route, facts: &Facts<'_>) -> Option<Mismatch<'a>> {
    let matches = &route.matches;
    if !matches.hosts.is_empty() && !matches.hosts.iter().any(|host| is_host(host, facts.host)) {
        return Some(Mismatch::Host(&matches.hosts));
    }
    if let Some(path) = &matches.path
        && !is_path(path, facts.path)
    {
        return Some(Mismatch::Path(path));
    }
    if !matches.methods.is_empty() && !matches.methods.iter().any(|method| method == facts.method) {
        return Some(Mismatch::Method(&matches.methods));
    }
    for (name, wanted) in &matches.headers {
        let mut holds = false;
        for value in facts.headers.get_all(name) {
            holds |= is_text(&wanted.text, value.as_bytes());
        }
        if holds == wanted.invert {
            return Some(Mismatch::Header(name, wanted));
        }
    }
    for (name, wanted) in &matches.query {
        let value = facts.query.and_then(|query| parameter(query, name));
        let holds = match value {
            Some(value) => is_text(&wanted.text, &value),
            None => false,
        };
        if holds == wanted.invert {
            return Some(Mismatch::Query(name, wanted));
        }
    }
    match &matches.grpc {
        Some(grpc) if !is_grpc(grpc, facts) => Some(Mismatch::Grpc(grpc)),
        _ => None,
    }
}

/// The value of the first query parameter of this name, percent-decoded as its name is. `+` stays a plus.
pub fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key) == name.as_bytes() {
            return Some(decode(value));
        }
    }
    None
}

/// Whether the content-type is `application/grpc`, with or without a subtype (`+proto`, `-web`) and parameters.
pub fn is_grpc_type(facts: &Facts<'_>) -> bool {
    let Some(value) = facts.headers.get(CONTENT_TYPE) else {
        return false;
    };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    value
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-', ';', ' ']))
}

fn is_host(wanted: &HostMatch, host: &str) -> bool {
    match wanted {
        HostMatch::Exact(name) => host == &**name,
        HostMatch::Suffix(suffix) => host
            .strip_suffix(&**suffix)
            .is_some_and(|labels| !labels.is_empty()),
    }
}

fn is_path(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(text) => path == &**text,
        PathMatch::Prefix(text) => path.starts_with(&**text),
        PathMatch::SegmentPrefix(text) => path == &**text || path.starts_with(&format!("{text}/")),
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}

fn is_grpc(wanted: &GrpcMatch, facts: &Facts<'_>) -> bool {
    let segments: Vec<&str> = facts.path.split('/').collect();
    let ["", service, method] = segments[..] else {
        return false;
    };
    let is = |wanted: &Option<Box<str>>, name: &str| match wanted {
        _ if name.is_empty() => false,
        Some(wanted) => &**wanted == name,
        None => true,
    };
    is_grpc_type(facts) && is(&wanted.service, service) && is(&wanted.method, method)
}

/// Bytes that are not UTF-8 match no regular expression.
fn is_text(wanted: &TextMatch, value: &[u8]) -> bool {
    match wanted {
        TextMatch::Exact(text) => text.as_bytes() == value,
        TextMatch::Prefix(text) => value.strip_prefix(text.as_bytes()).is_some(),
        TextMatch::Suffix(text) => value.strip_suffix(text.as_bytes()).is_some(),
        TextMatch::Contains(text) => {
            let text = text.as_bytes();
            (0..=value.len()).any(|at| value[at..].starts_with(text))
        }
        TextMatch::Regex(regex) => str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        TextMatch::Present => true,
    }
}

/// What is no encoding stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes().collect::<Vec<_>>();
    let mut at = 0;
    while at + 2 < bytes.len() {
        let digits = str::from_utf8(&bytes[at + 1..at + 3]).unwrap_or_default();
        let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if bytes[at] == b'%'
            && are_digits
            && let Ok(byte) = u8::from_str_radix(digits, 16)
        {
            bytes.splice(at..at + 3, [byte]);
        }
        at += 1;
    }
    bytes
}
