//! Routes by example, each asked of the compiled form and of the plain matcher; random ones are in the package `tests`.

use super::*;
use crate::model::l7::{
    Action, GrpcMatch, HeaderOps, HostMatch, NamedMatch, PathMatch, Place, Regex, Respond, Rewrite,
    RouteMatch, RouteTimeouts, TextMatch,
};
use http::{HeaderName, HeaderValue, StatusCode};
use std::path::Path;

fn route(matches: RouteMatch) -> Route {
    Route {
        name: None,
        place: Place {
            file: Path::new("weir.yaml").into(),
            line: 1,
        },
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

fn host(text: &str) -> HostMatch {
    match text.strip_prefix('*') {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact(text.into()),
    }
}

/// Hosts separated by spaces; `=/a` is exact, `/a` a prefix, `/a/?` a segment prefix, `~/a` an expression.
fn at(hosts: &str, path: &str) -> RouteMatch {
    let path = if path.is_empty() {
        None
    } else if let Some(text) = path.strip_prefix('=') {
        Some(PathMatch::Exact(text.into()))
    } else if let Some(text) = path.strip_prefix('~') {
        Some(PathMatch::Regex(Regex::new(text).unwrap()))
    } else if let Some(text) = path.strip_suffix("/?") {
        Some(PathMatch::SegmentPrefix(text.into()))
    } else {
        Some(PathMatch::Prefix(path.into()))
    };
    RouteMatch {
        hosts: hosts.split_whitespace().map(host).collect(),
        path,
        ..RouteMatch::default()
    }
}

fn named(text: TextMatch, invert: bool) -> NamedMatch {
    NamedMatch { text, invert }
}

fn router(matches: Vec<RouteMatch>) -> Router {
    Router::compile(matches.into_iter().map(route).collect())
}

/// What both matchers say, which is the same.
fn ask(router: &Router, facts: &Facts<'_>) -> Option<usize> {
    let found = router.find(facts).map(|(at, _)| at);
    assert_eq!(found, linear::find(router.routes(), facts), "{facts:?}");
    found
}

fn get(router: &Router, host: &str, path: &str) -> Option<usize> {
    ask_with(router, host, path, &Method::GET, None, &HeaderMap::new())
}

fn ask_with(
    router: &Router,
    host: &str,
    path: &str,
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<usize> {
    let facts = Facts {
        host,
        path,
        query,
        method,
        headers,
    };
    ask(router, &facts)
}

fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    headers
}

#[test]
fn hosts_and_paths() {
    let router = router(vec![
        at("www.example.com", "=/"),
        at("*.example.com", "/api/"),
        at("www.example.com example.com", "/api/v1"),
        at("*.com", "/files/?"),
        at("www.example.com", "~/v[0-9]+/.*"),
        at("", "=/health"),
        at("www.example.com", ""),
    ]);
    for (host, path, expected) in [
        ("www.example.com", "/", Some(0)),
        ("www.example.com", "/api/v1", Some(1)),
        ("example.com", "/api/v1/x", Some(2)),
        ("example.com", "/api/x", None),
        ("a.b.example.com", "/api/x", Some(1)),
        ("example.com", "/files", Some(3)),
        ("example.com", "/files/x", Some(3)),
        ("example.com", "/filesx", None),
        ("com", "/files", None),
        ("www.example.com", "/v12/x", Some(4)),
        ("www.example.com", "/v12", Some(6)),
        ("www.example.com", "/x", Some(6)),
        ("other.net", "/health", Some(5)),
        ("www.example.com", "/health", Some(5)),
        ("", "/health", Some(5)),
        ("", "/x", None),
        ("www.example.com", "*", Some(6)),
        ("other.net", "*", None),
    ] {
        assert_eq!(get(&router, host, path), expected, "{host} {path}");
    }
}

#[test]
fn the_first_in_order_wins_whatever_is_more_specific() {
    let router = router(vec![
        at("*.example", "/a/?"),
        at("www.example", "=/a/b"),
        at("", "/"),
        at("www.example", "/a/b/c"),
    ]);
    assert_eq!(get(&router, "www.example", "/a/b"), Some(0));
    assert_eq!(get(&router, "example", "/a/b/c"), Some(2));
    assert_eq!(get(&router, "www.example", "/ab"), Some(2));
}

#[test]
fn no_routes_match_nothing() {
    assert_eq!(get(&router(vec![]), "a.example", "/"), None);
    assert_eq!(get(&router(vec![at("a.example", "")]), "b.example", "/"), None);
}

#[test]
fn the_root_as_a_segment_prefix_takes_every_path() {
    let router = router(vec![at("", "/?")]);
    assert_eq!(get(&router, "", "/"), Some(0));
    assert_eq!(get(&router, "", "/a/b"), Some(0));
    assert_eq!(get(&router, "", "*"), None);
}

#[test]
fn methods_and_headers() {
    let absent = RouteMatch {
        headers: vec![(
            HeaderName::from_static("x-a"),
            named(TextMatch::Exact("no".into()), true),
        )],
        methods: vec![Method::POST],
        ..at("", "")
    };
    let prefix = RouteMatch {
        headers: vec![
            (
                HeaderName::from_static("x-a"),
                named(TextMatch::Prefix("v".into()), false),
            ),
            (
                HeaderName::from_static("x-b"),
                named(TextMatch::Contains("b".into()), false),
            ),
        ],
        ..at("", "")
    };
    let regex = RouteMatch {
        headers: vec![(
            HeaderName::from_static("x-a"),
            named(TextMatch::Regex(Regex::new("[0-9]+").unwrap()), false),
        )],
        ..at("", "")
    };
    let router = router(vec![absent, prefix, regex]);
    let (get, post) = (Method::GET, Method::POST);
    for (method, pairs, expected) in [
        (&post, &[][..], Some(0)),
        (&get, &[], None),
        (&post, &[("x-a", &b"yes"[..])], Some(0)),
        (&post, &[("x-a", b"yes"), ("x-a", b"no")], None),
        (&get, &[("x-a", b"no"), ("x-a", b"v1"), ("x-b", b"abc")], Some(1)),
        (&get, &[("x-a", b"v1"), ("x-b", b"c")], None),
        (&get, &[("x-a", b"\xff"), ("x-a", b"12")], Some(2)),
        (&get, &[("x-a", b"12x")], None),
    ] {
        let headers = headers(pairs);
        assert_eq!(
            ask_with(&router, "", "/", method, None, &headers),
            expected,
            "{pairs:?}"
        );
    }
}

#[test]
fn query_parameters() {
    let with = |name: &str, text, invert| RouteMatch {
        query: vec![(name.into(), named(text, invert))],
        ..at("", "")
    };
    let router = router(vec![
        with("q", TextMatch::Exact("a b".into()), false),
        with("ü", TextMatch::Present, false),
        with("n", TextMatch::Regex(Regex::new("[0-9]+").unwrap()), false),
        with("z", TextMatch::Suffix("".into()), true),
    ]);
    for (query, expected) in [
        (Some("q=a%20b"), Some(0)),
        (Some("q=a+b&z"), None),
        (Some("x=1&q=x&q=a%20b&z="), None),
        (Some("%71=a%20b"), Some(0)),
        (Some("%C3%BC"), Some(1)),
        (Some("n=1%32"), Some(2)),
        (Some("n=%ff&z"), None),
        (Some("&&z=%&"), None),
        (Some(""), Some(3)),
        (None, Some(3)),
    ] {
        let found = ask_with(&router, "", "/", &Method::GET, query, &HeaderMap::new());
        assert_eq!(found, expected, "{query:?}");
    }
}

#[test]
fn grpc_calls() {
    let call = |service: Option<&str>, method: Option<&str>| RouteMatch {
        grpc: Some(GrpcMatch {
            service: service.map(Into::into),
            method: method.map(Into::into),
        }),
        ..at("", "")
    };
    let router = router(vec![
        call(Some("a.B"), Some("C")),
        call(Some("a.B"), None),
        call(None, Some("D")),
        call(None, None),
    ]);
    for (path, content_type, expected) in [
        ("/a.B/C", &b"application/grpc"[..], Some(0)),
        ("/a.B/D", b"application/grpc+proto", Some(1)),
        ("/a.BB/D", b"Application/gRPC;x=y", Some(2)),
        ("/x/y", b"application/grpc-web", Some(3)),
        ("/a.B/C/x", b"application/grpc", None),
        ("/a.B/", b"application/grpc", None),
        ("//C", b"application/grpc", None),
        ("/a.B", b"application/grpc", None),
        ("/a.B/C", b"application/grpcx", None),
        ("/a.B/C", b"application/json", None),
    ] {
        let headers = headers(&[("content-type", content_type)]);
        let found = ask_with(&router, "", path, &Method::POST, None, &headers);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn many_routes_of_one_host_and_path() {
    let methods = ["GET", "PUT", "A", "B", "C"];
    let mut matches = Vec::new();
    for method in methods {
        for number in 0..20 {
            matches.push(RouteMatch {
                methods: vec![method.parse().unwrap()],
                ..at("a.example", &format!("=/p{}", number % 10))
            });
        }
    }
    let router = router(matches);
    assert_eq!(get(&router, "a.example", "/p3"), Some(3));
    let found = ask_with(
        &router,
        "a.example",
        "/p7",
        &"C".parse().unwrap(),
        None,
        &HeaderMap::new(),
    );
    assert_eq!(found, Some(87));
}

/// Also that no recursion is as deep as the nesting.
#[test]
fn nested_prefixes() {
    let deepest = 2_000;
    let matches = (0..deepest).map(|depth| at("", &format!("/{}", "a".repeat(deepest - depth))));
    let router = router(matches.collect());
    assert_eq!(get(&router, "", &format!("/{}", "a".repeat(3_000))), Some(0));
    assert_eq!(get(&router, "", "/aaa"), Some(deepest - 3));
    assert_eq!(get(&router, "", "/b"), None);
}

#[test]
fn long_hosts_with_many_labels() {
    let long = format!(".{}example", "x.".repeat(200));
    let router = router(vec![at(&format!("*{long}"), ""), at("*.example", "")]);
    assert_eq!(
        get(&router, &format!("{}example", "y.".repeat(8_000)), "/"),
        Some(1)
    );
    assert_eq!(get(&router, &format!("y{long}"), "/"), Some(0));
    assert_eq!(get(&router, &long[1..], "/"), Some(1));
}

#[test]
fn expressions_of_any_shape_are_found() {
    let router = router(vec![
        at("", "~(?i)/ABC"),
        at("", "~/x|/y"),
        at("", "~.*\\.png"),
        at("", "~^/d/?$"),
        at("", "~/e{0,2}"),
    ]);
    for (path, expected) in [
        ("/abc", Some(0)),
        ("/x", Some(1)),
        ("/y", Some(1)),
        ("/z.png", Some(2)),
        ("/d/", Some(3)),
        ("/d", Some(3)),
        ("/", Some(4)),
        ("/ee", Some(4)),
        ("/eee", None),
    ] {
        assert_eq!(get(&router, "", path), expected, "{path}");
    }
}

#[test]
fn a_hundred_thousand_routes() {
    let one_host: Vec<RouteMatch> = (0..100_000)
        .map(|number| at("a.example", &format!("=/p{number}")))
        .collect();
    let many_hosts: Vec<RouteMatch> = (0..100_000)
        .map(|number| at(&format!("h{number}.example"), "/x"))
        .collect();
    let (one_host, many_hosts) = (router(one_host), router(many_hosts));
    for number in [0, 1, 54_321, 99_999] {
        assert_eq!(get(&one_host, "a.example", &format!("/p{number}")), Some(number));
        assert_eq!(
            get(&many_hosts, &format!("h{number}.example"), "/xy"),
            Some(number)
        );
    }
    assert_eq!(get(&one_host, "a.example", "/p100000"), None);
    // Stated in docs/routing.md: what 100,000 routes take besides themselves.
    for router in [one_host, many_hosts] {
        assert!(router.memory_bytes() < 16 << 20, "{}", router.memory_bytes());
    }
}
