//! Random tables of routes and random requests, from alphabets so small that they meet.

use crate::model::random::Random;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use std::{path::Path, sync::LazyLock};
use weir::{
    l7::router::Facts,
    model::l7::{
        Action, GrpcMatch, HeaderOps, HostMatch, NamedMatch, PathMatch, Place, Regex, Respond, Rewrite,
        Route, RouteMatch, RouteTimeouts, TextMatch,
    },
};

const LABELS: [&str; 4] = ["a", "b", "c", "aa"];
const SEGMENTS: [&str; 8] = ["a", "b", "ab", "aba", "v1", "", "%2B", "a.B"];
const HEADERS: [&str; 3] = ["x-a", "x-b", "content-type"];
const VALUES: [&str; 8] = ["", "1", "2", "12", "21", "a b", "application/grpc", "ü"];
const PARAMETERS: [&str; 4] = ["q", "r", "q r", "ü"];
const QUERIES: [&str; 16] = [
    "q=1",
    "q=12",
    "q",
    "q=",
    "%71=2",
    "r=%31",
    "r=%ff",
    "q=%",
    "q=%2",
    "q+r=1",
    "q%20r=12",
    "%C3%BC=a%20b",
    "=1",
    "",
    "r=1=2",
    "q=a+b",
];
const TYPES: [&str; 5] = [
    "application/grpc",
    "application/grpc+proto",
    "Application/GRPC;x=1",
    "application/grpcs",
    "text/plain",
];

static EXPRESSIONS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let texts = [
        "/a",
        "/a/.*",
        "/(a|b)/.*",
        "/a.?",
        ".*/b",
        "/v[0-9]/?",
        "/ab?/.*",
        "(?i)/A/.*",
        "/a*",
        "/[ab]+(/.*)?",
        "^/b$|/a/b",
        "/a{0,1}/b|/c",
        "/aba/(?:a|ab)",
        "()",
        "(?x) / a b",
        "\\Q/a",
        "/\\x61/.",
    ];
    // What is no expression for the crate is none for a config either.
    texts.iter().filter_map(|text| Regex::new(text).ok()).collect()
});

static TEXT_EXPRESSIONS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let texts = ["1", "[0-9]+", ".*", "", "a.b|2", "ü"];
    texts.iter().filter_map(|text| Regex::new(text).ok()).collect()
});

/// A request, owned.
#[derive(Clone, Debug)]
pub struct Request {
    /// Canonical.
    pub host: String,
    /// Canonical.
    pub path: String,
    /// As it came.
    pub query: Option<String>,
    /// The method.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
}

impl Request {
    /// As routers ask for it.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }
}

/// A table of 1 to 200 routes, small ones more often.
pub fn routes(random: &mut Random) -> Vec<Route> {
    let most = *random.pick(&[4, 12, 40, 200]);
    let count = 1 + random.below(most);
    // Tables differ in how seldom their routes have hosts, paths and further conditions.
    let hostless = 1 + random.below(12);
    let pathless = 2 + random.below(40);
    let conditions = 1 + random.below(8);
    let mut routes = Vec::with_capacity(count);
    for line in 0..count {
        let mut matches = RouteMatch::default();
        if !random.once_in(hostless) {
            for _ in 0..=random.below(2) {
                matches.hosts.push(host_match(random));
            }
        }
        if !random.once_in(pathless) {
            matches.path = Some(path_match(random));
        }
        for _ in 0..2 {
            if random.once_in(conditions) {
                condition(random, &mut matches);
            }
        }
        routes.push(route(matches, line));
    }
    routes
}

/// A request that has something to do with these routes, or nothing.
pub fn request(random: &mut Random, routes: &[Route]) -> Request {
    let mut headers = HeaderMap::new();
    for _ in 0..random.below(4) {
        let name = HeaderName::from_static(HEADERS[random.below(2)]);
        headers.append(name, value(random));
    }
    if random.once_in(2) {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(TYPES[random.below(TYPES.len())]),
        );
    }
    let query = (!random.once_in(3)).then(|| {
        let pieces: Vec<&str> = (0..random.below(4)).map(|_| *random.pick(&QUERIES)).collect();
        pieces.join("&")
    });
    // Mostly near one route, or few would match.
    let near = &random.pick(routes).matches;
    Request {
        host: request_host(random, near),
        path: request_path(random, near),
        query,
        method: method(random),
        headers,
    }
}

fn route(matches: RouteMatch, line: usize) -> Route {
    static PLACE: LazyLock<Place> = LazyLock::new(|| Place {
        file: Path::new("random.yaml").into(),
        line: 1,
    });
    Route {
        name: Some(line.to_string().into()),
        place: PLACE.clone(),
        matches,
        action: Action::Respond(Respond {
            status: StatusCode::OK,
            body: "".into(),
        }),
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeouts: RouteTimeouts::default(),
    }
}

fn host_match(random: &mut Random) -> HostMatch {
    let name = host(random, 1);
    if random.once_in(3) {
        HostMatch::Suffix(format!(".{name}").into())
    } else {
        HostMatch::Exact(name.into())
    }
}

fn host(random: &mut Random, least: usize) -> String {
    let labels: Vec<&str> = (0..least + random.below(4 - least))
        .map(|_| *random.pick(&LABELS[..2 + least]))
        .collect();
    labels.join(".")
}

fn path(random: &mut Random) -> String {
    let mut path = String::new();
    for _ in 0..=random.below(3) {
        path.push('/');
        path += *random.pick(&SEGMENTS);
    }
    path
}

fn path_match(random: &mut Random) -> PathMatch {
    let mut text = path(random);
    match random.below(8) {
        0..3 => PathMatch::Exact(text.into()),
        3 | 4 => {
            text.truncate(1 + random.below(text.len()));
            PathMatch::Prefix(text.into())
        }
        5 | 6 => PathMatch::SegmentPrefix(text.trim_end_matches('/').into()),
        _ => PathMatch::Regex(random.pick(&EXPRESSIONS).clone()),
    }
}

fn condition(random: &mut Random, matches: &mut RouteMatch) {
    match random.below(4) {
        0 => matches.methods.push(method(random)),
        1 => {
            let name = HeaderName::from_static(HEADERS[random.below(HEADERS.len())]);
            matches.headers.push((name, named(random)));
        }
        2 => {
            let name = (*random.pick(&PARAMETERS)).to_owned();
            matches.query.push((name, named(random)));
        }
        _ => {
            let mut name = || {
                let name = *random.pick(&SEGMENTS);
                let is_one = !name.is_empty() && random.once_in(2);
                is_one.then(|| name.into())
            };
            matches.grpc = Some(GrpcMatch {
                service: name(),
                method: name(),
            });
        }
    }
}

fn named(random: &mut Random) -> NamedMatch {
    let text = Box::<str>::from(*random.pick(&VALUES));
    NamedMatch {
        text: match random.below(6) {
            0 => TextMatch::Exact(text),
            1 => TextMatch::Prefix(text),
            2 => TextMatch::Suffix(text),
            3 => TextMatch::Contains(text),
            4 => TextMatch::Regex(random.pick(&TEXT_EXPRESSIONS).clone()),
            _ => TextMatch::Present,
        },
        invert: random.once_in(4),
    }
}

fn method(random: &mut Random) -> Method {
    random.pick(&[Method::GET, Method::POST, Method::PUT]).clone()
}

fn value(random: &mut Random) -> HeaderValue {
    let value = if random.once_in(16) {
        b"\xff"
    } else {
        random.pick(&VALUES).as_bytes()
    };
    HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static("1"))
}

fn request_host(random: &mut Random, near: &RouteMatch) -> String {
    if near.hosts.is_empty() || random.once_in(3) {
        return host(random, 0);
    }
    match random.pick(&near.hosts) {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("{}{suffix}", random.pick(&["a", "b", "b.a", "x"])),
    }
}

fn request_path(random: &mut Random, near: &RouteMatch) -> String {
    if random.once_in(64) {
        return "*".to_owned();
    }
    let Some(PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::SegmentPrefix(text)) = &near.path
    else {
        return path(random);
    };
    if random.once_in(4) {
        return path(random);
    }
    let behind = random.pick(&["", "", "/", "a", "/a", "/b/ab"]);
    let path = format!("{text}{behind}");
    if path.is_empty() { "/".to_owned() } else { path }
}
