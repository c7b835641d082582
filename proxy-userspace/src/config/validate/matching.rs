//! What a request must be like to match a route.

use super::{Checks, Place, elements, text};
use crate::{
    config::{raw, suggest::shown},
    model::l7::{GrpcMatch, HostMatch, NamedMatch, PathMatch, PathOptions, RouteMatch, TextMatch},
};
use http::{HeaderName, Method};

pub(super) fn read(
    typed: &raw::RouteMatch,
    place: &Place<'_>,
    options: &PathOptions,
    checks: &mut Checks<'_>,
) -> RouteMatch {
    let path = path(typed, place, options, checks);
    let grpc = typed.grpc.as_ref();
    let grpc = grpc.and_then(|typed| grpc_of(typed, &place.key("grpc"), path.is_some(), checks));
    RouteMatch {
        hosts: hosts(typed, place, checks),
        path,
        methods: methods(typed, place, checks),
        headers: headers(typed.headers.as_ref(), place.key("headers"), checks),
        query: query(typed.query.as_ref(), place.key("query"), checks),
        grpc,
    }
}

fn hosts(typed: &raw::RouteMatch, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<HostMatch> {
    let keys = [("host", typed.host.is_some()), ("hosts", typed.hosts.is_some())];
    checks.at_most_one(place, &keys);
    let one = typed.host.iter().map(|host| (place.key("host"), host));
    let several = elements(typed.hosts.as_ref(), place.key("hosts"));
    one.chain(several)
        .filter_map(|(place, typed)| checks.parsed(&place, text::host_pattern(&typed.0)))
        .collect()
}

fn path(
    typed: &raw::RouteMatch,
    place: &Place<'_>,
    options: &PathOptions,
    checks: &mut Checks<'_>,
) -> Option<PathMatch> {
    let keys = [
        ("path", typed.path.is_some()),
        ("path_prefix", typed.path_prefix.is_some()),
        ("path_segment_prefix", typed.path_segment_prefix.is_some()),
        ("path_regex", typed.path_regex.is_some()),
    ];
    checks.at_most_one(place, &keys);
    let mut canonical = |key: &str, typed: &Option<raw::PathText>| {
        let typed = typed.as_ref()?;
        let path = checks.parsed(&place.key(key), text::matched_path(&typed.0, options))?;
        Some(path.to_owned())
    };
    if let Some(path) = canonical("path", &typed.path) {
        return Some(PathMatch::Exact(path.into()));
    }
    if let Some(prefix) = canonical("path_prefix", &typed.path_prefix) {
        return Some(PathMatch::Prefix(prefix.into()));
    }
    if let Some(prefix) = canonical("path_segment_prefix", &typed.path_segment_prefix) {
        return Some(PathMatch::SegmentPrefix(prefix.trim_end_matches('/').into()));
    }
    let regex = typed.path_regex.as_ref()?;
    let place = place.key("path_regex");
    if !regex.0.is_empty() && !regex.0.starts_with(['/', '^', '.', '(', '[', '\\']) {
        let problem = format!("{} matches no path, as each starts with /", shown(&regex.0));
        let remedy = "the whole path must match: write it from the first /, with `.*` for a rest";
        checks.error(&place, problem, remedy);
        return None;
    }
    checks.parsed(&place, text::regex(&regex.0)).map(PathMatch::Regex)
}

fn methods(typed: &raw::RouteMatch, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<Method> {
    let keys = [
        ("method", typed.method.is_some()),
        ("methods", typed.methods.is_some()),
    ];
    checks.at_most_one(place, &keys);
    let one = typed.method.iter().map(|method| (place.key("method"), method));
    let several = elements(typed.methods.as_ref(), place.key("methods"));
    one.chain(several)
        .filter_map(|(place, typed)| checks.parsed(&place, text::method(&typed.0)))
        .collect()
}

fn headers(
    typed: Option<&raw::List<raw::TextMatch>>,
    place: Place<'_>,
    checks: &mut Checks<'_>,
) -> Vec<(HeaderName, NamedMatch)> {
    let mut headers = Vec::new();
    for (place, typed) in elements(typed, place) {
        let name = typed.name.as_ref();
        let name = name.and_then(|name| checks.parsed(&place.key("name"), text::header_name(&name.0)));
        let comparison = comparison(typed, &place, checks);
        headers.extend(name.zip(comparison));
    }
    headers
}

fn query(
    typed: Option<&raw::List<raw::TextMatch>>,
    place: Place<'_>,
    checks: &mut Checks<'_>,
) -> Vec<(String, NamedMatch)> {
    let mut query = Vec::new();
    for (place, typed) in elements(typed, place) {
        if let Some(name) = typed.name.as_ref().filter(|name| name.0.is_empty()) {
            let problem = format!("{} can't be a parameter's name", shown(&name.0));
            checks.error(&place.key("name"), problem, "write the name before the =");
        }
        let comparison = comparison(typed, &place, checks);
        query.extend(typed.name.as_ref().map(|name| name.0.clone()).zip(comparison));
    }
    query
}

fn comparison(typed: &raw::TextMatch, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<NamedMatch> {
    let keys = [
        ("exact", typed.exact.is_some()),
        ("prefix", typed.prefix.is_some()),
        ("suffix", typed.suffix.is_some()),
        ("contains", typed.contains.is_some()),
        ("regex", typed.regex.is_some()),
        ("present", typed.present.is_some()),
    ];
    checks.exactly_one(
        place,
        &keys,
        "add `exact: VALUE`, or `present: true` for any value",
    );
    if typed.present == Some(false) {
        let problem = "`present: false` is not how absence is said";
        checks.error(
            &place.key("present"),
            problem,
            "write `present: true` and `invert: true`",
        );
    }
    let kinds = [
        ("exact", &typed.exact),
        ("prefix", &typed.prefix),
        ("suffix", &typed.suffix),
        ("contains", &typed.contains),
    ];
    for (key, value) in kinds {
        let empty = value.as_ref().is_some_and(|value| value.0.is_empty());
        if empty && key != "exact" {
            let problem = format!("an empty {key} is in every value");
            checks.error(&place.key(key), problem, "write `present: true` instead");
        }
    }
    let boxed = |text: &Option<raw::Text>| text.as_ref().map(|text| Box::from(text.0.as_str()));
    let text = boxed(&typed.exact)
        .map(TextMatch::Exact)
        .or_else(|| boxed(&typed.prefix).map(TextMatch::Prefix))
        .or_else(|| boxed(&typed.suffix).map(TextMatch::Suffix))
        .or_else(|| boxed(&typed.contains).map(TextMatch::Contains));
    let text = match (text, &typed.regex) {
        (Some(text), _) => Some(text),
        (None, Some(regex)) => checks
            .parsed(&place.key("regex"), text::regex(&regex.0))
            .map(TextMatch::Regex),
        (None, None) => Some(TextMatch::Present),
    };
    Some(NamedMatch {
        text: text?,
        invert: typed.invert.unwrap_or(false),
    })
}

fn grpc_of(
    typed: &raw::GrpcMatch,
    place: &Place<'_>,
    path_too: bool,
    checks: &mut Checks<'_>,
) -> Option<GrpcMatch> {
    if path_too {
        let problem = "`grpc` beside a path: its path is /SERVICE/METHOD already";
        checks.error(place, problem, "keep one of the two");
    }
    let mut part = |key: &str, typed: &Option<raw::Text>| {
        let typed = typed.as_ref()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if typed.0.is_empty() || !typed.0.chars().all(fits) {
            let problem = format!("{} is not a name in gRPC", shown(&typed.0));
            let remedy = "write `service: package.Service` and `method: Method`, without slashes";
            checks.error(&place.key(key), problem, remedy);
        }
        Some(Box::from(typed.0.as_str()))
    };
    Some(GrpcMatch {
        service: part("service", &typed.service),
        method: part("method", &typed.method),
    })
}
