//! How requests are spread over a cluster's endpoints, and how these are spoken to.

use super::{Checks, Place, elements, text, tls};
use crate::{
    config::{limits, raw, suggest::shown},
    model::l7::{
        Hashing, L7Settings, Policy, PoolSettings, ProxyHeader, Secret, Sticky, UpstreamProtocol,
        UpstreamTimeouts,
    },
};
use std::{sync::Arc, time::Duration};

pub(super) fn settings(typed: &raw::Cluster, place: &Place<'_>, checks: &mut Checks<'_>) -> L7Settings {
    let tls = typed.tls.as_ref();
    L7Settings {
        policy: policy(typed.policy),
        hash: hash(typed, place, checks),
        protocol: match typed.protocol {
            None | Some(raw::UpstreamProtocol::Auto) => UpstreamProtocol::Auto,
            Some(raw::UpstreamProtocol::Http1) => UpstreamProtocol::Http1,
            Some(raw::UpstreamProtocol::H2) => UpstreamProtocol::Http2,
        },
        tls: tls
            .and_then(|typed| tls::upstream(typed, &place.key("tls"), checks))
            .map(Arc::new),
        sticky: typed
            .sticky
            .as_ref()
            .and_then(|typed| sticky(typed, &place.key("sticky"), checks))
            .map(Arc::new),
        pool: typed.pool.as_ref().map_or_else(PoolSettings::default, |typed| {
            pool(typed, &place.key("pool"), checks)
        }),
        timeouts: timeouts(typed.timeouts.as_ref(), &place.key("timeouts"), checks),
        proxy_protocol: typed.proxy_protocol.map(|version| match version {
            raw::ProxyVersion::V1 => ProxyHeader::V1,
            raw::ProxyVersion::V2 => ProxyHeader::V2,
        }),
    }
}

/// The keys that mean something to L7 only, and that were typed.
pub(super) fn typed_keys(typed: &raw::Cluster) -> Vec<&'static str> {
    let keys = [
        ("policy", typed.policy.is_some()),
        ("hash", typed.hash.is_some()),
        ("protocol", typed.protocol.is_some()),
        ("tls", typed.tls.is_some()),
        ("sticky", typed.sticky.is_some()),
        ("pool", typed.pool.is_some()),
        ("timeouts", typed.timeouts.is_some()),
        ("proxy_protocol", typed.proxy_protocol.is_some()),
    ];
    keys.into_iter()
        .filter_map(|(key, typed)| typed.then_some(key))
        .collect()
}

fn policy(typed: Option<raw::Policy>) -> Policy {
    match typed {
        None | Some(raw::Policy::RoundRobin) => Policy::RoundRobin,
        Some(raw::Policy::LeastRequest) => Policy::LeastRequest,
        Some(raw::Policy::Random) => Policy::Random,
        Some(raw::Policy::RingHash) => Policy::RingHash,
        Some(raw::Policy::Maglev) => Policy::Maglev,
        Some(raw::Policy::PeakEwma) => Policy::PeakEwma,
    }
}

fn hash(typed: &raw::Cluster, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<Hashing> {
    let by_hash = matches!(typed.policy, Some(raw::Policy::RingHash | raw::Policy::Maglev));
    let Some(list) = &typed.hash else {
        if by_hash && !checks.blames_any(place, &["hash"]) {
            let problem = "a policy by hash, and nothing to hash: endpoints are chosen by chance";
            checks.warning(
                &place.key("policy"),
                problem,
                "add `hash: [source]`, or another part of the request",
            );
        }
        return Vec::new();
    };
    if !by_hash && !checks.blames_any(place, &["policy"]) {
        let problem = "hash means nothing to this policy";
        checks.warning(
            &place.key("hash"),
            problem,
            "write `policy: maglev` or `policy: ring_hash`, or remove it",
        );
    }
    let mut hash = Vec::new();
    for (place, typed) in elements(Some(list), place.key("hash")) {
        let raw::Hashed::Part(part) = typed else {
            hash.push(Hashing::Source);
            continue;
        };
        let keys = [
            ("header", part.header.is_some()),
            ("cookie", part.cookie.is_some()),
            ("query", part.query.is_some()),
        ];
        checks.exactly_one(
            &place,
            &keys,
            "write `header: x-user`, `cookie: NAME` or `query: NAME`",
        );
        if let Some(name) = &part.header {
            let name = checks.parsed(&place.key("header"), text::header_name(&name.0));
            hash.extend(name.map(Hashing::Header));
        } else if let Some(name) = &part.cookie {
            let name = checks.parsed(&place.key("cookie"), text::token(&name.0));
            hash.extend(name.map(|name| Hashing::Cookie(name.into())));
        } else if let Some(name) = &part.query {
            hash.push(Hashing::Query(name.0.as_str().into()));
        }
    }
    hash
}

fn sticky(typed: &raw::Sticky, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<Sticky> {
    let cookie = typed.cookie.as_ref();
    let cookie = cookie.and_then(|name| checks.parsed(&place.key("cookie"), text::token(&name.0)));
    let path_place = place.key("path");
    let path = typed.path.as_ref();
    let path = path.and_then(|path| checks.parsed(&path_place, text::url_path(&path.0)));
    if path.is_some_and(|path| path.contains(';')) {
        let problem = "a cookie's path can't hold a semicolon";
        checks.error(&path_place, problem, "write it without");
    }
    let bounds = Duration::from_secs(1)..=limits::MAX_COOKIE_AGE;
    let max_age = typed
        .max_age
        .as_ref()
        .map(|age| checks.duration(&place.key("max_age"), Some(age), &bounds, limits::MAX_COOKIE_AGE));
    let secret_place = place.key("secret");
    let secret = typed.secret.as_ref().and_then(|typed| {
        let file = checks.file(&secret_place, typed)?;
        if file.bytes.len() < limits::MIN_SECRET_BYTES {
            let problem = format!(
                "{} has {} bytes, fewer than {}",
                shown(&typed.0),
                file.bytes.len(),
                limits::MIN_SECRET_BYTES
            );
            checks.error(&secret_place, problem, "make one: openssl rand -out FILE 32");
        }
        Some(Secret(file))
    });
    Some(Sticky {
        cookie: cookie?.into(),
        max_age,
        path: path.unwrap_or("/").into(),
        secret,
    })
}

fn pool(typed: &raw::Pool, place: &Place<'_>, checks: &mut Checks<'_>) -> PoolSettings {
    let default = PoolSettings::default();
    let bounds = Duration::ZERO..=limits::MAX_WAIT;
    let mut time = |key: &str, typed: Option<&raw::Duration>, default| {
        checks.duration(&place.key(key), typed, &bounds, default)
    };
    PoolSettings {
        max_idle: typed.max_idle.unwrap_or(default.max_idle),
        max_connections: typed.max_connections.unwrap_or(default.max_connections),
        max_pending: typed.max_pending.unwrap_or(default.max_pending),
        max_streams: typed.max_streams.unwrap_or(default.max_streams),
        idle_timeout: time("idle_timeout", typed.idle_timeout.as_ref(), default.idle_timeout),
        max_age: time("max_age", typed.max_age.as_ref(), default.max_age),
    }
}

fn timeouts(
    typed: Option<&raw::UpstreamTimeouts>,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> UpstreamTimeouts {
    let default = UpstreamTimeouts::default();
    let connect = typed.and_then(|typed| typed.connect.as_ref());
    UpstreamTimeouts {
        connect: checks.duration(
            &place.key("connect"),
            connect,
            &(limits::MIN_HANDSHAKE..=limits::MAX_HANDSHAKE),
            default.connect,
        ),
    }
}
