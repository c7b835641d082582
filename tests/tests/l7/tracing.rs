//! Tracing: what endpoints are told, and the spans that a collector gets, by OpenTelemetry's own messages and propagator.

use super::support::{Proxy, config};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fmt::Write,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use weir_tests::{
    l7::{Curl, Site, Weir, python},
    lab::{Finished, Process, until},
};

/// More than an export takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const SERVER: &str = "SPAN_KIND_SERVER";
const CLIENT: &str = "SPAN_KIND_CLIENT";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// tests/data/l7/otlp_collector.py.
struct Collector {
    http: SocketAddr,
    grpc: SocketAddr,
    scheme: &'static str,
    _process: Process,
}

impl Collector {
    fn start() -> Result<Self> {
        Self::start_on(Site::shared().port(), false)
    }

    fn start_on(http: SocketAddr, tls: bool) -> Result<Self> {
        let site = Site::shared();
        let grpc = site.port();
        let mut command = python(site, "otlp_collector.py")?;
        command.args([http.port().to_string(), grpc.port().to_string()]);
        if tls {
            let names = ["DNS:localhost", "IP:127.0.0.1"];
            let identity = site.authority().issue("collector", "localhost", &names)?;
            command.arg(identity.cert).arg(identity.key);
        }
        let mut process = site.host().spawn(&mut command)?;
        site.wait_for(http, &mut process)?;
        Ok(Self {
            http,
            grpc,
            scheme: if tls { "https" } else { "http" },
            _process: process,
        })
    }

    /// `tracing` that samples everything for this collector.
    fn section(&self) -> String {
        section(&self.http)
    }

    fn curl(&self, path: &str) -> Curl<'static> {
        let url = format!("{}://{}{path}", self.scheme, self.http);
        Curl::new(Site::shared(), &url).with("--insecure")
    }

    fn fail(&self, how: &str) -> Result<()> {
        self.curl(&format!("/fail?{how}"))
            .with("--request POST")
            .answer()?
            .expect(200)?;
        Ok(())
    }

    fn spans(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&self.curl("/spans").answer()?.body)?)
    }

    /// The spans of a trace, once it has this many.
    fn trace(&self, id: &str, count: usize) -> Result<Vec<Value>> {
        let of_trace = || {
            let mut spans = self.spans().ok()?;
            spans.retain(|span| span["trace"] == id);
            (spans.len() >= count).then_some(spans)
        };
        let spans = until(&format!("{count} spans of {id}"), LIMIT, of_trace);
        let spans = spans.with_context(|| format!("there are {:?}", self.spans()))?;
        ensure!(spans.len() == count, "{count} spans were expected: {spans:#?}");
        Ok(spans)
    }
}

fn section(http: &SocketAddr) -> String {
    format!("tracing: {{ sampling: 1, otlp: {{ endpoint: \"http://{http}\" }} }}\n")
}

fn proxy(section: &str, listener: &str, routes: &str, clusters: &str) -> Result<Proxy> {
    Proxy::with_clusters(listener, routes, &format!("{clusters}\n{section}"))
}

const ROUTES: &str = "      - { name: everything, cluster: backend }";

fn of_kind<'a>(spans: &'a [Value], kind: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["kind"] == kind).collect()
}

fn one<'a>(spans: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = of_kind(spans, kind);
    ensure!(found.len() == 1, "one {kind} was expected: {spans:#?}");
    Ok(found[0])
}

fn has(span: &Value, wanted: &[(&str, Value)]) -> Result<()> {
    for (name, value) in wanted {
        ensure!(
            span["attributes"][name] == *value,
            "{name} is not {value}: {span:#}"
        );
    }
    Ok(())
}

/// A request with this `traceparent`: what the backend saw of it.
fn seen_parent(proxy: &Proxy, headers: &[&str]) -> Result<(Option<String>, Option<String>)> {
    let mut text = String::new();
    for header in headers {
        write!(text, "{header}\r\n")?;
    }
    let seen = proxy
        .ask(&format!("GET /echo HTTP/1.1\r\nHost: a.test\r\n{text}\r\n"))?
        .seen()?;
    let field = |name: &str| {
        let all = seen.all(name);
        (!all.is_empty()).then(|| all.join(","))
    };
    Ok((field("traceparent"), field("tracestate")))
}

fn metric(proxy: &Proxy, sample: &str) -> Result<f64> {
    let socket = proxy.weir.admin().socket().display().to_string();
    let page = Curl::new(Site::shared(), "http://weir/metrics")
        .with("--unix-socket")
        .arg(&socket)
        .answer()?;
    let page = page.text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {sample} in {page}"))?.parse()?)
}

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

#[test]
fn every_version_of_http_and_what_is_an_error() -> Result<()> {
    let collector = Collector::start()?;
    let routes = "      - { name: teapot, match: { path: /teapot }, respond: { status: 418 } }
      - { name: h2, match: { host: h2.test }, cluster: h2c }
      - { match: { path: /down }, cluster: down }
      - { cluster: backend }";
    let down = format!("  - {{ name: down, endpoints: [\"{}\"] }}", Site::shared().port());
    let proxy = proxy(&collector.section(), "", routes, &down)?;
    let cases = [
        ("/echo", "--http1.1", 200, "GET routes[3]", "1.1", Value::Null, 1),
        (
            "/echo",
            "--http2-prior-knowledge",
            200,
            "GET routes[3]",
            "2",
            Value::Null,
            1,
        ),
        (
            "/echo",
            "--http1.1 --header host:h2.test",
            200,
            "GET h2",
            "1.1",
            Value::Null,
            1,
        ),
        ("/teapot", "--http1.1", 418, "GET teapot", "1.1", Value::Null, 0),
        (
            "/down",
            "--http2-prior-knowledge",
            503,
            "GET routes[2]",
            "2",
            "connect".into(),
            1,
        ),
        (
            "/status/404",
            "--http1.1",
            404,
            "GET routes[3]",
            "1.1",
            Value::Null,
            1,
        ),
        (
            "/status/500",
            "--http1.1",
            500,
            "GET routes[3]",
            "1.1",
            "500".into(),
            1,
        ),
        (
            "/echo",
            "--http1.1 --request PURGE",
            200,
            "HTTP routes[3]",
            "1.1",
            Value::Null,
            1,
        ),
    ];
    for (number, (path, version, status, name, protocol, error, tries)) in cases.into_iter().enumerate() {
        let id = format!("{:032x}", number + 1);
        let parent = format!("traceparent: 00-{id}-{PARENT}-01");
        let answer = proxy.curl(path).with(version).header(&parent).answer()?;
        answer.expect(status)?;
        let spans = collector.trace(&id, 1 + tries)?;
        let server = one(&spans, SERVER)?;
        ensure!(server["name"] == name, "{name}: {server:#}");
        let is_error = !error.is_null();
        ensure!(
            (server["status"] == "STATUS_CODE_ERROR") == is_error,
            "{server:#}"
        );
        let wanted = [
            ("network.protocol.version", protocol.into()),
            ("http.response.status_code", status.into()),
            ("error.type", error),
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
fn what_a_client_says_is_followed_or_begun_anew() -> Result<()> {
    let collector = Collector::start()?;
    let proxy = proxy(&collector.section(), "", ROUTES, "")?;
    let state = "tracestate: rojo=00f067aa0ba902b7,congo=t61";
    // Sampled: another span's id, the same trace.
    for (version, flags) in [("00", "01"), ("00", "03"), ("cc", "01")] {
        let header = format!("traceparent: {version}-{TRACE}-{PARENT}-{flags}");
        let (parent, kept) = seen_parent(&proxy, &[&header, state])?;
        let parent = parent.context("a traceparent")?;
        ensure!(
            parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with(&format!("-{flags}")),
            "{parent}"
        );
        ensure!(
            !parent.contains(PARENT),
            "the parent is a span of the daemon: {parent}"
        );
        ensure!(
            kept.as_deref() == Some("rojo=00f067aa0ba902b7,congo=t61"),
            "{kept:?}"
        );
    }
    // Not sampled: as it came, as there is no span in between.
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    let (parent, kept) = seen_parent(&proxy, &[&format!("traceparent: {unsampled}"), state])?;
    ensure!(
        parent.as_deref() == Some(unsampled.as_str()) && kept.is_some(),
        "{parent:?} {kept:?}"
    );
    // A later version is written as the one that is known.
    let later = format!("traceparent: cc-{TRACE}-{PARENT}-00-what-the-future-will-be-like");
    let (parent, _) = seen_parent(&proxy, &[&later])?;
    ensure!(parent.as_deref() == Some(unsampled.as_str()), "{parent:?}");
    // None, or none that is valid: a new trace, without the state of the old one.
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let invalid: [&[&str]; 9] = [
        &[],
        &["traceparent: 00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"],
        &["traceparent: ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        &["traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
        &["traceparent: "],
        &[&valid, &valid],
    ];
    for headers in invalid {
        let headers = [headers, &[state]].concat();
        let (parent, kept) = seen_parent(&proxy, &headers)?;
        let parent = parent.context("a traceparent")?;
        ensure!(
            parent.len() == 55 && !parent.contains(TRACE),
            "{headers:?}: {parent}"
        );
        ensure!(parent.ends_with("-03"), "sampled, with a random id: {parent}");
        ensure!(kept.is_none(), "{headers:?}: {kept:?}");
        let spans = collector.trace(&parent[3..35], 2)?;
        ensure!(one(&spans, SERVER)?["parent"] == "", "{spans:#?}");
        ensure!(one(&spans, CLIENT)?["span"] == parent[36..52], "{spans:#?}");
    }
    // An invalid state goes, the trace stays.
    let (parent, kept) = seen_parent(&proxy, &[&valid, "tracestate: rojo=1,rojo=2"])?;
    ensure!(
        parent.context("a traceparent")?.contains(TRACE) && kept.is_none(),
        "{kept:?}"
    );
    Ok(())
}

#[test]
fn without_tracing_nothing_is_touched_and_a_reload_turns_it_on_and_elsewhere() -> Result<()> {
    let site = Site::shared();
    let (first, second) = (Collector::start()?, Collector::start()?);
    let proxy = Proxy::with_routes("", ROUTES)?;
    let odd = ["traceparent: 00-none", "tracestate: rojo=1,rojo=2"];
    let seen = seen_parent(&proxy, &odd)?;
    ensure!(
        seen == (Some("00-none".into()), Some("rojo=1,rojo=2".into())),
        "{seen:?}"
    );
    ensure!(seen_parent(&proxy, &[])? == (None, None), "no header is made");
    let connection = &mut proxy.raw()?;
    for collector in [&first, &second] {
        let answer = proxy
            .weir
            .reload(&config(site, proxy.address, "", ROUTES, &collector.section()))?;
        ensure!(
            answer["changes"] == serde_json::json!(["tracing: changed"]),
            "{answer}"
        );
        let serves_it = || {
            // The connection was there before: workers go over between two requests.
            connection.send("GET /echo HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let seen = connection.answer().ok()?.seen().ok()?;
            let id = seen.header("traceparent")?.get(3..35)?.to_owned();
            let spans = collector.spans().ok()?;
            spans.iter().any(|span| span["trace"] == id).then_some(())
        };
        let mut traced = serves_it;
        until("spans where they go now", LIMIT, &mut traced)?;
    }
    // Nothing is sampled: those without a parent get one that says so.
    let none = second.section().replace("sampling: 1", "sampling: 0");
    proxy
        .weir
        .reload(&config(site, proxy.address, "", ROUTES, &none))?;
    let unsampled = || {
        let (parent, _) = seen_parent(&proxy, &[]).ok()?;
        parent?.ends_with("-02").then_some(())
    };
    until("requests that are not sampled", LIMIT, unsampled)
}

#[test]
fn sampling_is_bounded() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let bounded = collector
        .section()
        .replace("sampling: 1", "sampling: 1, max_per_second: 5");
    let proxy = proxy(
        &bounded,
        "access_log: { path: /dev/stdout, text: \"id=%TRACE_ID%\" }",
        ROUTES,
        "",
    )?;
    let begin = Instant::now();
    let output = site.shell(&format!(
        "h2load --h1 -n 2000 -c 4 -t 1 http://{}/echo 2>&1",
        proxy.address
    ))?;
    let output = output.success()?;
    ensure!(output.contains("2000 succeeded"), "{output}");
    let most = 5 * (begin.elapsed().as_secs() + 2);
    // What was sampled before this one has been exported with it, or before.
    let last = || {
        let (parent, _) = seen_parent(&proxy, &[]).ok()?;
        let parent = parent?;
        parent.ends_with("-03").then(|| parent[3..35].to_owned())
    };
    collector.trace(&until("a request that is sampled", LIMIT, last)?, 2)?;
    let spans = collector.spans()?;
    let servers = of_kind(&spans, SERVER).len() as u64;
    let since = 5 * (begin.elapsed().as_secs() + 2);
    ensure!(
        servers >= 5 && servers <= since,
        "{servers} were sampled, at most {most} to {since} were expected"
    );
    // The log names those too that were not.
    let lines = || {
        let log = proxy.weir.output();
        let ids: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split_once("id="))
            .map(|(_, id)| id)
            .collect();
        (ids.len() >= 2_001).then(|| ids.iter().all(|id| id.len() == 32))
    };
    ensure!(
        until("lines of the access log", LIMIT, lines)?,
        "{}",
        proxy.weir.output()
    );
    Ok(())
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

#[test]
fn a_collector_that_is_away_is_no_matter_and_noticed_when_it_is_back() -> Result<()> {
    let site = Site::shared();
    let http = site.port();
    let proxy = proxy(&section(&http), "", ROUTES, "")?;
    for _ in 0..50 {
        proxy.get("/echo")?.expect(200)?;
    }
    let failures = || (metric(&proxy, "weir_trace_export_failures_total").ok()? >= 2.0).then_some(());
    until("two tries", LIMIT, failures)?;
    ensure!(
        metric(&proxy, "weir_trace_spans_exported_total")? == 0.0,
        "nobody takes them"
    );
    let said = |what: &str| proxy.weir.output().matches(what).count();
    ensure!(said("takes no spans") == 1, "once: {}", proxy.weir.output());
    let collector = Collector::start_on(http, false)?;
    // The very first ones, which waited.
    let all = || {
        let exported = metric(&proxy, "weir_trace_spans_exported_total").ok()?;
        (exported >= 100.0).then_some(())
    };
    until("spans exported", LIMIT, all)?;
    until("the log says so", LIMIT, || {
        (said("exported again; 0 were lost") == 1).then_some(())
    })?;
    ensure!(collector.spans()?.len() == 100, "50 requests, two spans each");

    // It is asked again when it wants to be, and what it refuses is lost.
    collector.fail("status=503&count=2&retry_after=1")?;
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    collector.trace(TRACE, 2)?;
    collector.fail("status=400&count=1")?;
    proxy.get("/echo")?.expect(200)?;
    let refused = "weir_trace_spans_dropped_total{reason=\"refused\"}";
    until("spans refused", LIMIT, || {
        (metric(&proxy, refused).ok()? == 2.0).then_some(())
    })?;
    ensure!(said("takes no spans") == 3, "{}", proxy.weir.output());
    Ok(())
}

#[test]
fn over_tls_and_grpc_with_headers_from_files() -> Result<()> {
    let site = Site::shared();
    let folder = site.subfolder("otlp")?;
    fs::write(folder.join("token"), "Bearer s3cret\n")?;
    let more = format!(
        "headers: {{ x-team: edge }}, header_files: {{ authorization: {} }}",
        folder.join("token").display()
    );
    let (secure, plain) = (Collector::start_on(site.port(), true)?, Collector::start()?);
    let ca = site.authority().cert.display();
    let over_https = format!(
        "endpoint: \"https://localhost:{}\", tls: {{ ca: {ca} }}",
        secure.http.port()
    );
    let over_grpc = format!("endpoint: \"http://{}\", protocol: grpc", plain.grpc);
    for (collector, endpoint) in [(&secure, over_https), (&plain, over_grpc)] {
        let section =
            format!("tracing: {{ sampling: 1, service_name: edge, otlp: {{ {endpoint}, {more} }} }}\n");
        let mut proxy = proxy(&section, "", ROUTES, "")?;
        let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
        let spans = collector.trace(TRACE, 2)?;
        ensure!(spans[0]["resource"]["service.name"] == "edge", "{spans:#?}");
        let headers: std::collections::HashMap<String, String> =
            serde_json::from_value(spans[0]["headers"].clone())?;
        let header = |name: &str| {
            let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        ensure!(header("authorization") == Some("Bearer s3cret"), "{headers:?}");
        ensure!(header("x-team") == Some("edge"), "{headers:?}");
        ensure!(
            !proxy.weir.output().contains("s3cret"),
            "a secret is shown nowhere"
        );
        proxy.weir.check()?;
    }
    Ok(())
}

#[test]
fn what_waits_is_sent_before_the_end() -> Result<()> {
    let collector = Collector::start()?;
    let mut proxy = proxy(&collector.section(), "", ROUTES, "")?;
    for number in 1..=40 {
        let parent = format!("traceparent: 00-{number:032x}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    }
    proxy.weir.signal(Signal::TERM)?;
    until("its end", LIMIT, || proxy.weir.check().is_err().then_some(()))?;
    for number in 1..=40 {
        collector.trace(&format!("{number:032x}"), 2)?;
    }
    Ok(())
}

/// Clients whose handshakes fail, by the hundred: some lines, then how many more there were.
#[test]
fn a_flood_of_one_line_is_counted() -> Result<()> {
    const CLIENTS: u32 = 300;
    let site = Site::shared();
    let address = site.port();
    let listener = "tls: { self_signed: true }\n";
    let mut weir = Weir::start(site, &config(site, address, listener, ROUTES, ""))?;
    for _ in 0..CLIENTS {
        let mut raw = weir_tests::l7::Raw::connect(site, address)?;
        // HTTP without TLS.
        raw.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        raw.answer()?.expect(400)?;
    }
    weir.signal(Signal::TERM)?;
    until("its end", LIMIT, || weir.check().is_err().then_some(()))?;
    let log = weir.output();
    let lines = log
        .lines()
        .filter(|line| line.contains("listener web: 127.0.0.1"));
    let (summaries, single): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("more like this"));
    let counted = summaries
        .iter()
        .filter_map(|line| line.split_once("… ")?.1.split(' ').next()?.parse::<u32>().ok());
    // A busy machine takes longer than the window, and has more than one.
    ensure!(
        single.len() + (counted.clone().sum::<u32>() as usize) == CLIENTS as usize,
        "{log}"
    );
    ensure!(
        counted.sum::<u32>() >= CLIENTS / 2,
        "most of them are counted: {log}"
    );
    Ok(())
}
