//! `cargo xtask bench change`: how long one endpoint's change takes in a large site, from the API's request to the maps.
//!
//! The real daemon with thousands of services in `ipip` mode, each with a cluster of its own. A change sets the weight of one
//! endpoint. It is live once its service's new table is the one in `slots`, for which another thread watches: from then on packets
//! go by it. The request is answered later, when no program that began before still runs with the old table: the kernel waits
//! for that (`synchronize_rcu` in `maybe_wait_bpf_programs` of its kernel/bpf/syscall.c). Then many clients change endpoints at
//! once: changes that wait are applied together.

use super::{
    network,
    report::{self, Series},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, Map, MapData, of_maps::ArrayOfMaps};
use proxy_common::values::BackendValue;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};
use weir_tests::lab::{Daemon, DaemonConfig, Lab};

/// How large a site to change.
#[derive(clap::Args, Clone)]
pub struct ChangeArgs {
    /// Services, each with a cluster of its own.
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// Endpoints of all of them together.
    #[arg(long, default_value_t = 100_000)]
    endpoints: u32,
    /// Changes one after the other; the median is shown.
    #[arg(long, default_value_t = 50)]
    rounds: u32,
}

/// Changes at once, and from how many clients.
const BURST: usize = 1_000;
const CLIENTS: usize = 100;
/// No change takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Measures, prints, writes target/bench/change.json.
///
/// # Errors
/// When the daemon doesn't start, or a change isn't in the maps when it is answered.
pub fn run(arguments: &ChangeArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench makes network namespaces and loads programs: run it as root");
    }
    let each = arguments.endpoints / arguments.services.max(1);
    if each == 0 || arguments.rounds == 0 {
        bail!("a service needs an endpoint at least, and --rounds must be at least 1");
    }
    network::sweep()?;
    let environment = report::environment();
    println!("{environment:#}\n");
    let lab = Lab::new()?;
    let (host, peer) = (lab.host("balancer")?, lab.host("peer")?);
    host.connect("front", &peer, "balancer")?;
    host.ip("address add 192.0.2.1/24 dev front\nroute add default via 192.0.2.2")?;
    let begin = Instant::now();
    let daemon = Daemon::start(&host, &config(arguments.services, each))?;
    let start = begin.elapsed();
    let alone = alone(&daemon, arguments, each)?;
    let together = together(&daemon, arguments, each)?;
    let sites = format!(
        "{} services, {} endpoints",
        arguments.services,
        arguments.services * each
    );
    println!("{sites}: started in {:.1} s", start.as_secs_f64());
    println!(
        "one change at a time: live after {} ms, answered after {} ms; median (range)",
        alone.live.shown(2),
        alone.answered.shown(2)
    );
    println!(
        "{BURST} changes by {CLIENTS} clients at once: in force after {:.0} ms, in {} applies",
        together.took.as_secs_f64() * 1e3,
        together.applies
    );
    let report = json!({
        "environment": environment,
        "services": arguments.services,
        "endpoints": arguments.services * each,
        "start_seconds": start.as_secs_f64(),
        "milliseconds_until_one_change_is_live": alone.live.json(),
        "milliseconds_until_it_is_answered": alone.answered.json(),
        "changes_at_once": BURST,
        "applies": together.applies,
        "milliseconds_of_all": together.took.as_secs_f64() * 1e3,
    });
    println!("{}", report::write("change", &report)?.display());
    Ok(())
}

/// Endpoint `at` of service `n`; its port is the VIP's, which a tunnel doesn't change.
fn endpoint(n: u32, each: u32, at: u32) -> SocketAddr {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + n * each + at);
    SocketAddr::new(IpAddr::V4(address), vip(n).port())
}

fn vip(n: u32) -> SocketAddr {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n / 16);
    SocketAddr::new(IpAddr::V4(address), 8_000 + (n % 16) as u16)
}

fn config(services: u32, each: u32) -> DaemonConfig {
    let mut config = DaemonConfig::new(&["front"]);
    let list = |of: &dyn Fn(u32) -> Value| (0..services).map(of).collect::<Vec<_>>();
    config.value["listeners"] = json!(list(&|n| {
        let forward = json!({"cluster": format!("c{n}"), "mode": "ipip", "table_size": 1_009});
        json!({"name": format!("s{n}"), "address": vip(n), "forward": forward})
    }));
    config.value["clusters"] = json!(list(&|n| {
        let endpoints: Vec<_> = (0..each)
            .map(|at| json!({"address": endpoint(n, each, at), "weight": 1}))
            .collect();
        json!({"name": format!("c{n}"), "endpoints": endpoints})
    }));
    config.value["kernel"] = json!({"max_services": services, "max_backends": services * each});
    config
}

/// Milliseconds of changes that come alone.
#[derive(Default)]
struct Alone {
    live: Series,
    answered: Series,
}

/// One change after the other, each of another service, and read back from the map.
fn alone(daemon: &Daemon, arguments: &ChangeArgs, each: u32) -> Result<Alone> {
    let open = |name: &str| {
        let path = daemon.pin(name);
        MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))
    };
    let backends: Array<MapData, BackendValue> = Map::Array(open("backends")?).try_into()?;
    let tables: ArrayOfMaps<MapData> = Map::ArrayOfMaps(open("slots")?).try_into()?;
    let table = |service: u32| -> Result<u32> { Ok(tables.get(&service, 0)?.info()?.id()) };
    let mut took = Alone::default();
    for round in 0..arguments.rounds {
        // Spread over all of them.
        let n = (u64::from(round) * 7_919 % u64::from(arguments.services)) as u32;
        let address = endpoint(n, each, round % each);
        let found = (0..backends.len()).find_map(|index| {
            let value = backends.get(&index, 0).ok()?;
            let is_it = SocketAddr::new(value.address.into(), value.port) == address;
            is_it.then_some((index, value.service))
        });
        let (index, service) = found.with_context(|| format!("{address} is in no map"))?;
        let weight = 2 + round % 100;
        let before = table(service)?;
        let (begin, live) = thread::scope(|scope| -> Result<_> {
            let begin = Instant::now();
            let watch = scope.spawn(move || -> Result<Duration> {
                // An error: the id that was read is that of a table that is gone.
                while table(service).is_ok_and(|table| table == before) {
                    ensure!(begin.elapsed() < LIMIT, "the table isn't another after {LIMIT:?}");
                }
                Ok(begin.elapsed())
            });
            change(daemon, n, address, weight)?;
            took.answered.push(begin.elapsed().as_secs_f64() * 1e3);
            let live = watch.join().map_err(|_| anyhow!("the watch panicked"))?;
            Ok((begin, live?))
        })?;
        took.live.push(live.as_secs_f64() * 1e3);
        ensure!(
            table(service)? != before,
            "answered, and the table is the old one"
        );
        let there = backends.get(&index, 0)?.weight;
        ensure!(
            there == weight,
            "answered after {:?}, and the map says weight {there} instead of {weight}",
            begin.elapsed()
        );
    }
    Ok(took)
}

/// Has it changed; returns the generation that it is in.
fn change(daemon: &Daemon, n: u32, address: SocketAddr, weight: u32) -> Result<u64> {
    let path = format!("/clusters/c{n}/endpoints/{address}");
    let answer = (daemon.admin()).expect_success("PATCH", &path, Some(&json!({ "weight": weight })))?;
    answer["generation"].as_u64().context("no generation")
}

struct Together {
    took: Duration,
    applies: u64,
}

fn together(daemon: &Daemon, arguments: &ChangeArgs, each: u32) -> Result<Together> {
    let before = change(daemon, 0, endpoint(0, each, 0), 101)?;
    let begin = Instant::now();
    let newest = thread::scope(|scope| {
        let client = |client: usize| {
            scope.spawn(move || -> Result<u64> {
                let mut newest = 0;
                for turn in 0..BURST / CLIENTS {
                    let n = ((turn * CLIENTS + client) as u64 * 7_919 % u64::from(arguments.services)) as u32;
                    newest = change(daemon, n, endpoint(n, each, 0), 200 + turn as u32)?;
                }
                Ok(newest)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let ended = clients.into_iter().map(|client| match client.join() {
            Ok(newest) => newest,
            Err(_) => bail!("a client panicked"),
        });
        ended.collect::<Result<Vec<u64>>>()
    })?;
    Ok(Together {
        took: begin.elapsed(),
        applies: newest.into_iter().max().unwrap_or(before) - before,
    })
}
