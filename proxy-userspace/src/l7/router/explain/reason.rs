//! Conditions in words.

use crate::{
    l7::router::{
        Facts,
        linear::{self, Mismatch},
    },
    model::l7::{GrpcMatch, HostMatch, NamedMatch, PathMatch, RouteMatch, TextMatch},
};
use std::fmt::Display;

/// Most members of a list that are shown.
const SHOWN: usize = 3;

/// What a route asks, a condition each; empty for any request.
pub fn conditions(matches: &RouteMatch) -> Vec<String> {
    let mut conditions = Vec::new();
    if !matches.hosts.is_empty() {
        conditions.push(format!("host {}", one_of("is", &hosts(&matches.hosts))));
    }
    if let Some(path) = &matches.path {
        conditions.push(match path {
            PathMatch::Exact(text) => format!("path is {text}"),
            PathMatch::Prefix(text) => format!("path begins with {text}"),
            PathMatch::SegmentPrefix(text) => format!("path is under {}", segments(text)),
            PathMatch::Regex(regex) => format!("path matches {}", regex.as_str()),
        });
    }
    if !matches.methods.is_empty() {
        conditions.push(format!("method {}", one_of("is", &matches.methods)));
    }
    for (name, wanted) in &matches.headers {
        conditions.push(format!("header {name} {}", verb(wanted, wanted.invert)));
    }
    for (name, wanted) in &matches.query {
        conditions.push(format!("query parameter {name} {}", verb(wanted, wanted.invert)));
    }
    if let Some(grpc) = &matches.grpc {
        conditions.push(format!("is a gRPC call of {}", call(grpc)));
    }
    conditions
}

/// Why a route does not match.
pub(super) fn mismatch(mismatch: &Mismatch<'_>, facts: &Facts<'_>) -> String {
    let Facts { host, path, .. } = facts;
    match mismatch {
        Mismatch::Host(wanted) if host.is_empty() => {
            format!("the request names no host, and {}", none_of(&hosts(wanted)))
        }
        Mismatch::Host(wanted) => format!("host {host} {}", none_of(&hosts(wanted))),
        Mismatch::Path(PathMatch::Exact(text)) => format!("path {path} is not {text}"),
        Mismatch::Path(PathMatch::Prefix(text)) => format!("path {path} does not begin with {text}"),
        Mismatch::Path(PathMatch::SegmentPrefix(text)) => {
            format!("path {path} is not under {}", segments(text))
        }
        Mismatch::Path(PathMatch::Regex(regex)) => format!("path {path} does not match {}", regex.as_str()),
        Mismatch::Method(wanted) => format!("method {} {}", facts.method, none_of(wanted)),
        Mismatch::Header(name, wanted) => {
            let values: Vec<String> = facts
                .headers
                .get_all(*name)
                .iter()
                .map(|value| quoted(value.as_bytes()))
                .collect();
            named(&format!("header {name}"), wanted, &values)
        }
        Mismatch::Query(name, wanted) => {
            let value = facts.query.and_then(|query| linear::parameter(query, name));
            let values: Vec<String> = value.iter().map(|value| quoted(value)).collect();
            named(&format!("query parameter {name}"), wanted, &values)
        }
        Mismatch::Grpc(_) if !linear::is_grpc_type(facts) => {
            "no gRPC call: the content-type is not application/grpc".to_owned()
        }
        Mismatch::Grpc(wanted) => format!("path {path} is no call of {}", call(wanted)),
    }
}

/// A named thing with these values is not as wanted.
fn named(what: &str, wanted: &NamedMatch, values: &[String]) -> String {
    if values.is_empty() {
        return format!("{what} is absent; the route asks that it {}", verb(wanted, false));
    }
    let values = values.join(", ");
    if wanted.invert {
        return format!(
            "{what} is {values}; the route asks that it {}",
            verb(wanted, true)
        );
    }
    format!("{what} is {values}, which {}", verb_negated(wanted))
}

fn verb(wanted: &NamedMatch, invert: bool) -> String {
    if invert {
        return verb_negated(wanted);
    }
    match &wanted.text {
        TextMatch::Exact(text) => format!("is {text:?}"),
        TextMatch::Prefix(text) => format!("begins with {text:?}"),
        TextMatch::Suffix(text) => format!("ends with {text:?}"),
        TextMatch::Contains(text) => format!("contains {text:?}"),
        TextMatch::Regex(regex) => format!("matches {}", regex.as_str()),
        TextMatch::Present => "is present".to_owned(),
    }
}

fn verb_negated(wanted: &NamedMatch) -> String {
    match &wanted.text {
        TextMatch::Exact(text) => format!("is not {text:?}"),
        TextMatch::Prefix(text) => format!("does not begin with {text:?}"),
        TextMatch::Suffix(text) => format!("does not end with {text:?}"),
        TextMatch::Contains(text) => format!("does not contain {text:?}"),
        TextMatch::Regex(regex) => format!("does not match {}", regex.as_str()),
        TextMatch::Present => "is absent".to_owned(),
    }
}

fn hosts(hosts: &[HostMatch]) -> Vec<String> {
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    hosts.iter().map(host).collect()
}

fn segments(text: &str) -> &str {
    if text.is_empty() { "/" } else { text }
}

fn call(grpc: &GrpcMatch) -> String {
    let any = "any";
    let service = grpc.service.as_deref().unwrap_or(any);
    format!(
        "service {service}, method {}",
        grpc.method.as_deref().unwrap_or(any)
    )
}

fn none_of<T: Display>(wanted: &[T]) -> String {
    let verb = if wanted.len() == 1 { "is not" } else { "is none of" };
    format!("{verb} {}", listed(wanted))
}

fn one_of<T: Display>(verb: &str, wanted: &[T]) -> String {
    let among = if wanted.len() == 1 { "" } else { " one of" };
    format!("{verb}{among} {}", listed(wanted))
}

fn listed<T: Display>(wanted: &[T]) -> String {
    let mut shown: Vec<String> = wanted.iter().take(SHOWN).map(ToString::to_string).collect();
    if wanted.len() > SHOWN {
        shown.push(format!("{} more", wanted.len() - SHOWN));
    }
    shown.join(", ")
}

fn quoted(value: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(value))
}
