//! How long a Maglev table takes to build, ours beside the crate maglev-hash.

use super::report::{self, Series};
use maglev_hash::MaglevTable;
use proxy_common::{
    limits,
    maglev::{self, MaglevEndpoint},
    net::Address,
};
use serde_json::{Value, json};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

/// Endpoints in the table.
const ENDPOINTS: u32 = 1_000;
/// Tables built of each kind; a build takes about a millisecond.
const ROUNDS: usize = 25;

/// Measures in turns and prints a table.
pub fn run() -> Value {
    let weighted = endpoints(|index| 1 + index % 10);
    let equal = endpoints(|_| 1);
    let nodes: Vec<(IpAddr, u16)> = equal
        .iter()
        .map(|endpoint| (endpoint.address.into(), endpoint.port))
        .collect();
    let mut series = [Series::default(), Series::default(), Series::default()];
    for _ in 0..ROUNDS {
        series[0].push(milliseconds(|| maglev::build(&weighted, limits::MAGLEV_SIZE)));
        series[1].push(milliseconds(|| maglev::build(&equal, limits::MAGLEV_SIZE)));
        series[2].push(milliseconds(|| {
            MaglevTable::with_capacity(nodes.clone(), limits::MAGLEV_SIZE as usize)
        }));
    }
    let names = [
        "Weir, weights 1 to 10",
        "Weir, equal weights",
        "maglev-hash (has no weights)",
    ];
    println!(
        "Maglev: {ENDPOINTS} endpoints, {} slots, one build",
        limits::MAGLEV_SIZE
    );
    let row = |(name, series): (&&str, &Series)| vec![(*name).to_owned(), series.shown(2)];
    report::table(
        &["builder", "ms: median (range)"],
        &names.iter().zip(&series).map(row).collect::<Vec<_>>(),
    );
    json!({
        "endpoints": ENDPOINTS,
        "slots": limits::MAGLEV_SIZE,
        "milliseconds": { "weir_weighted": series[0].json(), "weir_equal": series[1].json(), "maglev_hash": series[2].json() },
    })
}

fn endpoints(weight: impl Fn(u32) -> u32) -> Vec<MaglevEndpoint> {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 1));
    let endpoint = |index| MaglevEndpoint {
        address: Address::from(IpAddr::V4(Ipv4Addr::from(first + index))),
        port: 8_080,
        weight: weight(index),
    };
    (0..ENDPOINTS).map(endpoint).collect()
}

fn milliseconds<T>(build: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(build());
    start.elapsed().as_secs_f64() * 1e3
}
