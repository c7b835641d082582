//! Routes: matches, actions, and what they must agree on.

use super::{Checks, Place, action, matching};
use crate::{
    config::{again::Part, limits, raw, suggest::shown},
    model::l7::{
        Action, HostMatch, PathMatch, PathOptions, Place as ModelPlace, Route, RouteMatch, RouteTimeouts,
    },
};
use std::{collections::HashMap, time::Duration};

/// Clusters that a listener names, with the places where it does.
pub(super) type Uses<'a> = Vec<(Place<'a>, &'a str)>;

/// The routes of a listener, in order.
pub(super) fn read<'a>(
    list: &'a raw::List<raw::Route>,
    place: &Place<'a>,
    options: &PathOptions,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> Vec<Route> {
    let before = place.document.left_out.part(&place.path);
    if before.is_some_and(|before| before.options != *options) {
        checks.error(
            place,
            "paths are read by other rules than before",
            "read it whole",
        );
    }
    let mut names: HashMap<&str, Place<'_>> = HashMap::new();
    let mut routes = Vec::with_capacity(list.len() + before.map_or(0, Part::count));
    for (index, typed) in list.iter().enumerate() {
        let place = place.index(index);
        for (route, line) in before
            .into_iter()
            .flat_map(|before| before.before(index, list.len()))
        {
            routes.push(taken(route, line, &place, &mut names, uses, checks));
        }
        let Some(typed) = typed else { continue };
        if let Some(name) = &typed.name {
            checks.unique_name("route", &place.key("name"), &name.0, &mut names);
        }
        if let Some(route) = route(typed, &place, options, uses, checks) {
            routes.push(route);
        }
    }
    let all = list.len() + before.map_or(0, Part::count);
    // Positions agree only where every route could be read.
    if routes.len() == all {
        shadowed(place, &routes, checks);
    }
    routes
}

/// A route as it was read before; at another line, perhaps.
fn taken<'a>(
    route: &'a Route,
    line: u32,
    place: &Place<'a>,
    names: &mut HashMap<&'a str, Place<'a>>,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> Route {
    if let Some(name) = &route.name {
        checks.unique_name("route", place, name, names);
    }
    if let Action::Forward(clusters) = &route.action {
        uses.extend(
            clusters
                .iter()
                .map(|weighted| (place.clone(), &*weighted.cluster.0)),
        );
    }
    let mut route = route.clone();
    route.place.line = line;
    route
}

fn route<'a>(
    typed: &'a raw::Route,
    place: &Place<'a>,
    options: &PathOptions,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> Option<Route> {
    let matches = match &typed.r#match {
        Some(typed) => matching::read(typed, &place.key("match"), options, checks),
        None => RouteMatch::default(),
    };
    let prefix_matched = matches!(
        matches.path,
        Some(PathMatch::Prefix(_) | PathMatch::SegmentPrefix(_))
    );
    let action = action::read(typed, place, prefix_matched, uses, checks);
    let forwards = typed.cluster.is_some() || typed.clusters.is_some();
    if !forwards && (typed.redirect.is_some() || typed.respond.is_some()) {
        let for_forwarded = [
            ("rewrite", typed.rewrite.is_some()),
            ("request_headers", typed.request_headers.is_some()),
            ("timeouts", typed.timeouts.is_some()),
        ];
        for (key, _) in for_forwarded.into_iter().filter(|(_, typed)| *typed) {
            let problem = format!("{key} means nothing to a route that forwards nothing");
            checks.error(&place.key(key), problem, "remove it, or name a `cluster`");
        }
    }
    let rewrite = typed.rewrite.as_ref();
    let request_headers = typed.request_headers.as_ref();
    let response_headers = typed.response_headers.as_ref();
    Some(Route {
        name: typed.name.as_ref().map(|name| name.0.as_str().into()),
        place: checks.model_place(place),
        rewrite: rewrite
            .map(|typed| action::rewrite(typed, &place.key("rewrite"), prefix_matched, checks))
            .unwrap_or_default(),
        request_headers: request_headers
            .map(|typed| action::header_ops(typed, &place.key("request_headers"), true, checks))
            .unwrap_or_default(),
        response_headers: response_headers
            .map(|typed| action::header_ops(typed, &place.key("response_headers"), false, checks))
            .unwrap_or_default(),
        timeouts: typed
            .timeouts
            .as_ref()
            .map(|typed| timeouts(typed, &place.key("timeouts"), checks))
            .unwrap_or_default(),
        matches,
        action: action?,
    })
}

fn timeouts(typed: &raw::RouteTimeouts, place: &Place<'_>, checks: &mut Checks<'_>) -> RouteTimeouts {
    let bounds = Duration::ZERO..=limits::MAX_WAIT;
    let mut time = |key: &str, typed: Option<&raw::Duration>| {
        let typed = typed?;
        Some(checks.duration(&place.key(key), Some(typed), &bounds, Duration::ZERO))
    };
    RouteTimeouts {
        request: time("request", typed.request.as_ref()),
        idle: time("idle", typed.idle.as_ref()),
        per_try: time("per_try", typed.per_try.as_ref()),
    }
}

/// Routes behind one that takes everything are never reached.
fn shadowed(place: &Place<'_>, routes: &[Route], checks: &mut Checks<'_>) {
    let everything = RouteMatch::default();
    let takes_all = |route: &Route| {
        route.matches == everything
            || (matches!(&route.matches.path, Some(PathMatch::Prefix(prefix)) if &**prefix == "/")
                && RouteMatch {
                    path: None,
                    ..route.matches.clone()
                } == everything)
            || (matches!(&route.matches.path, Some(PathMatch::SegmentPrefix(prefix)) if prefix.is_empty())
                && RouteMatch {
                    path: None,
                    ..route.matches.clone()
                } == everything)
    };
    let Some(first) = routes.iter().position(takes_all) else {
        return;
    };
    let Some(next) = routes.get(first + 1) else { return };
    let (first_place, next_place) = (place.index(first), place.index(first + 1));
    let pointer = checks.pointer(&next_place, &first_place);
    let whose = next
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!(" {}", shown(name)));
    let more = match routes.len() - first - 2 {
        0 => String::new(),
        more => format!(", nor the {more} behind it"),
    };
    let problem = format!("the route{whose} is never reached{more}: the one {pointer} takes every request");
    checks.warning(&next_place, problem, "move that one to the end");
}

impl Checks<'_> {
    /// A place as the model keeps it.
    pub(super) fn model_place(&self, place: &Place<'_>) -> ModelPlace {
        ModelPlace {
            file: self.paths[place.document.file].clone(),
            line: place.line(),
        }
    }
}

/// Hosts of all routes, for a certificate that is made.
pub(super) fn hosts(routes: &[Route]) -> Vec<HostMatch> {
    routes
        .iter()
        .flat_map(|route| route.matches.hosts.iter().cloned())
        .collect()
}
