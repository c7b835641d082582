//! The scenarios whose figure is work per CPU-second.

use super::{
    Bench,
    job::{Kind, Routes},
    load::Load,
    measure::Case,
};
use crate::bench::report;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::{fs, net::SocketAddr};

/// One scenario.
struct Scenario {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    kind: Kind,
    to: SocketAddr,
    load: Load,
}

/// What is counted, and how much of it is shown as one.
#[derive(Clone, Copy)]
struct Unit(&'static str, f64, usize);

const REQUESTS: Unit = Unit("requests", 1.0, 0);
const BYTES: Unit = Unit("GiB", (1_u64 << 30) as f64, 2);

/// A gRPC frame of 64 bytes.
fn message() -> Vec<u8> {
    [&[0, 0, 0, 0, 59][..], &[b'x'; 59]].concat()
}

fn scenarios(bench: &Bench<'_>) -> Result<Vec<Scenario>> {
    let post = bench.site.folder.join("message");
    fs::write(&post, message()).context("cannot write the message")?;
    let backends = &bench.backends;
    let scenario = |name, title, unit, kind, to, load| Scenario {
        name,
        title,
        unit,
        kind,
        to,
        load,
    };
    let http1 = |name, title, path, connections| {
        let load = Load::Wrk { path, connections };
        scenario(name, title, REQUESTS, Kind::Http1, backends.http1, load)
    };
    let h2load = |scheme, path, post| Load::H2load { scheme, path, post };
    let (tls, tcp) = (Kind::Tls, Kind::Tcp);
    Ok(vec![
        http1("http1", "HTTP/1.1 keep-alive, 64 connections, 1 KiB", "/", 64),
        scenario(
            "tls-h2",
            "TLS 1.3, HTTP/2 to HTTP/1.1, 16 connections with 32 streams, 1 KiB",
            REQUESTS,
            tls,
            backends.http1,
            h2load("https", "/", None),
        ),
        scenario(
            "handshakes",
            "New TLS 1.3 connections, full handshake (ECDSA P-256, X25519) and one request each",
            Unit("handshakes", 1.0, 0),
            tls,
            backends.http1,
            Load::Handshakes,
        ),
        scenario(
            "grpc",
            "HTTP/2 to HTTP/2 without TLS, POST of 64 bytes, 64 bytes and trailers back, 16 connections with 32 streams",
            REQUESTS,
            Kind::H2c,
            backends.http2,
            h2load("http", "/bench.Echo/Call", Some(post)),
        ),
        scenario(
            "tcp-bulk",
            "TCP, one connection, download",
            BYTES,
            tcp,
            backends.source,
            Load::Bulk,
        ),
        scenario(
            "tcp-messages",
            "TCP, 32 connections, 64 bytes and back",
            Unit("round trips", 1.0, 0),
            tcp,
            backends.echo,
            Load::Messages,
        ),
        http1("body-100k", "HTTP/1.1, 16 connections, 100 KiB", "/100k", 16),
        http1("body-10m", "HTTP/1.1, 4 connections, 10 MiB", "/10m", 4),
    ])
}

/// Measures those that are wanted, prints a table of each, and adds to the results.
///
/// # Errors
/// When a proxy doesn't do its work.
pub fn run(bench: &Bench<'_>, results: &mut Map<String, Value>) -> Result<()> {
    for scenario in scenarios(bench)? {
        if !bench.arguments.wants(scenario.name) {
            continue;
        }
        let result = measure(bench, &scenario).with_context(|| format!("scenario {}", scenario.name))?;
        results.insert(scenario.name.to_owned(), result);
    }
    Ok(())
}

fn measure(bench: &Bench<'_>, scenario: &Scenario) -> Result<Value> {
    let mut cases = Vec::new();
    for (number, subject) in bench.arguments.subjects().into_iter().enumerate() {
        let proxy = bench.start(subject, scenario.kind, Routes::ANY, scenario.to, number)?;
        cases.extend(proxy.map(|proxy| Case::new(proxy, scenario.load.clone())));
    }
    bench.measure(&mut cases)?;
    let best = best_peer(&cases);
    let Unit(unit, scale, digits) = scenario.unit;
    println!("{}; median (range)", scenario.title);
    let row = |case: &Case| {
        let ratio = best.map(|best| case.per_cpu_second.over(&best.per_cpu_second));
        vec![
            case.proxy.subject.name().to_owned(),
            case.per_cpu_second.scaled(1.0 / scale).shown(digits),
            format!("{:.digits$}", case.per_second.median() / scale),
            format!("{:.0} %", 100.0 * case.busy.median()),
            ratio.map_or_else(String::new, |ratio| ratio.shown(2)),
        ]
    };
    let per_cpu_second = format!("{unit}/CPU-s");
    let per_second = format!("{unit}/s");
    let head = [
        "proxy",
        &per_cpu_second,
        &per_second,
        "busy",
        "over the best peer",
    ];
    report::table(&head, &cases.iter().map(row).collect::<Vec<_>>());
    let mut json = json!({ "title": scenario.title, "unit": unit, "unit_is": scale });
    for case in &cases {
        let name = case.proxy.subject.name();
        json[name] = case.json();
        if let Some(best) = best {
            json[name]["over_best_peer"] = case.per_cpu_second.over(&best.per_cpu_second).json();
        }
    }
    json["best_peer"] = json!(best.map(|case| case.proxy.subject.name()));
    Ok(json)
}

/// The peer with the highest median.
fn best_peer(cases: &[Case]) -> Option<&Case> {
    cases
        .iter()
        .filter(|case| case.proxy.subject.is_peer())
        .max_by(|a, b| a.per_cpu_second.median().total_cmp(&b.per_cpu_second.median()))
}
