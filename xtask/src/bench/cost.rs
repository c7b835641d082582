//! Nanoseconds per packet: the balancer's XDP program by itself, through BPF_PROG_TEST_RUN.
//!
//! Each measured packet is made afresh by a stage program, which then tail-calls the program under
//! test. Two floors take the same way: one that sends the packet back as it is, and one that
//! rewrites what the balancer rewrites, with fixed values. Net of the first floor is what the
//! balancer's program costs; net of the second is what its decisions cost: parsing, lookups, the
//! flow table, the route, counting. The three take turns, so that a slow moment hits all of them.

use super::{
    L4Args,
    frames::{self, Shape},
    network::{self, Namespace},
    programs::{Programs, Traffic, XDP_PASS, XDP_TX},
    report::{self, Series},
    subject::{self, Balancer, Serving},
};
use anyhow::{Context, Result, bail};
use aya::programs::ProgramFd;
use proxy_common::limits;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The balancer's interface, which packets come in and go out by, and the other end of it.
pub const INTERFACE: &str = "in0";
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// Enough that a million flows share NAT ports at the rate of a quarter.
const BACKENDS: usize = 64;
/// New flows in one measurement of opening.
const OPENED: u32 = 20_000;
/// Packets in one measurement of established flows, at least.
const PACKETS: u32 = 200_000;
/// The table for a million flows; other cases have one of the default size.
const LARGE_TABLE: u32 = 1_300_000;

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Every packet belongs to a flow in the table.
    Established,
    /// Every packet opens a flow.
    New,
    /// Every packet comes back from a backend, of one flow in the table.
    Reply,
    /// No packet is for a VIP.
    NoVip,
}

/// One row of the report.
#[derive(Clone, Copy)]
struct Case {
    kind: Kind,
    shape: Shape,
    /// In the table before the measurement.
    flows: u32,
}

/// In order of the table's size.
const CASES: [Case; 12] = [
    Case::new(Kind::NoVip, Shape::Udp4, 0),
    Case::new(Kind::Established, Shape::Udp4, 1),
    Case::new(Kind::Reply, Shape::Udp4, 1),
    Case::new(Kind::Established, Shape::Udp4, 65_536),
    Case::new(Kind::Established, Shape::Tcp4, 65_536),
    Case::new(Kind::Established, Shape::Udp6, 65_536),
    Case::new(Kind::New, Shape::Udp4, 1),
    Case::new(Kind::New, Shape::Udp4, 65_536),
    Case::new(Kind::New, Shape::Tcp4, 65_536),
    Case::new(Kind::New, Shape::Udp6, 65_536),
    Case::new(Kind::Established, Shape::Udp4, MILLION),
    Case::new(Kind::New, Shape::Udp4, MILLION),
];

/// The table that isn't refilled between rounds: opening adds some percent to it, deleting them
/// would take seconds.
const MILLION: u32 = 1_000_000;

/// Measures all cases and prints a table.
///
/// # Errors
/// When the lab can't be set up, or the balancer does something else than forward.
pub fn run(arguments: &L4Args) -> Result<Value> {
    let namespace = lab(BACKENDS)?;
    let rows = namespace.inside(|| {
        let cpu = *network::cpus()?.last().context("no CPU")?;
        network::pin(None, cpu)?;
        let mut rows = Vec::new();
        for (max_flows, is_large) in [(limits::FLOWS, false), (LARGE_TABLE, true)] {
            let chosen =
                |case: &&Case| (case.flows == MILLION) == is_large && case.label().contains(&arguments.case);
            let mut bench = None;
            for case in CASES.iter().filter(chosen) {
                let bench = match &mut bench {
                    Some(bench) => bench,
                    None => bench.insert(Bench::new(max_flows)?),
                };
                rows.push(bench.measure(case, arguments.rounds)?);
            }
        }
        Ok(rows)
    })?;
    show(&rows);
    Ok(json!({
        "unit": "ns per packet",
        "frame_bytes": frames::LENGTH,
        "backends": BACKENDS,
        "cases": rows.iter().map(Row::json).collect::<Vec<_>>(),
    }))
}

/// One namespace with one interface; clients and backends are neighbours on it, so that the route
/// lookup of every packet succeeds.
///
/// # Errors
/// When a command fails.
pub fn lab(backends: usize) -> Result<Namespace> {
    let namespace = Namespace::new("cost")?;
    namespace.connect(INTERFACE, &namespace, "out0", MACS)?;
    namespace
        .shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")?;
    let (v4, v6) = subject::NAT_SOURCES;
    namespace.ip(&format!("addr add {v4}/24 dev {INTERFACE}"))?;
    namespace.ip(&format!("addr add {v6}/64 dev {INTERFACE} nodad"))?;
    // Clients are behind one of the neighbours.
    let gateway = subject::backend(0)[0];
    namespace.ip(&format!("route add 198.18.0.0/15 via {gateway} dev {INTERFACE}"))?;
    for address in (0..backends).flat_map(subject::backend) {
        namespace.ip(&format!(
            "neigh add {address} lladdr 02:00:00:00:00:02 dev {INTERFACE} nud permanent"
        ))?;
    }
    Ok(namespace)
}

impl Case {
    const fn new(kind: Kind, shape: Shape, flows: u32) -> Self {
        Self { kind, shape, flows }
    }

    fn label(&self) -> String {
        let (shape, flows) = (self.shape.label(), self.flows);
        match self.kind {
            Kind::Established => format!("{shape}, established, {flows} flows"),
            Kind::New => format!("{shape}, new, beside {flows} flows"),
            Kind::Reply => format!("{shape}, reply, {flows} flows"),
            Kind::NoVip => format!("{shape}, not for a VIP"),
        }
    }
}

/// Everything that is loaded.
struct Bench {
    programs: Programs,
    balancer: Balancer,
    /// Bare transmit, rewrite without lookups, the balancer.
    subjects: [ProgramFd; 3],
    ifindex: u32,
    /// Flows in the balancer's table, and their shape: numbered from 0.
    filled: (Shape, u32),
}

impl Bench {
    fn new(max_flows: u32) -> Result<Self> {
        let mut programs = Programs::load()?;
        let balancer = Balancer::open("cost", &[INTERFACE], &Serving::nat(BACKENDS, max_flows))?;
        let subjects = [
            programs.floor("bench_floor_tx")?,
            programs.floor("bench_floor_rewrite")?,
            balancer.program()?,
        ];
        let ifindex = network::ifindex(INTERFACE)?;
        let mut this = Self {
            programs,
            balancer,
            subjects,
            ifindex,
            filled: (Shape::Udp4, 0),
        };
        this.use_up(max_flows / 4 * 3)?;
        Ok(this)
    }

    /// Opens many flows and forgets them. In a fresh table, flows that are opened in turn lie in
    /// turn in memory, and packets that come in the same turn find them in the cache as no real
    /// traffic does. Entries that are used again come in the order of their old hashes.
    fn use_up(&mut self, flows: u32) -> Result<()> {
        self.fill(&Case::new(Kind::Established, Shape::Udp4, flows))?;
        self.fill(&Case::new(Kind::Established, Shape::Udp4, 0))
    }

    /// Measures a case: in each round the floors and the balancer once.
    fn measure(&mut self, case: &Case, rounds: usize) -> Result<Row> {
        let mut series = [Series::default(), Series::default(), Series::default()];
        for round in 0..rounds {
            if round == 0 || case.kind == Kind::New && case.flows < MILLION {
                self.fill(case)?;
            }
            let (first, flows, count) = match case.kind {
                Kind::New => (self.filled.1, u32::MAX, OPENED),
                _ => (0, case.flows.max(1), case.flows.max(PACKETS)),
            };
            let traffic = self.traffic(case, first, flows)?;
            for (index, series) in series.iter_mut().enumerate() {
                if index == 1 && case.shape == Shape::Udp6 {
                    continue;
                }
                series.push(self.time(index, &traffic, count, case.kind)?);
            }
            if case.kind == Kind::New {
                self.filled.1 += OPENED;
            }
        }
        Ok(Row { case: *case, series })
    }

    /// The packets of a case.
    fn traffic(&self, case: &Case, first: u32, flows: u32) -> Result<Traffic> {
        if case.kind != Kind::Reply {
            return from_client(case, first, flows);
        }
        let [from, to] = self.balancer.reply()?;
        let frame = frames::frame(case.shape, [MACS[1], MACS[0]], from, to, false)?;
        Ok(Traffic {
            frame,
            shape: case.shape,
            first,
            flows,
        })
    }

    /// Nanoseconds per packet of one run; for the balancer, checks that it did what is claimed.
    fn time(&mut self, index: usize, traffic: &Traffic, count: u32, kind: Kind) -> Result<f64> {
        let is_balancer = index == 2;
        let verdict = if is_balancer && kind == Kind::NoVip {
            XDP_PASS
        } else {
            XDP_TX
        };
        self.programs.send(traffic, self.ifindex)?;
        let before = self.balancer.totals()?;
        let time = self
            .programs
            .time(&self.subjects[index], self.ifindex, count, verdict)?;
        let after = self.balancer.totals()?;
        let did = [0, 1, 2, 3].map(|total| after[total] - before[total]);
        let count = u64::from(count);
        let expected = match kind {
            _ if !is_balancer => [0; 4],
            Kind::Established => [count, 0, 0, 0],
            Kind::Reply => [0, count, 0, 0],
            Kind::New => [count, 0, count, 0],
            Kind::NoVip => [0; 4],
        };
        if did != expected {
            bail!(
                "packets and replies forwarded, flows opened, packets dropped: {did:?} instead of {expected:?}"
            );
        }
        Ok(time.as_nanos() as f64)
    }

    /// Makes the table hold the case's flows and no others.
    fn fill(&mut self, case: &Case) -> Result<()> {
        let flows = case.flows;
        if self.filled == (case.shape, flows) {
            return Ok(());
        }
        self.balancer.clear_flows()?;
        if flows > 0 {
            let traffic = from_client(case, 0, flows)?;
            self.programs.send(&traffic, self.ifindex)?;
            self.programs
                .time(&self.subjects[2], self.ifindex, flows, XDP_TX)?;
        }
        self.filled = (case.shape, flows);
        Ok(())
    }
}

/// Packets from clients.
fn from_client(case: &Case, first: u32, flows: u32) -> Result<Traffic> {
    let (client, vip): (IpAddr, SocketAddr) = match case.shape {
        Shape::Udp6 => (
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0).into(),
            subject::VIPS[1],
        ),
        Shape::Udp4 | Shape::Tcp4 => (Ipv4Addr::new(198, 18, 0, 0).into(), subject::VIPS[0]),
    };
    let to = if case.kind == Kind::NoVip {
        SocketAddr::new(Ipv4Addr::new(192, 0, 2, 99).into(), 53)
    } else {
        vip
    };
    let client = SocketAddr::new(client, frames::CLIENT_PORT);
    let frame = frames::frame(case.shape, [MACS[1], MACS[0]], client, to, case.kind == Kind::New)?;
    Ok(Traffic {
        frame,
        shape: case.shape,
        first,
        flows,
    })
}

/// A measured case.
struct Row {
    case: Case,
    series: [Series; 3],
}

impl Row {
    fn json(&self) -> Value {
        let [transmit, rewrite, balancer] = &self.series;
        json!({
            "case": self.case.label(),
            "flows": self.case.flows,
            "floor_transmit": transmit.json(),
            "floor_rewrite": rewrite.json(),
            "balancer": balancer.json(),
            "net_of_transmit": balancer.minus(transmit).median(),
            "net_of_rewrite": balancer.minus(rewrite).median(),
        })
    }
}

fn show(rows: &[Row]) {
    println!("Nanoseconds per packet: BPF_PROG_TEST_RUN, one CPU, each packet made afresh; median (range)");
    println!("The flow table has been in use: its free entries are scattered in memory.");
    let cells = |row: &Row| {
        let [transmit, rewrite, balancer] = &row.series;
        let net = |floor: &Series| match balancer.minus(floor).median() {
            value if value.is_nan() => "–".to_owned(),
            value => format!("{value:.0}"),
        };
        let rewrite_shown = if rewrite.median().is_nan() {
            "–".to_owned()
        } else {
            rewrite.shown(0)
        };
        vec![
            row.case.label(),
            transmit.shown(0),
            rewrite_shown,
            balancer.shown(0),
            net(transmit),
            net(rewrite),
        ]
    };
    report::table(
        &[
            "packets",
            "floor: TX",
            "floor: rewrite",
            "balancer",
            "net of TX",
            "net of rewrite",
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
}
