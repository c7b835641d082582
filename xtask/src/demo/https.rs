//! The demo's part for the L7 plane: HTTPS on a VIP of the same daemon, while the kernel goes on forwarding.

use super::{Demo, Part, WEIGHTS, backend, checks::Checks, name};
use anyhow::{Context, Result};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use weir_tests::lab::{DaemonConfig, Family, LongConnections, interrupted};

/// Worker threads, more than this machine may have cores: what is shown is how they share.
const WORKERS: usize = 4;

/// Requests whose answers say which backend they came from.
const REQUESTS: usize = 1_200;

/// Requests and connections of the load generator.
const LOAD: (usize, usize) = (12_000, 400);

/// How much more than its share of the connections a worker may get.
const WORKER_LIMIT: f64 = 1.15;

/// On no interface, as the VIP of the L4 service.
fn vip() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(2), 443)
}

/// Adds the listener, and a cluster with the backends of the L4 service.
pub fn configure(mut config: DaemonConfig) -> DaemonConfig {
    let endpoint = |(n, weight): (usize, u32)| json!({"address": backend(n), "weight": weight});
    let endpoints: Vec<_> = WEIGHTS.into_iter().enumerate().map(endpoint).collect();
    let listener = json!({
        "name": "https",
        "address": vip(),
        "tls": {"self_signed": true},
        "routes": [{"cluster": "pages"}],
    });
    config.value["workers"] = json!(WORKERS);
    let added = [
        ("listeners", listener),
        ("clusters", json!({"name": "pages", "endpoints": endpoints})),
    ];
    for (list, value) in added {
        if let Some(list) = config.value[list].as_array_mut() {
            list.push(value);
        }
    }
    config.health_check("pages", "250ms")
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Answers by the backend that gave them.
    answers: BTreeMap<String, usize>,
    succeeded: usize,
    /// Connections that each worker got.
    workers: Vec<u64>,
}

/// Serves HTTPS to curl and h2load beside the L4 service's connections.
pub fn serve(demo: &mut Demo, checks: &mut Checks, long: &LongConnections) -> Result<()> {
    let part = Part {
        title: "HTTPS on another VIP, in the same daemon: steered to 4 workers, routed to the same backends.",
        connections: 2_000,
        time: Duration::from_secs(4),
    };
    let mut seen = Seen::default();
    let attempts = demo.run_part(&part, long, |demo| {
        seen = ask(demo)?;
        Ok(())
    })?;
    if interrupted() {
        return Ok(());
    }
    judge(checks, &seen);
    let failed = attempts.iter().filter(|attempt| attempt.answer.is_err()).count();
    checks.add(
        "the kernel goes on forwarding beside HTTPS",
        failed == 0 && !attempts.is_empty(),
        format!("{failed} of {} new connections failed", attempts.len()),
    );
    checks.none_lost("no running connection broken by HTTPS", long, None);
    Ok(())
}

fn ask(demo: &Demo) -> Result<Seen> {
    let client = &demo.topology.client;
    let before = accepted(demo)?;
    let (requests, connections) = LOAD;
    let load = format!("h2load -n {requests} -c {connections} -t 1 https://{}/", vip());
    let printed = client.execute(&load)?;
    let succeeded = printed
        .split(", ")
        .find_map(|words| words.strip_suffix(" succeeded")?.parse().ok())
        .with_context(|| format!("h2load says nothing of success:\n{printed}"))?;
    let after = accepted(demo)?;
    let workers = (after.iter().zip(&before))
        .map(|(after, before)| after - before)
        .collect();
    // curl counts up in the query; the paths are all the same.
    let curl = format!("curl --silent --insecure https://{}/?[1-{REQUESTS}]", vip());
    let mut answers = BTreeMap::new();
    for line in client.execute(&curl)?.lines() {
        *answers.entry(line.to_owned()).or_default() += 1;
    }
    Ok(Seen {
        answers,
        succeeded,
        workers,
    })
}

/// Connections that each worker got since the start.
fn accepted(demo: &Demo) -> Result<Vec<u64>> {
    let status = demo.daemon.status()?;
    let workers = status["l7"]["workers"].as_array().into_iter().flatten();
    Ok(workers.filter_map(|worker| worker["accepted"].as_u64()).collect())
}

fn judge(checks: &mut Checks, seen: &Seen) {
    let (requests, connections) = LOAD;
    checks.add(
        "HTTPS requests succeed",
        seen.succeeded == requests,
        format!(
            "{} of {requests} over {connections} HTTP/2 connections",
            seen.succeeded
        ),
    );
    let shares = (0..WEIGHTS.len()).map(|n| {
        let name = name(n);
        let count = seen.answers.get(&name).copied().unwrap_or(0);
        (name, count)
    });
    let shares: Vec<_> = shares.collect();
    checks.parts("HTTPS requests follow the weights", &shares, &WEIGHTS);
    let total: u64 = seen.workers.iter().sum();
    let most = seen.workers.iter().max().copied().unwrap_or(0);
    let ratio = most as f64 * WORKERS as f64 / total.max(1) as f64;
    checks.add(
        "the kernel spreads connections evenly over the workers",
        total as usize >= connections && ratio <= WORKER_LIMIT,
        format!(
            "{:?}: at most {ratio:.2} times its share (limit {WORKER_LIMIT})",
            seen.workers
        ),
    );
}
