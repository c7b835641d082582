//! What is done with a request that a route takes: forwarded, redirected, answered; and what is changed in it.

use super::{Checks, Place, elements, routes::Uses, text};
use crate::{
    config::{error::Mistake, limits, path::clipped, raw, suggest::shown},
    model::{
        ClusterName,
        l7::{Action, HeaderOps, PathRewrite, Redirect, Respond, Rewrite, WeightedCluster},
    },
};
use http::StatusCode;
use std::{collections::HashMap, sync::Arc};

/// The one action of a route. `prefix_matched` is whether it matches a prefix that could be replaced.
pub(super) fn read<'a>(
    typed: &'a raw::Route,
    place: &Place<'a>,
    prefix_matched: bool,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> Option<Action> {
    let keys = [
        ("cluster", typed.cluster.is_some()),
        ("clusters", typed.clusters.is_some()),
        ("redirect", typed.redirect.is_some()),
        ("respond", typed.respond.is_some()),
    ];
    checks.exactly_one(place, &keys, "add `cluster: NAME`, `redirect` or `respond`");
    let mut action = None;
    if let Some(name) = &typed.cluster {
        uses.push((place.key("cluster"), &name.0));
        action = Some(Action::Forward(vec![WeightedCluster {
            cluster: ClusterName(Arc::from(name.0.as_str())),
            weight: 1,
        }]));
    }
    if let Some(list) = &typed.clusters {
        action = Some(Action::Forward(weighted(
            list,
            &place.key("clusters"),
            uses,
            checks,
        )));
    }
    if let Some(typed) = &typed.redirect {
        let redirect = redirect(typed, &place.key("redirect"), prefix_matched, checks);
        action = redirect.map(Action::Redirect);
    }
    if let Some(typed) = &typed.respond {
        action = respond(typed, &place.key("respond"), checks).map(Action::Respond);
    }
    action
}

fn weighted<'a>(
    list: &'a raw::List<raw::WeightedCluster>,
    place: &Place<'a>,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> Vec<WeightedCluster> {
    let mut clusters = Vec::new();
    let mut first: HashMap<&str, Place<'_>> = HashMap::new();
    for (place, typed) in elements(Some(list), place.clone()) {
        let Some(name) = &typed.cluster else { continue };
        let name_place = place.key("cluster");
        if let Some(other) = first.get(name.0.as_str()) {
            let pointer = checks.pointer(&name_place, other);
            let problem = format!("{} stands here already, {pointer}", shown(&name.0));
            checks.error(&name_place, problem, "list it once, with the sum of both weights");
        }
        first.insert(&name.0, name_place.clone());
        uses.push((name_place, &name.0));
        clusters.push(WeightedCluster {
            cluster: ClusterName(Arc::from(name.0.as_str())),
            weight: typed.weight.unwrap_or(1),
        });
    }
    let usable = clusters.len() == list.len();
    if usable && clusters.iter().all(|cluster| cluster.weight == 0) {
        let problem = "every weight is 0, so no cluster gets a request";
        checks.error(place, problem, "give one a weight of 1 or more");
    }
    clusters
}

fn redirect(
    typed: &raw::Redirect,
    place: &Place<'_>,
    prefix_matched: bool,
    checks: &mut Checks<'_>,
) -> Option<Redirect> {
    let paths = [("path", typed.path.is_some()), ("prefix", typed.prefix.is_some())];
    checks.at_most_one(place, &paths);
    let elsewhere = typed.scheme.is_some()
        || typed.host.is_some()
        || typed.port.is_some()
        || typed.path.is_some()
        || typed.prefix.is_some();
    if !elsewhere && !checks.blames_any(place, &["scheme", "host", "port", "path", "prefix"]) {
        let problem = "a redirect to where the client is already";
        checks.error(
            place,
            problem,
            "add `scheme: https`, a `host`, a `port` or a `path`",
        );
    }
    let host_place = place.key("host");
    let host = typed.host.as_ref();
    let host = host.and_then(|host| checks.parsed(&host_place, redirect_host(&host.0)));
    let path = full_path(typed.path.as_ref(), &place.key("path"), checks);
    let prefix = prefix(
        typed.prefix.as_ref(),
        &place.key("prefix"),
        prefix_matched,
        checks,
    );
    let status = typed.status.unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let problem = format!("{status} is not the status of a redirect");
        checks.error(&place.key("status"), problem, "write 301, 302, 303, 307 or 308");
    }
    Some(Redirect {
        scheme: typed.scheme.map(|scheme| match scheme {
            raw::Scheme::Http => "http".into(),
            raw::Scheme::Https => "https".into(),
        }),
        host: host.map(Box::from),
        port: typed.port,
        path: path.or(prefix),
        strip_query: typed.strip_query.unwrap_or(false),
        status: StatusCode::from_u16(status).ok()?,
    })
}

/// A host; its port has a key of its own.
fn redirect_host(typed: &str) -> Result<String, Mistake> {
    if let Some((host, port)) = typed.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && text::host_name(host).is_ok()
    {
        return Err(Mistake::new(
            format!("{} has a port, which has a key of its own", shown(typed)),
            format!("write `host: {}` and `port: {port}`", clipped(host)),
        ));
    }
    text::host_name(typed)
}

fn full_path(
    typed: Option<&raw::PathText>,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<PathRewrite> {
    let path = checks.parsed(place, text::url_path(&typed?.0))?;
    Some(PathRewrite::Full(path.into()))
}

fn prefix(
    typed: Option<&raw::PathText>,
    place: &Place<'_>,
    prefix_matched: bool,
    checks: &mut Checks<'_>,
) -> Option<PathRewrite> {
    let typed = typed?;
    if !prefix_matched {
        let problem = "the route matches no prefix that this could replace";
        let remedy = "match by `path_prefix` or `path_segment_prefix`, or write `path` here";
        checks.error(place, problem, remedy);
    }
    let path = checks.parsed(place, text::url_path(&typed.0))?;
    Some(PathRewrite::Prefix(path.into()))
}

fn respond(typed: &raw::Respond, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<Respond> {
    let status = StatusCode::from_u16(typed.status?).ok()?;
    let body = typed.body.as_ref().map_or("", |body| body.0.as_str());
    let body_place = place.key("body");
    if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
        let problem = format!("a response with status {} has no body", status.as_u16());
        checks.error(&body_place, problem, "remove the body, or write `status: 200`");
    }
    if body.len() > limits::MAX_RESPOND_BYTES {
        let problem = format!(
            "the body has {} bytes, more than {}",
            body.len(),
            limits::MAX_RESPOND_BYTES
        );
        checks.error(&body_place, problem, "serve it from a cluster");
    }
    Some(Respond {
        status,
        body: body.into(),
    })
}

/// Changes to host and path of forwarded requests.
pub(super) fn rewrite(
    typed: &raw::Rewrite,
    place: &Place<'_>,
    prefix_matched: bool,
    checks: &mut Checks<'_>,
) -> Rewrite {
    let paths = [
        ("path", typed.path.is_some()),
        ("prefix", typed.prefix.is_some()),
        ("regex", typed.regex.is_some()),
    ];
    checks.at_most_one(place, &paths);
    let host_place = place.key("host");
    let host = typed.host.as_ref();
    let host = host.and_then(|host| checks.parsed(&host_place, text::authority(&host.0)));
    let full = full_path(typed.path.as_ref(), &place.key("path"), checks);
    let prefix = prefix(
        typed.prefix.as_ref(),
        &place.key("prefix"),
        prefix_matched,
        checks,
    );
    let regex = typed
        .regex
        .as_ref()
        .and_then(|typed| by_regex(typed, &place.key("regex"), checks));
    Rewrite {
        host,
        path: full.or(prefix).or(regex),
    }
}

fn by_regex(typed: &raw::RegexRewrite, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<PathRewrite> {
    let (pattern, substitution) = (typed.pattern.as_ref()?, typed.substitution.as_ref()?);
    let regex = checks.parsed(&place.key("pattern"), text::regex(&pattern.0))?;
    let substitution_place = place.key("substitution");
    checks.parsed(
        &substitution_place,
        text::substitution(&substitution.0, &pattern.0),
    )?;
    if !substitution.0.starts_with(['/', '$']) {
        let problem = format!(
            "{} makes a path that does not start with /",
            shown(&substitution.0)
        );
        checks.error(
            &substitution_place,
            problem,
            format!("write \"/{}\"", substitution.0),
        );
    }
    Some(PathRewrite::Regex(regex, substitution.0.as_str().into()))
}

/// Changes to headers. `of_request` is false for those of a response.
pub(super) fn header_ops(
    typed: &raw::HeaderOps,
    place: &Place<'_>,
    of_request: bool,
    checks: &mut Checks<'_>,
) -> HeaderOps {
    let mut ops = HeaderOps::default();
    for (key, texts, into) in [
        ("set", &typed.set, &mut ops.set),
        ("add", &typed.add, &mut ops.add),
    ] {
        let place = place.key(key);
        for (name, value) in texts.iter().flat_map(raw::Texts::iter) {
            let place = place.key(name);
            let parsed_name = checks.parsed(&place, text::changed_header(name, of_request));
            let parsed_value = checks.parsed(&place, text::header_value(value));
            into.extend(parsed_name.zip(parsed_value));
        }
    }
    for (place, name) in elements(typed.remove.as_ref(), place.key("remove")) {
        ops.remove
            .extend(checks.parsed(&place, text::changed_header(&name.0, of_request)));
    }
    ops
}
