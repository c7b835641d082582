//! A pair as one would type it into a config and into `weir explain`.

use super::Request;
use std::fmt::Write;
use weir::model::l7::{HostMatch, NamedMatch, PathMatch, Route, RouteMatch, TextMatch};

/// Routes as YAML, and the request.
pub fn pair(routes: &[Route], request: &Request) -> String {
    let mut text = String::from("routes:\n");
    for route in routes {
        // Writing to a String can't fail.
        let _ok = writeln!(text, "  - match: {{ {} }}", matches(&route.matches).join(", "));
    }
    let query = request
        .query
        .as_ref()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let _ok = write!(
        text,
        "weir explain --host '{}' --path '{}{query}' --method {}",
        request.host, request.path, request.method
    );
    for (name, value) in &request.headers {
        let _ok = write!(text, " --header '{name}: {}'", value.as_bytes().escape_ascii());
    }
    text
}

fn matches(matches: &RouteMatch) -> Vec<String> {
    let mut keys = Vec::new();
    if !matches.hosts.is_empty() {
        let host = |host: &HostMatch| match host {
            HostMatch::Exact(name) => format!("{name:?}"),
            HostMatch::Suffix(suffix) => format!("\"*{suffix}\""),
        };
        let hosts: Vec<String> = matches.hosts.iter().map(host).collect();
        keys.push(format!("hosts: [{}]", hosts.join(", ")));
    }
    match &matches.path {
        None => {}
        Some(PathMatch::Exact(text)) => keys.push(format!("path: {text:?}")),
        Some(PathMatch::Prefix(text)) => keys.push(format!("path_prefix: {text:?}")),
        Some(PathMatch::SegmentPrefix(text)) => keys.push(format!("path_segment_prefix: {text:?}")),
        Some(PathMatch::Regex(regex)) => keys.push(format!("path_regex: '{}'", regex.as_str())),
    }
    if !matches.methods.is_empty() {
        let methods: Vec<&str> = matches.methods.iter().map(http::Method::as_str).collect();
        keys.push(format!("methods: [{}]", methods.join(", ")));
    }
    let list = |key: &str, named: Vec<String>| format!("{key}: [{}]", named.join(", "));
    if !matches.headers.is_empty() {
        let headers = matches
            .headers
            .iter()
            .map(|(name, wanted)| named(name.as_str(), wanted));
        keys.push(list("headers", headers.collect()));
    }
    if !matches.query.is_empty() {
        let query = matches.query.iter().map(|(name, wanted)| named(name, wanted));
        keys.push(list("query", query.collect()));
    }
    if let Some(grpc) = &matches.grpc {
        let mut parts = Vec::new();
        for (key, value) in [("service", &grpc.service), ("method", &grpc.method)] {
            parts.extend(value.as_ref().map(|value| format!("{key}: {value:?}")));
        }
        keys.push(format!("grpc: {{ {} }}", parts.join(", ")));
    }
    keys
}

fn named(name: &str, wanted: &NamedMatch) -> String {
    let text = match &wanted.text {
        TextMatch::Exact(text) => format!("exact: {text:?}"),
        TextMatch::Prefix(text) => format!("prefix: {text:?}"),
        TextMatch::Suffix(text) => format!("suffix: {text:?}"),
        TextMatch::Contains(text) => format!("contains: {text:?}"),
        TextMatch::Regex(regex) => format!("regex: '{}'", regex.as_str()),
        TextMatch::Present => "present: true".to_owned(),
    };
    let invert = if wanted.invert { ", invert: true" } else { "" };
    format!("{{ name: {name:?}, {text}{invert} }}")
}
