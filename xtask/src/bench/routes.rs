//! How long a lookup takes among few and among many routes.

use super::{
    RoutesArgs,
    report::{self, Series},
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{hint::black_box, path::Path, time::Duration};
use weir::{
    l7::router::{Facts, Router},
    model::l7::{
        Action, HeaderOps, HostMatch, PathMatch, Place, Respond, Rewrite, Route, RouteMatch, RouteTimeouts,
    },
};
use weir_tests::model::random::Random;

/// Routes in a table; the others are compared with the first.
const COUNTS: [u32; 3] = [10, 10_000, 100_000];
/// Requests of a batch, which is small enough to lie in a near cache as a request just parsed does. What is slow
/// among many routes is to find them in memory, and that stays in the measurement.
const BATCH: usize = 256;
/// Batches of a measurement.
const BATCHES: usize = 500;

/// How routes differ.
#[derive(Clone, Copy)]
enum Spread {
    Exact,
    Prefix,
    Segment,
    Hosts,
    HostsAndPaths,
}

const SPREADS: [(Spread, &str); 5] = [
    (Spread::Exact, "one host, exact paths"),
    (Spread::Prefix, "one host, prefixes"),
    (Spread::Segment, "one host, segment prefixes"),
    (Spread::Hosts, "a host each, one prefix"),
    (Spread::HostsAndPaths, "ten to a host, exact paths"),
];

/// Measures in turns, prints a table, and writes target/bench/routes.json.
///
/// # Errors
/// A lookup finds another route than the one asked for, or the report can't be written.
pub fn run(arguments: &RoutesArgs) -> Result<()> {
    let mut report = Vec::new();
    let mut rows = Vec::new();
    for (spread, name) in SPREADS {
        report.push(measure(spread, name, arguments.rounds, &mut rows)?);
    }
    println!(
        "A lookup, of random routes and of one again and again; medians (ranges) of {} rounds in turns.",
        arguments.rounds
    );
    report::table(
        &[
            "routes",
            "count",
            "compile ms",
            "MiB",
            "random ns",
            "× of 10",
            "same ns",
            "× of 10",
        ],
        &rows,
    );
    let report = json!({ "environment": report::environment(), "cases": report });
    println!("{}", report::write("routes", &report)?.display());
    Ok(())
}

/// A table of routes and what was measured of it.
struct Case {
    router: Router,
    compile_ms: f64,
    random: Series,
    same: Series,
}

fn measure(spread: Spread, name: &str, rounds: usize, rows: &mut Vec<Vec<String>>) -> Result<Value> {
    let mut cases = Vec::new();
    for count in COUNTS {
        let routes = (0..count).map(|number| route(spread, number)).collect();
        let start = thread_time();
        let router = Router::compile(routes);
        cases.push(Case {
            router,
            compile_ms: (thread_time() - start).as_secs_f64() * 1e3,
            random: Series::default(),
            same: Series::default(),
        });
    }
    let mut random = Random::new(1);
    // The first round warms up.
    for round in 0..=rounds {
        for (case, count) in cases.iter_mut().zip(COUNTS) {
            let (of_random, of_same) = (
                nanoseconds(&case.router, spread, |_| random.below(count as usize) as u32)?,
                nanoseconds(&case.router, spread, |_| count / 2)?,
            );
            if round > 0 {
                case.random.push(of_random);
                case.same.push(of_same);
            }
        }
    }
    let mut values = Vec::new();
    for (case, count) in cases.iter().zip(COUNTS) {
        let mib = case.router.memory_bytes() as f64 / f64::from(1 << 20);
        let (random, same) = (case.random.over(&cases[0].random), case.same.over(&cases[0].same));
        rows.push(vec![
            name.to_owned(),
            count.to_string(),
            format!("{:.1}", case.compile_ms),
            format!("{mib:.2}"),
            case.random.shown(0),
            format!("{:.2}", random.median()),
            case.same.shown(0),
            format!("{:.2}", same.median()),
        ]);
        values.push(json!({
            "routes": name, "count": count, "compile_ms": case.compile_ms, "memory_bytes": case.router.memory_bytes(),
            "random_ns": case.random.json(), "same_ns": case.same.json(),
        }));
    }
    Ok(json!(values))
}

/// Of one lookup.
fn nanoseconds(router: &Router, spread: Spread, mut next: impl FnMut(usize) -> u32) -> Result<f64> {
    let headers = http::HeaderMap::new();
    let mut elapsed = Duration::ZERO;
    let mut batch: Vec<(u32, String, String)> = Vec::new();
    for _ in 0..BATCHES {
        batch.clear();
        batch.extend((0..BATCH).map(|at| {
            let number = next(at);
            let (host, path) = place(spread, number);
            (number, host, request_path(spread, path))
        }));
        let mut wrong = 0_usize;
        let start = thread_time();
        for (number, host, path) in &batch {
            let facts = Facts {
                host,
                path,
                query: None,
                method: &http::Method::GET,
                headers: &headers,
            };
            let found = black_box(router.find(black_box(&facts)));
            wrong += usize::from(found.is_none_or(|(at, _)| at != *number as usize));
        }
        elapsed += thread_time().saturating_sub(start);
        ensure!(wrong == 0, "{wrong} of {BATCH} lookups found another route");
    }
    Ok(elapsed.as_secs_f64() * 1e9 / (BATCH * BATCHES) as f64)
}

/// What this thread has had of a CPU, so that a busy machine does not count.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Host and path of a route. Numbers of one length, so that few and many routes have the same work with them.
fn place(spread: Spread, number: u32) -> (String, String) {
    let one = "www.example.com".to_owned();
    match spread {
        Spread::Exact => (one, format!("/catalog/item-{number:06}")),
        Spread::Prefix => (one, format!("/service-{number:06}/")),
        Spread::Segment => (one, format!("/service-{number:06}")),
        Spread::Hosts => (format!("tenant-{number:06}.example.com"), "/".to_owned()),
        Spread::HostsAndPaths => (
            format!("tenant-{:06}.example.com", number / 10),
            format!("/catalog/item-{number:06}"),
        ),
    }
}

fn request_path(spread: Spread, path: String) -> String {
    match spread {
        Spread::Exact | Spread::HostsAndPaths => path,
        Spread::Prefix | Spread::Hosts => path + "orders/12345",
        Spread::Segment => path + "/orders/12345",
    }
}

fn route(spread: Spread, number: u32) -> Route {
    let (host, path) = place(spread, number);
    let path = match spread {
        Spread::Exact | Spread::HostsAndPaths => PathMatch::Exact(path.into()),
        Spread::Prefix | Spread::Hosts => PathMatch::Prefix(path.into()),
        Spread::Segment => PathMatch::SegmentPrefix(path.into()),
    };
    Route {
        name: None,
        place: Place {
            file: Path::new("bench.yaml").into(),
            line: number,
        },
        matches: RouteMatch {
            hosts: vec![HostMatch::Exact(host.into())],
            path: Some(path),
            ..RouteMatch::default()
        },
        action: Action::Respond(Respond {
            status: http::StatusCode::OK,
            body: "".into(),
        }),
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeouts: RouteTimeouts::default(),
    }
}
