//! Nanoseconds per packet of direct server return, in Katran's shape of work: one service, 100 backends, 65,537 slots.
//!
//! As in `cost`: each packet is made afresh by a stage program, which takes away the outer headers of the one before,
//! then tail-calls the balancer or the floor that sends it back as it is.

use super::{
    L4Args,
    cost::{INTERFACE, MACS, lab},
    frames::{self, Shape},
    network,
    programs::{Programs, Traffic, XDP_PASS, XDP_TX},
    report::{self, Series},
    subject::{self, Balancer, Serving},
};
use anyhow::{Context, Result, bail};
use aya::programs::{ProgramFd, ProgramInfo};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use weir::model::{ForwardMode, Tracking};

const BACKENDS: usize = 100;
const MANY: u32 = 65_536;
/// Room in `tracked_flows` where all flows are stored.
const ROOM: u32 = 1 << 20;
/// Packets in one measurement.
const PACKETS: u32 = 262_144;

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Packets of this many flows in turn, none of which opens one.
    Established(u32),
    /// Every packet opens a flow.
    New,
    /// No packet is for a VIP.
    NoVip,
}

/// Rows in order; the balancer is opened anew where mode or tracking differ from the row before.
const CASES: [(ForwardMode, Tracking, Shape, Kind); 17] = [
    (ForwardMode::Ipip, Tracking::Auto, Shape::Tcp4, Kind::NoVip),
    (
        ForwardMode::Ipip,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(1),
    ),
    (
        ForwardMode::Ipip,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(MANY),
    ),
    (ForwardMode::Ipip, Tracking::Auto, Shape::Tcp4, Kind::New),
    (
        ForwardMode::Ipip,
        Tracking::Auto,
        Shape::Udp4,
        Kind::Established(MANY),
    ),
    (ForwardMode::Ipip, Tracking::Auto, Shape::Udp6, Kind::NoVip),
    (
        ForwardMode::Ipip,
        Tracking::Auto,
        Shape::Udp6,
        Kind::Established(1),
    ),
    (
        ForwardMode::Ipip,
        Tracking::Auto,
        Shape::Udp6,
        Kind::Established(MANY),
    ),
    (
        ForwardMode::Ipip,
        Tracking::Always,
        Shape::Tcp4,
        Kind::Established(1),
    ),
    (
        ForwardMode::Ipip,
        Tracking::Always,
        Shape::Tcp4,
        Kind::Established(MANY),
    ),
    (ForwardMode::Ipip, Tracking::Always, Shape::Tcp4, Kind::New),
    (
        ForwardMode::Gue,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(1),
    ),
    (
        ForwardMode::Gue,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(MANY),
    ),
    (
        ForwardMode::Gue,
        Tracking::Auto,
        Shape::Udp6,
        Kind::Established(MANY),
    ),
    (
        ForwardMode::DsrL2,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(1),
    ),
    (
        ForwardMode::DsrL2,
        Tracking::Auto,
        Shape::Tcp4,
        Kind::Established(MANY),
    ),
    (
        ForwardMode::DsrL2,
        Tracking::Auto,
        Shape::Udp6,
        Kind::Established(MANY),
    ),
];

struct Row {
    label: String,
    /// The floor, the bare program, the balancer.
    series: [Series; 3],
}

/// Measures all cases and prints a table.
///
/// # Errors
/// When the lab can't be set up, or the balancer does something else than forward.
pub fn run(arguments: &L4Args) -> Result<Value> {
    let namespace = lab(BACKENDS)?;
    let (rows, instructions) = namespace.inside(|| {
        let cpu = *network::cpus()?.last().context("no CPU")?;
        network::pin(None, cpu)?;
        let mut rows = Vec::new();
        let mut bench: Option<Bench> = None;
        let mut instructions = Vec::new();
        for case in CASES.iter().filter(|case| label(case).contains(&arguments.case)) {
            if bench
                .as_ref()
                .is_none_or(|bench| bench.serves != (case.0, case.1))
            {
                // Its interface has room for one balancer.
                drop(bench.take());
                bench = Some(Bench::new(case.0, case.1)?);
            }
            let Some(bench) = &mut bench else { continue };
            instructions = bench.balancer.instructions()?;
            rows.push(bench.measure(case, arguments.rounds)?);
        }
        Ok((rows, instructions))
    })?;
    show(&rows, &instructions);
    Ok(json!({
        "unit": "ns per packet, net of a floor that sends it back",
        "backends": BACKENDS,
        "cases": rows.iter().map(|row| json!({
            "case": row.label,
            "floor": row.series[0].json(),
            "bare": row.series[1].json(),
            "balancer": row.series[2].json(),
            "bare_net": row.series[1].minus(&row.series[0]).median(),
            "net": row.series[2].minus(&row.series[0]).median(),
        })).collect::<Vec<_>>(),
        "instructions": instructions.iter().map(|(name, count)| json!({"program": name, "instructions": count})).collect::<Vec<_>>(),
    }))
}

fn label((mode, tracking, shape, kind): &(ForwardMode, Tracking, Shape, Kind)) -> String {
    let shape = shape.label();
    let tracking = if *tracking == Tracking::Always {
        ", tracking: always"
    } else {
        ""
    };
    match kind {
        Kind::Established(flows) => format!("{mode}{tracking}, {shape}, {flows} flows"),
        Kind::New => format!("{mode}{tracking}, {shape}, every packet a new flow"),
        Kind::NoVip => format!("{shape}, not for a VIP"),
    }
}

struct Bench {
    programs: Programs,
    balancer: Balancer,
    /// The floor, the bare program, the balancer.
    subjects: [ProgramFd; 3],
    ifindex: u32,
    serves: (ForwardMode, Tracking),
    /// The next flow that was never seen.
    unseen: u32,
}

impl Bench {
    fn new(mode: ForwardMode, tracking: Tracking) -> Result<Self> {
        let serving = Serving {
            backends: BACKENDS,
            mode,
            tracking,
            max_flows: ROOM,
        };
        let balancer = Balancer::open("direct", &[INTERFACE], &serving)?;
        let mut programs = Programs::load_beside(Some(balancer.pin_path()))?;
        let bare = programs.floor("bench_bare_ipip")?;
        let floor = programs.floor("bench_floor_tx")?;
        let subject = balancer.program()?;
        Ok(Self {
            programs,
            balancer,
            subjects: [floor, bare, subject],
            ifindex: network::ifindex(INTERFACE)?,
            serves: (mode, tracking),
            unseen: 1 << 24,
        })
    }

    fn measure(&mut self, case: &(ForwardMode, Tracking, Shape, Kind), rounds: usize) -> Result<Row> {
        let mut series = [Series::default(), Series::default(), Series::default()];
        let kind = case.3;
        if let Kind::Established(flows) = kind {
            // Flows that are stored are so before the first round.
            self.time(2, case, 0, flows, flows.max(1_000))?;
        }
        for _ in 0..rounds {
            let (first, flows, count) = match kind {
                Kind::Established(flows) => (0, flows, PACKETS),
                Kind::NoVip => (0, MANY, PACKETS),
                Kind::New => (self.unseen, u32::MAX, MANY),
            };
            for (index, series) in series.iter_mut().enumerate() {
                let is_bare = index == 1;
                // It knows IPv4 in IPv4 and nothing else.
                if is_bare && (case.0 != ForwardMode::Ipip || case.2 == Shape::Udp6 || kind == Kind::NoVip) {
                    continue;
                }
                series.push(self.time(index, case, first, flows, count)?);
            }
            if kind == Kind::New {
                self.unseen += MANY;
            }
        }
        Ok(Row {
            label: label(case),
            series,
        })
    }

    /// Nanoseconds per packet; for the balancer, checks that all were forwarded.
    fn time(
        &mut self,
        subject: usize,
        case: &(ForwardMode, Tracking, Shape, Kind),
        first: u32,
        flows: u32,
        count: u32,
    ) -> Result<f64> {
        let (_, _, shape, kind) = *case;
        self.programs
            .send(&traffic(shape, kind, first, flows)?, self.ifindex)?;
        let is_balancer = subject == 2;
        let verdict = if is_balancer && kind == Kind::NoVip {
            XDP_PASS
        } else {
            XDP_TX
        };
        let before = self.balancer.totals()?;
        let time = self
            .programs
            .time(&self.subjects[subject], self.ifindex, count, verdict)?;
        let after = self.balancer.totals()?;
        let forwarded = if is_balancer { after[0] - before[0] } else { 0 };
        let expected = if is_balancer && kind != Kind::NoVip {
            count
        } else {
            0
        };
        if forwarded != u64::from(expected) || after[3] != before[3] {
            bail!(
                "{forwarded} packets forwarded instead of {expected}, {} dropped",
                after[3] - before[3]
            );
        }
        Ok(time.as_nanos() as f64)
    }
}

fn traffic(shape: Shape, kind: Kind, first: u32, flows: u32) -> Result<Traffic> {
    let (client, vip): (IpAddr, SocketAddr) = match shape {
        Shape::Udp6 => (
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0).into(),
            subject::VIPS[1],
        ),
        Shape::Udp4 | Shape::Tcp4 => (Ipv4Addr::new(198, 18, 0, 0).into(), subject::VIPS[0]),
    };
    let to = match (kind, vip) {
        (Kind::NoVip, SocketAddr::V4(_)) => SocketAddr::new(Ipv4Addr::new(192, 0, 2, 99).into(), 53),
        (Kind::NoVip, SocketAddr::V6(_)) => {
            SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99).into(), 53)
        }
        _ => vip,
    };
    let client = SocketAddr::new(client, frames::CLIENT_PORT);
    let frame = frames::frame(shape, [MACS[1], MACS[0]], client, to, kind == Kind::New)?;
    Ok(Traffic {
        frame,
        shape,
        first,
        flows,
    })
}

impl Balancer {
    /// Instructions of every program after the verifier, as the kernel counts them.
    fn instructions(&self) -> Result<Vec<(String, u32)>> {
        let mut counts = Vec::new();
        for name in ["xdp_balancer", "tc_ingress", "tc_egress", "sk_steer"] {
            let path = self.pin_path().join("programs").join(name);
            let info =
                ProgramInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            counts.push((name.to_owned(), info.size_translated().unwrap_or(0) / 8));
        }
        Ok(counts)
    }
}

fn show(rows: &[Row], instructions: &[(String, u32)]) {
    println!(
        "\nDirect server return, nanoseconds per packet: one service, {BACKENDS} backends, 65,537 slots; median (range)"
    );
    let cells = |row: &Row| {
        let [floor, bare, balancer] = &row.series;
        let net = |series: &Series| match series.minus(floor).median() {
            value if value.is_nan() => "–".to_owned(),
            value => format!("{value:.0}"),
        };
        vec![
            row.label.clone(),
            floor.shown(0),
            balancer.shown(0),
            net(bare),
            net(balancer),
        ]
    };
    report::table(
        &["packets", "floor: TX", "balancer", "bare, net", "balancer, net"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    let counts: Vec<String> = (instructions.iter())
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("Instructions: {}", counts.join(", "));
}
