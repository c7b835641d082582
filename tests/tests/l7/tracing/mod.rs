//! Tracing: what endpoints are told, and the spans that a collector gets, by OpenTelemetry's own messages and propagator.

mod context;
mod export;
mod spans;

use super::support::Proxy;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fmt::Write, net::SocketAddr, time::Duration};
use weir_tests::{
    l7::{Curl, Site, python},
    lab::{Process, until},
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
