//! What spans say.

use super::{CLIENT, Collector, LIMIT, PARENT, ROUTES, SERVER, TRACE, has, of_kind, one, proxy};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::{
    l7::{Site, python},
    lab::{Finished, until},
};
#[test]
fn client_daemon_and_backend_are_one_trace() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let backend = site.port();
    let clusters = format!("  - {{ name: otel, endpoints: [\"{backend}\"] }}");
    let route = "      - { name: api, cluster: otel }";
    let proxy = proxy(&collector.section(), "", route, &clusters)?;
    let mut command = python(site, "otel_chain.py")?;
    command.args([backend.port().to_string(), proxy.address.to_string()]);
    let seen: Value = serde_json::from_str(&Finished::run(&mut command, "")?.success()?)?;
    let (client, behind) = (&seen["client"], &seen["backend"]);
    ensure!(seen["status"] == 200 && behind["sampled"] == true, "{seen}");
    ensure!(behind["state"] == "rojo=1", "{seen}");

    let id = client["trace"].as_str().context("a trace")?;
    let spans = collector.trace(id, 2)?;
    let (server, out) = (one(&spans, SERVER)?, one(&spans, CLIENT)?);
    ensure!(server["parent"] == client["span"], "{server:#} {seen}");
    ensure!(out["parent"] == server["span"], "{spans:#?}");
    ensure!(
        behind["parent"] == out["span"] && behind["trace"] == id,
        "{out:#} {seen}"
    );

    ensure!(server["name"] == "GET api" && out["name"] == "GET", "{spans:#?}");
    ensure!(
        server["state"] == "rojo=1" && server["status"] == "STATUS_CODE_UNSET",
        "{server:#}"
    );
    has(
        server,
        &[
            ("http.request.method", "GET".into()),
            // The query is nobody's business.
            ("url.path", "/path/in/detail".into()),
            ("url.query", Value::Null),
            ("url.scheme", "http".into()),
            ("server.address", "127.0.0.1".into()),
            ("server.port", proxy.address.port().into()),
            ("client.address", "127.0.0.1".into()),
            ("network.protocol.version", "1.1".into()),
            ("http.response.status_code", 200.into()),
            ("weir.listener", "web".into()),
            ("weir.route", "api".into()),
            ("error.type", Value::Null),
        ],
    )?;
    has(
        out,
        &[
            ("server.address", "127.0.0.1".into()),
            ("server.port", backend.port().into()),
            ("weir.cluster", "otel".into()),
            ("http.request.resend_count", Value::Null),
            ("http.response.status_code", 200.into()),
        ],
    )?;
    let time = |span: &Value, field: &str| span[field].as_u64().unwrap_or_default();
    ensure!(
        time(server, "start") <= time(out, "start")
            && time(out, "start") < time(out, "end")
            && time(out, "end") <= time(server, "end"),
        "{spans:#?}"
    );
    ensure!(
        server["resource"]["service.name"] == "weir" && server["scope"] == "weir",
        "{server:#}"
    );
    Ok(())
}

/// Path, more for curl, status, the span's name, the protocol's version, `error.type`, and how many tries.
type Case = (
    &'static str,
    &'static str,
    u16,
    &'static str,
    &'static str,
    Option<&'static str>,
    usize,
);

const CASES: [Case; 8] = [
    ("/echo", "--http1.1", 200, "GET routes[3]", "1.1", None, 1),
    (
        "/echo",
        "--http2-prior-knowledge",
        200,
        "GET routes[3]",
        "2",
        None,
        1,
    ),
    (
        "/echo",
        "--http1.1 --header host:h2.test",
        200,
        "GET h2",
        "1.1",
        None,
        1,
    ),
    ("/teapot", "--http1.1", 418, "GET teapot", "1.1", None, 0),
    (
        "/down",
        "--http2-prior-knowledge",
        503,
        "GET routes[2]",
        "2",
        Some("connect"),
        1,
    ),
    ("/status/404", "--http1.1", 404, "GET routes[3]", "1.1", None, 1),
    (
        "/status/500",
        "--http1.1",
        500,
        "GET routes[3]",
        "1.1",
        Some("500"),
        1,
    ),
    (
        "/echo",
        "--http1.1 --request PURGE",
        200,
        "HTTP routes[3]",
        "1.1",
        None,
        1,
    ),
];

#[test]
fn every_version_of_http_and_what_is_an_error() -> Result<()> {
    let collector = Collector::start()?;
    let routes = "      - { name: teapot, match: { path: /teapot }, respond: { status: 418 } }
      - { name: h2, match: { host: h2.test }, cluster: h2c }
      - { match: { path: /down }, cluster: down }
      - { cluster: backend }";
    let down = format!("  - {{ name: down, endpoints: [\"{}\"] }}", Site::shared().port());
    let proxy = proxy(&collector.section(), "", routes, &down)?;
    for (number, (path, version, status, name, protocol, error, tries)) in CASES.into_iter().enumerate() {
        let id = format!("{:032x}", number + 1);
        let parent = format!("traceparent: 00-{id}-{PARENT}-01");
        let answer = proxy.curl(path).with(version).header(&parent).answer()?;
        answer.expect(status)?;
        let spans = collector.trace(&id, 1 + tries)?;
        let server = one(&spans, SERVER)?;
        ensure!(server["name"] == name, "{name}: {server:#}");
        let is_error = error.is_some();
        ensure!(
            (server["status"] == "STATUS_CODE_ERROR") == is_error,
            "{server:#}"
        );
        let wanted = [
            ("network.protocol.version", protocol.into()),
            ("http.response.status_code", status.into()),
            ("error.type", error.map_or(Value::Null, Value::from)),
        ];
        has(server, &wanted)?;
        for out in of_kind(&spans, CLIENT) {
            // Towards an endpoint a 4xx is an error too.
            ensure!(
                (out["status"] == "STATUS_CODE_ERROR") == (status >= 400),
                "{out:#}"
            );
        }
    }
    Ok(())
}

#[test]
fn each_try_has_a_span_of_its_own() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let dead = site.port();
    let clusters = format!(
        "  - {{ name: half, endpoints: [\"{dead}\", \"{}\"] }}",
        site.backend().h1
    );
    let proxy = proxy(&collector.section(), "", "      - { cluster: half }", &clusters)?;
    // Of two requests one goes to the dead endpoint first.
    for number in 1..=2 {
        let parent = format!("traceparent: 00-{number:032x}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    }
    let find = || {
        let spans = collector.spans().ok()?;
        let again = spans
            .iter()
            .find(|span| span["attributes"]["http.request.resend_count"] == 1)?;
        Some(again["trace"].as_str()?.to_owned())
    };
    let id = until("a second try", LIMIT, find)?;
    let spans = collector.trace(&id, 3)?;
    let server = one(&spans, SERVER)?;
    let tries = of_kind(&spans, CLIENT);
    ensure!(
        tries.iter().all(|span| span["parent"] == server["span"]),
        "{spans:#?}"
    );
    let first = tries
        .iter()
        .find(|span| span["attributes"]["server.port"] == dead.port());
    let first = first.context("a span of the dead endpoint")?;
    has(
        first,
        &[
            ("error.type", "connect".into()),
            ("http.response.status_code", Value::Null),
        ],
    )?;
    ensure!(first["status"] == "STATUS_CODE_ERROR", "{first:#}");
    ensure!(tries[0]["span"] != tries[1]["span"], "{spans:#?}");
    ensure!(server["status"] == "STATUS_CODE_UNSET", "{server:#}");
    Ok(())
}

#[test]
fn grpc_has_its_own_words() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let grpc = format!(
        "  - {{ name: grpc, protocol: h2, endpoints: [\"{}\"] }}",
        site.grpc().address
    );
    let proxy = proxy(
        &collector.section(),
        "",
        "      - { name: calls, cluster: grpc }",
        &grpc,
    )?;
    let mut command = python(site, "grpc_client.py")?;
    Finished::run(command.arg("unary").arg(proxy.address.to_string()), "")?.success()?;
    let find = || {
        let spans = collector.spans().ok()?;
        let server = spans
            .iter()
            .find(|span| span["attributes"]["rpc.grpc.status_code"] == 0);
        Some(server?.clone())
    };
    let span = until("a span of a call", LIMIT, find)?;
    has(
        &span,
        &[
            ("rpc.system", "grpc".into()),
            ("rpc.service", "weir.test.Echo".into()),
            ("rpc.method", "Unary".into()),
        ],
    )?;
    Ok(())
}

#[test]
fn a_tunnel_is_over_with_its_101() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let websocket = format!(
        "  - {{ name: ws, endpoints: [\"{}\"] }}",
        site.websocket().address
    );
    let proxy = proxy(
        &collector.section(),
        "",
        "      - { name: ws, cluster: ws }",
        &websocket,
    )?;
    let mut raw = proxy.raw()?;
    raw.send(format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n\r\n"
    ));
    raw.answer()?.expect(101)?;
    // The tunnel is still open.
    let spans = collector.trace(TRACE, 2)?;
    has(one(&spans, SERVER)?, &[("http.response.status_code", 101.into())])
}

#[test]
fn log_and_trace_share_an_id() -> Result<()> {
    let collector = Collector::start()?;
    let listener = "access_log: { path: /dev/stdout, format: json }";
    let proxy = proxy(&collector.section(), listener, ROUTES, "")?;
    for flags in ["00", "01"] {
        let parent = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    }
    let member = format!("\"trace_id\":\"{TRACE}\"");
    let both = || (proxy.weir.output().matches(&member).count() == 2).then_some(());
    until("two lines with the trace's id", LIMIT, both)
}
