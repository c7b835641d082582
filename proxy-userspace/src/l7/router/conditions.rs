//! What a route asks of a request besides its host and its path's begin, for the compiled form.

use super::Facts;
use crate::model::l7::{GrpcMatch, NamedMatch, PathMatch, RouteMatch, TextMatch};
use http::header::CONTENT_TYPE;
use std::borrow::Cow;

/// Whether method, headers, query, gRPC and a path that is a regular expression are as the route asks.
pub(super) fn hold(matches: &RouteMatch, facts: &Facts<'_>) -> bool {
    (matches.methods.is_empty() || matches.methods.contains(facts.method))
        && matches.grpc.as_ref().is_none_or(|grpc| is_call(grpc, facts))
        && matches.headers.iter().all(|(name, wanted)| {
            let mut values = facts.headers.get_all(name).iter();
            values.any(|value| compare(&wanted.text, value.as_bytes())) != wanted.invert
        })
        && matches
            .query
            .iter()
            .all(|(name, wanted)| query_holds(facts.query, name, wanted))
        && match &matches.path {
            Some(PathMatch::Regex(regex)) => regex.is_match(facts.path),
            _ => true,
        }
}

fn is_call(wanted: &GrpcMatch, facts: &Facts<'_>) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let is_grpc = facts.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        let (begin, rest) = value.split_at(value.len().min(TYPE.len()));
        begin.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b'-' | b' '))
    });
    let call = facts
        .path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .filter(|(service, method)| {
            !service.is_empty() && !method.is_empty() && !method.as_bytes().contains(&b'/')
        });
    let is = |wanted: &Option<Box<str>>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    is_grpc
        && call.is_some_and(|(service, method)| is(&wanted.service, service) && is(&wanted.method, method))
}

fn query_holds(query: Option<&str>, name: &str, wanted: &NamedMatch) -> bool {
    let value = query.and_then(|query| parameter(query.as_bytes(), name.as_bytes()));
    value.is_some_and(|value| compare(&wanted.text, &decoded(value))) != wanted.invert
}

/// The first of this name, not yet decoded. `+` is a plus, as in RFC 3986; without `=` the value is empty.
fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (key, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        let is_it = !pair.is_empty() && Decode(key).eq(name.iter().copied());
        is_it.then_some(value)
    })
}

fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if value.contains(&b'%') {
        return Cow::Owned(Decode(value).collect());
    }
    Cow::Borrowed(value)
}

/// Bytes after percent-decoding; what is no encoding stays as it is.
struct Decode<'a>(&'a [u8]);

impl Iterator for Decode<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        if *first == b'%'
            && let [high, low, behind @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            self.0 = behind;
            return Some(high << 4 | low);
        }
        Some(*first)
    }
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Bytes that are not UTF-8 match no regular expression.
fn compare(wanted: &TextMatch, value: &[u8]) -> bool {
    match wanted {
        TextMatch::Exact(text) => value == text.as_bytes(),
        TextMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        TextMatch::Suffix(text) => value.ends_with(text.as_bytes()),
        TextMatch::Contains(text) => {
            text.is_empty() || value.windows(text.len()).any(|window| window == text.as_bytes())
        }
        TextMatch::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        TextMatch::Present => true,
    }
}
