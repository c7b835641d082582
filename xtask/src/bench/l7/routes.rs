//! Whether the number of routes costs: the same requests against ever more routes, on one host and spread over hosts.

use super::{
    Bench, client,
    job::{Kind, Routes},
    load::Load,
    measure::Case,
};
use crate::bench::report::{self, Series};
use anyhow::Result;
use serde_json::{Value, json};
use std::rc::Rc;

/// Routes a host, where they are spread.
const OF_A_HOST: usize = 10;

/// The first is what others are compared with.
const TABLES: [Routes; 5] = [
    Routes { count: 10, hosts: 1 },
    Routes {
        count: 10_000,
        hosts: 1,
    },
    Routes {
        count: 100_000,
        hosts: 1,
    },
    Routes {
        count: 10_000,
        hosts: 10_000 / OF_A_HOST,
    },
    Routes {
        count: 100_000,
        hosts: 100_000 / OF_A_HOST,
    },
];

/// Different requests.
const REQUESTS: usize = 1_000;

/// Measures and prints a table.
///
/// # Errors
/// When a proxy doesn't do its work.
pub fn measure(bench: &Bench<'_>) -> Result<Value> {
    let mut rows = Vec::new();
    let mut json = json!({ "unit": "requests", "routes_of_a_host": OF_A_HOST });
    // The tables of one proxy take turns: they are compared with each other.
    for subject in bench.arguments.subjects() {
        let mut cases = Vec::new();
        for (number, routes) in TABLES.into_iter().enumerate() {
            let proxy = bench.start(subject, Kind::Http1, routes, bench.backends.http1, number)?;
            cases.extend(proxy.map(|proxy| Case::new(proxy, Load::Requests(requests(routes)))));
        }
        if cases.is_empty() {
            continue;
        }
        bench.measure(&mut cases)?;
        let mut row = vec![subject.name().to_owned()];
        json[subject.name()] = json!({});
        for (case, routes) in cases.iter().zip(TABLES) {
            let over: Series = case.per_cpu_second.over(&cases[0].per_cpu_second);
            row.push(format!(
                "{:.0} ({:.2})",
                case.per_cpu_second.median(),
                over.median()
            ));
            let mut result = case.json();
            result["over_ten_routes"] = over.json();
            json[subject.name()][format!("{} on {}", routes.count, routes.hosts)] = result;
        }
        rows.push(row);
    }
    println!(
        "Requests per CPU-second by number of routes (path prefixes); in brackets over that of 10 routes"
    );
    let head = [
        "proxy",
        "10",
        "10k, one host",
        "100k, one host",
        "10k, 1k hosts",
        "100k, 10k hosts",
    ];
    report::table(&head, &rows);
    Ok(json)
}

/// Spread over all routes, so that none is always found first.
fn requests(routes: Routes) -> Rc<[Vec<u8>]> {
    let each = routes.count / routes.hosts;
    let request = |number: usize| {
        // Steps of a prime's size through the table, so that neighbours in time aren't neighbours there.
        let route = (number * 7_919 * routes.count.div_ceil(REQUESTS)) % routes.count;
        client::request(
            &Routes::host(route / each),
            &format!("{}item", Routes::prefix(route)),
        )
    };
    (0..REQUESTS).map(request).collect()
}
