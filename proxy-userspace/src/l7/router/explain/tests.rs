//! Explanations of requests to a small listener.

use super::*;
use crate::{
    l7::router::canonical_host,
    model::{
        ClusterName,
        l7::{
            GrpcMatch, HeaderOps, HostMatch, ListenerKind, NamedMatch, PathMatch, PathRewrite, Place,
            Redirect, Respond, Rewrite, RouteMatch, RouteTimeouts, TextMatch, WeightedCluster,
        },
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::{path::Path, sync::Arc};

fn place(line: u32) -> Place {
    Place {
        file: Path::new("weir.yaml").into(),
        line,
    }
}

fn route(line: u32, matches: RouteMatch, action: Action) -> Route {
    Route {
        name: None,
        place: place(line),
        matches,
        action,
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeouts: RouteTimeouts::default(),
    }
}

fn respond() -> Action {
    Action::Respond(Respond {
        status: StatusCode::OK,
        body: "ok\n".into(),
    })
}

fn header(text: TextMatch, invert: bool) -> RouteMatch {
    RouteMatch {
        headers: vec![(HeaderName::from_static("x-a"), NamedMatch { text, invert })],
        ..RouteMatch::default()
    }
}

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path: Some(path),
        ..RouteMatch::default()
    }
}

fn listener(routes: Vec<Route>) -> (Listener, HttpSettings, Router) {
    let settings = HttpSettings::default();
    let routes: Arc<[Route]> = routes.into();
    let listener = Listener {
        name: "web".into(),
        place: place(2),
        addresses: Vec::new(),
        proxy_protocol: false,
        tls: None,
        max_connections: 1,
        kind: ListenerKind::Http {
            settings: Arc::new(settings.clone()),
            routes: Arc::clone(&routes),
            access_log: None,
        },
    };
    (listener, settings, Router::compile(routes))
}

/// Of `GET http://a.example:8080/x/y?q=1` with a header `x-a: 1`.
fn ask(routes: Vec<Route>) -> Explanation {
    let (listener, settings, router) = listener(routes);
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("1"));
    let facts = Facts {
        host: &canonical_host("A.example:8080").unwrap(),
        path: "/x/y",
        query: Some("q=1"),
        method: &Method::GET,
        headers: &headers,
    };
    explain(&listener, &settings, &router, &facts, Some(8080))
}

#[test]
fn reasons_name_what_is_and_what_was_asked() {
    let hosts = |names: &[&str]| RouteMatch {
        hosts: names
            .iter()
            .map(|name| HostMatch::Exact((*name).into()))
            .collect(),
        ..RouteMatch::default()
    };
    let suffix = RouteMatch {
        hosts: vec![HostMatch::Suffix(".a.example".into())],
        ..RouteMatch::default()
    };
    for (matches, reason) in [
        (hosts(&["b.example"]), "host a.example is not b.example"),
        (suffix, "host a.example is not *.a.example"),
        (hosts(&["b", "c"]), "host a.example is none of b, c"),
        (
            hosts(&["b", "c", "d", "e", "f"]),
            "host a.example is none of b, c, d, 2 more",
        ),
        (path(PathMatch::Exact("/x".into())), "path /x/y is not /x"),
        (
            path(PathMatch::Prefix("/xy".into())),
            "path /x/y does not begin with /xy",
        ),
        (
            path(PathMatch::SegmentPrefix("/api".into())),
            "path /x/y is not under /api",
        ),
    ] {
        assert_reason(matches, reason);
    }
}

#[test]
fn reasons_name_other_conditions_too() {
    let exact = |text: &str| TextMatch::Exact(text.into());
    let query = |name: &str, text| RouteMatch {
        query: vec![(name.into(), NamedMatch { text, invert: false })],
        ..RouteMatch::default()
    };
    let methods = |methods: &[Method]| RouteMatch {
        methods: methods.to_vec(),
        ..RouteMatch::default()
    };
    let grpc = RouteMatch {
        grpc: Some(GrpcMatch {
            service: Some("a.B".into()),
            method: None,
        }),
        ..RouteMatch::default()
    };
    for (matches, reason) in [
        (methods(&[Method::POST]), "method GET is not POST"),
        (
            methods(&[Method::POST, Method::PUT]),
            "method GET is none of POST, PUT",
        ),
        (
            header(exact("2"), false),
            "header x-a is \"1\", which is not \"2\"",
        ),
        (
            header(exact("1"), true),
            "header x-a is \"1\"; the route asks that it is not \"1\"",
        ),
        (
            header(TextMatch::Present, true),
            "header x-a is \"1\"; the route asks that it is absent",
        ),
        (
            query("z", exact("1")),
            "query parameter z is absent; the route asks that it is \"1\"",
        ),
        (
            query("q", TextMatch::Contains("2".into())),
            "query parameter q is \"1\", which does not contain \"2\"",
        ),
        (grpc, "no gRPC call: the content-type is not application/grpc"),
    ] {
        assert_reason(matches, reason);
    }
}

/// The one route's reason for not matching.
fn assert_reason(matches: RouteMatch, reason: &str) {
    let explanation = ask(vec![route(7, matches, respond())]);
    assert_eq!(explanation.route, None);
    let [passed] = &explanation.passed[..] else {
        panic!("{explanation:?}");
    };
    assert_eq!(passed.reason, reason);
    assert_eq!(passed.route.place, "weir.yaml:7");
}

#[test]
fn what_the_winner_does() {
    let redirect = Action::Redirect(Redirect {
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: None,
        strip_query: false,
        status: StatusCode::MOVED_PERMANENTLY,
    });
    let forward = Action::Forward(vec![WeightedCluster {
        cluster: ClusterName("api".into()),
        weight: 1,
    }]);
    let rewritten = |with: &str| Route {
        rewrite: Rewrite {
            host: Some("b.example".into()),
            path: Some(PathRewrite::Prefix(with.into())),
        },
        ..route(3, path(PathMatch::Prefix("/x".into())), forward.clone())
    };
    for (route, expected) in [
        (
            route(3, RouteMatch::default(), respond()),
            Outcome::Respond {
                status: 200,
                body_bytes: 3,
            },
        ),
        (
            route(3, RouteMatch::default(), redirect),
            Outcome::Redirect {
                status: 301,
                location: "https://a.example/x/y?q=1".into(),
            },
        ),
        (
            rewritten("/z"),
            Outcome::Forward {
                clusters: vec![("api".into(), 1)],
                host: "b.example".into(),
                path: "/z/y".into(),
            },
        ),
        (
            rewritten("/.."),
            Outcome::Refuse {
                status: 400,
                reason: "the rewritten path has a dot segment".into(),
            },
        ),
    ] {
        let winner = ask(vec![route]).route.unwrap();
        assert_eq!((winner.route.number, winner.action), (1, expected));
    }
}

#[test]
fn of_many_routes_the_nearest_are_told_in_order() {
    let other_host = |line| {
        let matches = RouteMatch {
            hosts: vec![HostMatch::Exact("b.example".into())],
            ..RouteMatch::default()
        };
        route(line, matches, respond())
    };
    let mut routes: Vec<Route> = (1..=50).map(other_host).collect();
    routes[4] = route(5, header(TextMatch::Exact("2".into()), false), respond());
    routes[9] = route(10, path(PathMatch::Exact("/".into())), respond());
    routes.push(route(51, RouteMatch::default(), respond()));
    routes.push(other_host(52));
    let explanation = ask(routes);
    let winner = explanation.route.unwrap();
    assert_eq!(
        (winner.route.number, winner.conditions),
        (51, Vec::<String>::new())
    );
    let numbers: Vec<usize> = explanation
        .passed
        .iter()
        .map(|passed| passed.route.number)
        .collect();
    assert_eq!(numbers, [&[5, 10][..], &Vec::from_iter(33..=50)].concat());
    assert_eq!((explanation.passed_besides, explanation.routes), (30, 52));
}
