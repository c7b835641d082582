//! How an HTTP listener speaks: limits, timeouts, paths, headers about the connection.

use super::{Checks, Place, elements, text};
use crate::{
    config::{limits, raw},
    model::l7::{
        EncodedSlashes, ForwardedSettings, HttpLimits, HttpSettings, HttpTimeouts, PathOptions, ServerHeader,
    },
};
use std::time::Duration;

pub(super) fn settings(typed: &raw::Listener, place: &Place<'_>, checks: &mut Checks<'_>) -> HttpSettings {
    let via_place = place.key("via");
    HttpSettings {
        limits: typed.limits.as_ref().map_or_else(HttpLimits::default, limits_of),
        timeouts: timeouts(typed.timeouts.as_ref(), &place.key("timeouts"), checks),
        path: path_options(typed.path.as_ref()),
        forwarded: typed
            .forwarded
            .as_ref()
            .map_or_else(ForwardedSettings::default, forwarded),
        upgrades: upgrades(typed, &place.key("upgrades"), checks),
        grpc_web: typed.grpc_web.unwrap_or(false),
        via: typed
            .via
            .as_ref()
            .and_then(|via| checks.parsed(&via_place, text::token(&via.0)))
            .map(Box::from),
        server_header: server_header(typed.server_header.as_ref(), &place.key("server_header"), checks),
        connect: typed.connect.unwrap_or(false),
    }
}

fn limits_of(typed: &raw::HttpLimits) -> HttpLimits {
    let default = HttpLimits::default();
    HttpLimits {
        header_bytes: typed.header_bytes.unwrap_or(default.header_bytes),
        header_count: typed.header_count.unwrap_or(default.header_count),
        uri_bytes: typed.uri_bytes.unwrap_or(default.uri_bytes),
        concurrent_streams: typed.concurrent_streams.unwrap_or(default.concurrent_streams),
        body_bytes: typed.body_bytes.or(default.body_bytes),
    }
}

fn timeouts(typed: Option<&raw::HttpTimeouts>, place: &Place<'_>, checks: &mut Checks<'_>) -> HttpTimeouts {
    let default = HttpTimeouts::default();
    let Some(typed) = typed else { return default };
    let bounds = Duration::ZERO..=limits::MAX_WAIT;
    let mut time = |key: &str, typed: Option<&raw::Duration>, default| {
        checks.duration(&place.key(key), typed, &bounds, default)
    };
    HttpTimeouts {
        header_read: time("header_read", typed.header_read.as_ref(), default.header_read),
        request: time("request", typed.request.as_ref(), default.request),
        idle_stream: time("idle_stream", typed.idle_stream.as_ref(), default.idle_stream),
        idle_connection: time(
            "idle_connection",
            typed.idle_connection.as_ref(),
            default.idle_connection,
        ),
        per_try: time("per_try", typed.per_try.as_ref(), default.per_try),
    }
}

/// How paths are made canonical.
pub(super) fn path_options(typed: Option<&raw::PathOptions>) -> PathOptions {
    let default = PathOptions::default();
    let Some(typed) = typed else { return default };
    PathOptions {
        resolve_dot_segments: typed.resolve_dot_segments.unwrap_or(default.resolve_dot_segments),
        merge_slashes: typed.merge_slashes.unwrap_or(default.merge_slashes),
        encoded_slashes: match typed.encoded_slashes {
            None => default.encoded_slashes,
            Some(raw::EncodedSlashes::Reject) => EncodedSlashes::Reject,
            Some(raw::EncodedSlashes::Keep) => EncodedSlashes::Keep,
            Some(raw::EncodedSlashes::Decode) => EncodedSlashes::Decode,
        },
    }
}

fn forwarded(typed: &raw::Forwarded) -> ForwardedSettings {
    let default = ForwardedSettings::default();
    ForwardedSettings {
        trusted_hops: typed.trusted_hops.unwrap_or(default.trusted_hops),
        x_forwarded: typed.x_forwarded.unwrap_or(default.x_forwarded),
        forwarded: typed.forwarded.unwrap_or(default.forwarded),
        request_id: typed.request_id.unwrap_or(default.request_id),
        client_certificate: typed.client_certificate.unwrap_or(default.client_certificate),
    }
}

fn upgrades(typed: &raw::Listener, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<Box<str>> {
    let Some(list) = &typed.upgrades else {
        return vec!["websocket".into()];
    };
    let mut upgrades: Vec<Box<str>> = Vec::new();
    for (place, typed) in elements(Some(list), place.clone()) {
        let Some(protocol) = checks.parsed(&place, text::token(&typed.0)) else {
            continue;
        };
        let protocol = protocol.to_ascii_lowercase();
        if matches!(protocol.as_str(), "h2c" | "h2") {
            let problem = format!("an upgrade to {protocol} is not tunnelled: it would pass by all routes");
            checks.error(
                &place,
                problem,
                "remove it; HTTP/2 without TLS is spoken with prior knowledge",
            );
        }
        upgrades.push(protocol.into());
    }
    upgrades
}

fn server_header(
    typed: Option<&raw::ServerHeader>,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> ServerHeader {
    match typed {
        None | Some(raw::ServerHeader::Word(raw::ServerHeaderWord::Keep)) => ServerHeader::Keep,
        Some(raw::ServerHeader::Word(raw::ServerHeaderWord::Remove)) => ServerHeader::Remove,
        Some(raw::ServerHeader::Set(typed)) => {
            let value = typed.set.as_ref();
            let value =
                value.and_then(|value| checks.parsed(&place.key("set"), text::header_value(&value.0)));
            value.map_or(ServerHeader::Keep, ServerHeader::Set)
        }
    }
}
