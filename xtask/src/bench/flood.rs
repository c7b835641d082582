//! `cargo xtask bench flood`: established connections in a SYN flood from random sources.
//!
//! The lab's site with direct server return; without NAT a SYN leaves nothing behind, with it each takes two entries. A crowd of
//! connections has an exchange each every tenth of a second, a load that leaves the machine time to spare: what a
//! flood takes from it is then what the balancer (or a queue on the way) gives to the flood and not to it. Flood and
//! crowd have a CPU each, with all that the kernel does with their packets, since both are made on one machine. Windows
//! with and without the flood take turns.

use super::{
    network,
    report::{self, Series},
};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use proxy_common::{
    keys::FlowKey,
    values::{FlowValue, TrackedFlow},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use weir_tests::lab::{
    Bounds, Crowd, CrowdServer, Daemon, DaemonConfig, DirectSite, Family, Finished, SynFlood, Topology,
};

/// How hard to flood.
#[derive(clap::Args, Clone)]
pub struct FloodArgs {
    /// Windows with the flood, and as many without; medians are shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// SYNs a second; 0 for as many as a CPU can send.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Established connections.
    #[arg(long, default_value_t = 300)]
    connections: usize,
}

const PORT: u16 = 7007;
/// Between two exchanges of a connection.
const PACE: Duration = Duration::from_millis(100);
/// One measurement.
const WINDOW: Duration = Duration::from_secs(2);
/// Before it: what one window queued is gone, or the flood has begun.
const RUN_UP: Duration = Duration::from_millis(300);

/// Measures, prints a table, writes target/bench/flood.json.
///
/// # Errors
/// When the lab can't be set up, or a connection is lost.
pub fn run(arguments: &FloodArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench makes network namespaces and loads programs: run it as root");
    }
    if arguments.rounds == 0 || arguments.connections == 0 {
        bail!("--rounds and --connections must be at least 1");
    }
    let cpus = network::cpus()?;
    let [crowd_cpu, .., flood_cpu] = cpus[..] else {
        bail!("the crowd and the flood need a CPU each");
    };
    let environment = report::environment();
    println!("{environment:#}\n");
    // Threads and processes started from here stay there.
    network::pin(None, crowd_cpu)?;
    let rows = ["ipip", "nat"]
        .map(|mode| measure(mode, &cpus, flood_cpu, arguments).with_context(|| format!("mode {mode}")));
    let rows = rows.into_iter().collect::<Result<Vec<Row>>>()?;
    show(&rows, arguments);
    let report = json!({
        "environment": environment,
        "what": "exchanges a second of established connections with and without a SYN flood from random sources",
        "connections": arguments.connections,
        "cases": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    println!("{}", report::write("flood", &report)?.display());
    Ok(())
}

/// A mode's numbers.
struct Row {
    mode: &'static str,
    /// Exchanges a second without and with the flood.
    goodput: [Series; 2],
    /// SYNs a second that were sent, and that the balancer forwarded.
    flood: [Series; 2],
    /// Share of its CPU that the flood took.
    busy: Series,
    /// Entries in both flow tables: before any flood, and after the last.
    entries: [usize; 2],
    /// SYNs dropped for want of room or ports.
    dropped: u64,
}

fn measure(mode: &'static str, cpus: &[usize], flood_cpu: usize, arguments: &FloodArgs) -> Result<Row> {
    let site = DirectSite::new()?;
    queue_per_cpu(&site.topology, cpus)?;
    let vip = SocketAddr::new(Family::V4.vip(1), PORT);
    let servers = site.topology.backends.iter().enumerate().map(|(n, host)| {
        let at = [vip.ip(), Family::V4.backend(n)].map(|address| SocketAddr::new(address, PORT));
        CrowdServer::start(host, host.name(), &at)
    });
    let _servers = servers.collect::<Result<Vec<_>>>()?;
    let backends =
        (0..site.topology.backends.len()).map(|n| (SocketAddr::new(Family::V4.backend(n), PORT), 1));
    let mut config = DaemonConfig::standard().service("crowd", "tcp", vip, &backends.collect::<Vec<_>>());
    config.value["listeners"][0]["forward"]["mode"] = json!(mode);
    let daemon = Daemon::start(&site.topology.balancer, &config)?;
    // What backends answer to the flood's sources ends at the router.
    let blackhole = format!("route add blackhole {}", SynFlood::SOURCES);
    site.topology.router.ip(&blackhole)?;
    let crowd = Crowd::start(&site.topology.client, vip, arguments.connections, PACE)?;
    crowd.open(arguments.connections)?;
    crowd.wait_for_rounds(2)?;
    let mut row = Row {
        mode,
        goodput: Default::default(),
        flood: Default::default(),
        busy: Series::default(),
        entries: [entries(&daemon)?, 0],
        dropped: 0,
    };
    let bounds = Bounds {
        per_second: arguments.rate,
        cpu: Some(flood_cpu),
    };
    for _ in 0..arguments.rounds {
        thread::sleep(RUN_UP);
        row.goodput[0].push(window(|| crowd.rounds()));
        let flood = SynFlood::start_within(&site.topology.client, vip, u64::MAX, bounds)?;
        thread::sleep(RUN_UP);
        let before = (opened(&daemon)?, flood.sent(), flood.cpu_time(), Instant::now());
        row.goodput[1].push(window(|| crowd.rounds()));
        let took = before.3.elapsed().as_secs_f64();
        row.flood[0].push((flood.sent() - before.1) as f64 / took);
        row.flood[1].push((opened(&daemon)? - before.0) as f64 / took);
        row.busy.push((flood.cpu_time() - before.2).as_secs_f64() / took);
    }
    row.entries[1] = entries(&daemon)?;
    for reason in ["flow_table_full", "port_exhausted"] {
        row.dropped += daemon.drops(reason)?;
    }
    let lost = crowd.lost();
    ensure!(lost.is_empty(), "connections were lost: {lost:?}");
    Ok(row)
}

/// Gives every interface a queue for each CPU, as a network card has them: with one alone, a burst of the flood fills it and the
/// crowd's packets are dropped on their way to the balancer (`veth_xmit` in the kernel's drivers/net/veth.c). A CPU sends by
/// its own queue, and what comes by a queue is forwarded by the one of the same number.
fn queue_per_cpu(topology: &Topology, cpus: &[usize]) -> Result<()> {
    let hosts = [
        &topology.client,
        &topology.router,
        &topology.balancer,
        &topology.segment,
    ];
    let mut interfaces = Vec::new();
    for host in hosts.into_iter().chain(&topology.backends) {
        let shown = host.execute("ip -br link show type veth")?;
        let names = shown.lines().filter_map(|line| line.split(['@', ' ']).next());
        interfaces.extend(names.map(|name| (host, name.to_owned())));
    }
    // An XDP program wants as many queues to receive by as the other end sends by, at all times.
    for direction in ["rx", "tx"] {
        for (host, name) in &interfaces {
            host.execute(&format!("ethtool -L {name} {direction} {}", cpus.len()))?;
        }
    }
    for (host, name) in &interfaces {
        let masks = cpus.iter().enumerate().map(|(queue, cpu)| {
            let mask = 1_u128 << cpu;
            format!("echo {mask:x} > /sys/class/net/{name}/queues/tx-{queue}/xps_cpus\n")
        });
        let script = format!("mount -t sysfs sysfs /sys\n{}", masks.collect::<String>());
        let mut shell = host.command("unshare")?;
        let finished = Finished::run(shell.args(["--mount", "sh", "-ec", &script]), "")?;
        finished
            .success()
            .with_context(|| format!("queues of {name} on {}", host.name()))?;
    }
    Ok(())
}

/// How much something grew in a window, a second.
fn window(count: impl Fn() -> u64) -> f64 {
    let (before, begin) = (count(), Instant::now());
    thread::sleep(WINDOW);
    (count() - before) as f64 / begin.elapsed().as_secs_f64()
}

/// SYNs that were forwarded.
fn opened(daemon: &Daemon) -> Result<u64> {
    let status = daemon.status()?;
    let flows = status["services"][0]["counters"]["flows"].as_u64();
    flows.with_context(|| format!("no counters in {status}"))
}

/// Entries of both flow tables.
fn entries(daemon: &Daemon) -> Result<usize> {
    let map = |name: &str| -> Result<Map> {
        let path = daemon.pin(name);
        let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Map::HashMap(data))
    };
    let tracked: HashMap<MapData, FlowKey, TrackedFlow> = map("tracked_flows")?.try_into()?;
    let translated: HashMap<MapData, FlowKey, FlowValue> = map("flows")?.try_into()?;
    Ok(tracked.keys().count() + translated.keys().count())
}

impl Row {
    fn ratio(&self) -> Series {
        self.goodput[1].over(&self.goodput[0])
    }

    fn json(&self) -> Value {
        json!({
            "mode": self.mode,
            "exchanges_per_second_without": self.goodput[0].json(),
            "exchanges_per_second_with": self.goodput[1].json(),
            "ratio": self.ratio().json(),
            "syns_per_second_sent": self.flood[0].json(),
            "syns_per_second_forwarded": self.flood[1].json(),
            "flood_cpu_share": self.busy.json(),
            "entries_before": self.entries[0],
            "entries_after": self.entries[1],
            "syns_dropped": self.dropped,
        })
    }
}

fn show(rows: &[Row], arguments: &FloodArgs) {
    println!(
        "\nA SYN flood from random sources and {} established connections; median (range)",
        arguments.connections
    );
    let cells = |row: &Row| {
        vec![
            row.mode.to_owned(),
            row.goodput[0].shown(0),
            row.goodput[1].shown(0),
            row.ratio().shown(3),
            row.flood[0].shown(0),
            row.flood[1].shown(0),
            format!("{:.0} %", 100.0 * row.busy.median()),
            format!("{} → {}", row.entries[0], row.entries[1]),
            row.dropped.to_string(),
        ]
    };
    report::table(
        &[
            "mode",
            "exchanges/s without",
            "with",
            "ratio",
            "SYN/s sent",
            "forwarded",
            "flood's CPU",
            "flow entries",
            "SYN dropped",
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
}
