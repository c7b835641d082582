//! The same requests through Weir and through Envoy, with other proxies before and behind them: where both run, what is
//! sent, and what of the answers is compared.

use super::{
    Answer, Hop, Raw, Site, Weir, envoy, envoy_bootstrap, envoy_cluster, envoy_listener, haproxy, nginx,
};
use crate::lab::Process;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write, fs, net::SocketAddr, path::Path, time::Duration};

/// A request, from tests/data/parity/cases.yaml.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about; unique.
    pub name: String,
    /// What is sent.
    pub request: Vec<u8>,
    /// Answers that are awaited.
    pub answers: usize,
    /// Why the two answer differently, if they do.
    pub differs: Option<String>,
}

/// One way through the two proxies that are compared.
pub struct Chain {
    /// What it leads through.
    pub name: &'static str,
    /// Where it begins, with Weir in it.
    pub weir: SocketAddr,
    /// Where it begins, with Envoy in it.
    pub envoy: SocketAddr,
}

/// All proxies, running.
pub struct Parity {
    /// The ways through them.
    pub chains: Vec<Chain>,
    /// Held to keep them running.
    pub weir: Weir,
    _peers: Vec<Process>,
}

/// Of the request as the backend saw it: what names the hop, or frames the message.
const IGNORED_IN_REQUEST: [&str; 10] = [
    "connection",
    "content-length",
    "forwarded",
    "keep-alive",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Of the response.
const IGNORED_IN_RESPONSE: [&str; 8] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "via",
    "x-request-id",
];

/// A proxy that says nothing for this long says nothing.
const SILENCE: Duration = Duration::from_secs(8);

impl Parity {
    /// Starts all of them.
    pub fn start(site: &'static Site) -> Result<Self> {
        let backend = site.backend().h1;
        let hop = |to| Hop {
            listen: site.port(),
            to,
        };
        let (by_nginx, by_envoy, by_haproxy) = (hop(backend), hop(backend), hop(backend));
        let upstreams = [backend, by_nginx.listen, by_envoy.listen, by_haproxy.listen];
        let weir = upstreams.map(hop);
        let peer = upstreams.map(hop);
        // In front of each: [nginx, Envoy, HAProxy] of Weir, then of Envoy.
        let fronts: [[Hop; 2]; 3] = std::array::from_fn(|_| [hop(weir[0].listen), hop(peer[0].listen)]);
        let envoy_hops: Vec<Hop> = peer.into_iter().chain([by_envoy]).chain(fronts[1]).collect();
        let names = [
            "straight to the backend",
            "nginx behind",
            "Envoy behind",
            "HAProxy behind",
            "nginx before",
            "Envoy before",
            "HAProxy before",
        ];
        let begins = (weir.iter().zip(&peer).map(|(a, b)| (a.listen, b.listen)))
            .chain(fronts.iter().map(|[a, b]| (a.listen, b.listen)));
        let chains = (names.into_iter().zip(begins))
            .map(|(name, (weir, envoy))| Chain { name, weir, envoy })
            .collect();
        let nginx = site.keep(|| nginx(site, &[vec![by_nginx], fronts[0].to_vec()].concat()))?;
        let haproxy = site.keep(|| haproxy(site, &[vec![by_haproxy], fronts[2].to_vec()].concat()))?;
        let envoy = site.keep(|| envoy(site, &envoy_config(&peer, &envoy_hops), &envoy_hops))?;
        Ok(Self {
            chains,
            weir: site.keep(|| Weir::start(site, &weir_config(&weir)))?,
            _peers: vec![nginx, haproxy, envoy],
        })
    }
}

/// The routes of the daemon; Envoy's are the same.
const ROUTES: &str = "
      - { match: { path_prefix: /redirect/ }, redirect: { scheme: https, host: to.test, prefix: /new/, status: 302 } }
      - { match: { path: /direct }, respond: { status: 200, body: \"direct\\n\" } }
      - { match: { path_prefix: /rewritten/ }, cluster: CLUSTER, rewrite: { prefix: /echo/ } }
      - { match: { path_prefix: /host/ }, cluster: CLUSTER, rewrite: { host: other.test } }
      - match: { path_prefix: /set/ }
        cluster: CLUSTER
        rewrite: { prefix: / }
        request_headers: { set: { x-set: proxy } }
        response_headers: { set: { x-answer: set }, remove: [content-type] }
      - { match: { path: /by-method, method: POST }, respond: { status: 200, body: \"post\\n\" } }
      - { match: { path: /by-header, headers: [{ name: x-route, exact: b }] }, respond: { status: 200, body: \"header\\n\" } }
      - { match: { path: /by-query, query: [{ name: route, exact: b }] }, respond: { status: 200, body: \"query\\n\" } }
      - { match: { headers: [{ name: x-nowhere, present: true, invert: true }] }, cluster: CLUSTER }
";

fn weir_config(hops: &[Hop]) -> String {
    let mut text = String::from("listeners:\n");
    for (number, hop) in hops.iter().enumerate() {
        let routes = ROUTES.replace("CLUSTER", &format!("c{number}"));
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  - name: l{number}\n    address: {}\n    routes:{routes}",
            hop.listen
        );
    }
    text.push_str("clusters:\n");
    for (number, hop) in hops.iter().enumerate() {
        let _ = writeln!(text, "  - {{ name: c{number}, endpoints: [\"{}\"] }}", hop.to);
    }
    text
}

/// `like_weir` has the daemon's routes; the other hops forward everything.
fn envoy_config(like_weir: &[Hop], hops: &[Hop]) -> Value {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (number, hop) in hops.iter().enumerate() {
        let cluster = format!("c{number}");
        let routes = if number < like_weir.len() {
            envoy_routes(&cluster)
        } else {
            json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}])
        };
        listeners.push(envoy_listener(&format!("l{number}"), hop.listen, &routes));
        clusters.push(envoy_cluster(&cluster, hop.to));
    }
    envoy_bootstrap(&listeners, &clusters)
}

fn envoy_routes(cluster: &str) -> Value {
    let respond = |text: &str| json!({"status": 200, "body": {"inline_string": text}});
    json!([
        {"match": {"prefix": "/redirect/"}, "redirect": {"scheme_redirect": "https", "host_redirect": "to.test",
            "prefix_rewrite": "/new/", "response_code": "FOUND"}},
        {"match": {"path": "/direct"}, "direct_response": respond("direct\n")},
        {"match": {"prefix": "/rewritten/"}, "route": {"cluster": cluster, "prefix_rewrite": "/echo/"}},
        {"match": {"prefix": "/host/"}, "route": {"cluster": cluster, "host_rewrite_literal": "other.test"}},
        {"match": {"prefix": "/set/"}, "route": {"cluster": cluster, "prefix_rewrite": "/"},
            "request_headers_to_add": [{"header": {"key": "x-set", "value": "proxy"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
            "response_headers_to_add": [{"header": {"key": "x-answer", "value": "set"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
            "response_headers_to_remove": ["content-type"]},
        {"match": {"path": "/by-method", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
            "direct_response": respond("post\n")},
        {"match": {"path": "/by-header", "headers": [{"name": "x-route", "string_match": {"exact": "b"}}]},
            "direct_response": respond("header\n")},
        {"match": {"path": "/by-query", "query_parameters": [{"name": "route", "string_match": {"exact": "b"}}]},
            "direct_response": respond("query\n")},
        {"match": {"prefix": "/", "headers": [{"name": "x-nowhere", "present_match": true, "invert_match": true}]},
            "route": {"cluster": cluster}},
    ])
}

/// Reads the cases.
///
/// # Errors
/// The file is not as its first lines say.
pub fn cases(path: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let values: Vec<Value> =
        serde_yaml_ng::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let cases: Vec<Case> = values.iter().map(case).collect::<Result<_>>()?;
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    ensure!(names.len() == cases.len(), "two cases have the same name");
    Ok(cases)
}

fn case(value: &Value) -> Result<Case> {
    let field = |name: &str| value[name].as_str().map(expand);
    let name = field("name").with_context(|| format!("a case without a name: {value}"))?;
    let request = match field("raw") {
        Some(raw) => raw,
        None => {
            let line = field("line").with_context(|| format!("{name} has no line"))?;
            let host = field("host").unwrap_or_else(|| "a.test".into());
            let mut request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
            for header in value["headers"].as_array().into_iter().flatten() {
                request += &expand(header.as_str().context("a header is a text")?);
                request += "\r\n";
            }
            match (field("body"), field("raw_body")) {
                (Some(body), _) => write!(request, "Content-Length: {}\r\n\r\n{body}", body.len())?,
                (None, raw_body) => write!(request, "\r\n{}", raw_body.unwrap_or_default())?,
            }
            request
        }
    };
    Ok(Case {
        name,
        request: request.into_bytes(),
        answers: value["answers"]
            .as_u64()
            .map_or(1, |count| usize::try_from(count).unwrap_or(1)),
        differs: field("differs"),
    })
}

/// Writes out `{text*N}`.
fn expand(text: &str) -> String {
    let found = text.rfind('*').and_then(|star| {
        let begin = text[..star].rfind('{')?;
        let end = star + text[star..].find('}')?;
        let count: usize = text[star + 1..end].parse().ok()?;
        Some((begin, star, end, count))
    });
    match found {
        Some((begin, star, end, count)) => {
            text[..begin].to_owned() + &text[begin + 1..star].repeat(count) + &text[end + 1..]
        }
        None => text.to_owned(),
    }
}

/// Sends a case, and tells what is compared of its answers: a line for each thing.
pub fn outcome(site: &Site, address: SocketAddr, case: &Case) -> Result<String> {
    let mut connection = Raw::connect_patient(site, address, SILENCE)?;
    connection.send(&case.request);
    let method = case.request.split(|byte| *byte == b' ').next();
    let method = String::from_utf8_lossy(method.unwrap_or_default()).into_owned();
    let mut text = String::new();
    for _ in 0..case.answers {
        match connection.answer_to(&method) {
            Ok(answer) => text += &compared(&answer),
            Err(_) if connection.ended() => text += "closed",
            Err(error) => text += &format!("no answer: {}", error.root_cause()),
        }
        text.push('\n');
    }
    Ok(text.trim_end().to_owned())
}

fn compared(answer: &Answer) -> String {
    let mut text = String::new();
    for (status, _) in &answer.informational {
        // 100 is between two hops: whether it comes is each one's own affair (RFC 9110, 10.1.1).
        if *status != 100 {
            text += &format!("{status}, ");
        }
    }
    text += &answer.status.to_string();
    let is_upstream = answer.header("x-backend").is_some();
    if !is_upstream && answer.status >= 400 {
        return text;
    }
    let mut headers: Vec<String> = (answer.headers.iter())
        .filter(|(name, _)| !IGNORED_IN_RESPONSE.contains(&name.as_str()) && !name.starts_with("x-envoy"))
        .filter(|(name, _)| is_upstream || name == "location")
        .map(|(name, value)| format!("\n  {name}: {value}"))
        .collect();
    headers.sort();
    text += &headers.concat();
    text += &match serde_json::from_slice::<Value>(&answer.body) {
        Ok(seen) if is_upstream && seen["headers"].is_array() => seen_upstream(&seen),
        _ if answer.body.len() > 200 => format!("\n  {} bytes", answer.body.len()),
        _ => format!("\n  {:?}", String::from_utf8_lossy(&answer.body)),
    };
    for (name, value) in &answer.trailers {
        text += &format!("\n  trailer {name}: {value}");
    }
    text
}

fn seen_upstream(seen: &Value) -> String {
    let mut text = format!("\n  upstream: {} {}", seen["method"], seen["target"]);
    let pairs = |list: &str| {
        let pairs = seen[list].as_array().cloned().unwrap_or_default();
        let mut pairs: Vec<(String, String)> = (pairs.iter())
            .map(|pair| {
                let part = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
                (part(0).to_ascii_lowercase(), part(1))
            })
            .filter(|(name, _)| !IGNORED_IN_REQUEST.contains(&name.as_str()) && !name.starts_with("x-envoy"))
            .collect();
        pairs.sort();
        pairs
    };
    for (name, value) in pairs("headers") {
        text += &format!("\n  upstream {name}: {value}");
    }
    for (name, value) in pairs("trailers") {
        text += &format!("\n  upstream trailer {name}: {value}");
    }
    text + &format!("\n  upstream body: {}", seen["body"])
}
