//! Packets per second over veth: the balancer beside the kernel's own NAT by nftables.
//!
//! A generator sends frames by XDP's live-frame test run from one CPU into a veth pair whose other
//! end is the forwarder's; a receiver at the far end of a second pair counts what arrives
//! translated. The forwarder's veth is polled by a kernel thread (threaded NAPI) that has a CPU
//! to itself, so its work and nothing else happens there; generator and receiver share the other.
//! What can't be forwarded is lost in front of the forwarder.
//!
//! Both forwarders translate destination and source and keep a table of flows, both tables new, and
//! flows take turns in the order in which they were opened: cache misses are fewer than after
//! months of use, for both (bench/cost.rs measures a used table). Frames come as they
//! do from a driver: where an XDP program redirects them no skb is ever made, and for the stack
//! veth makes one a frame, as drivers do. The floor rewrites and redirects with nothing decided:
//! what it costs is veth's and XDP's part of Weir's number.

use super::{
    L4Args,
    frames::{self, Shape},
    network::{self, Namespace},
    programs::{Programs, Traffic},
    report::{self, Series},
    site::{self, BACKENDS, MACS, Site},
    subject::{self, Balancer, Serving},
};
use anyhow::{Result, bail};
use rustix::process::Pid;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

const FLOWS: [u32; 3] = [1, 1_024, 65_536];
const MAX_FLOWS: u32 = 131_072;
/// One measurement.
const WINDOW: Duration = Duration::from_millis(500);
/// Before it: handing the generator to the kernel takes some tens of milliseconds, in which
/// nothing is sent, and the first packets open the flows.
const RUN_UP: Duration = Duration::from_millis(150);

/// Measures and prints a table.
///
/// # Errors
/// When the lab can't be set up, or nothing arrives translated.
pub fn run(arguments: &L4Args) -> Result<Value> {
    let cpus = network::cpus()?;
    match cpus[..] {
        [ends, forwarder, ..] => measure(arguments, ends, forwarder),
        _ => bail!("packets per second need two CPUs: one for the ends, one for the forwarder"),
    }
}

fn measure(arguments: &L4Args, ends_cpu: usize, forwarder_cpu: usize) -> Result<Value> {
    let ends = Namespace::new("ends")?;
    let floor = Site::new(&ends, "floor")?;
    let nftables = Site::new(&ends, "nft")?;
    let weir = Site::new(&ends, "weir")?;
    nftables.translate()?;
    let interfaces = weir.inner_names();
    let _balancer = weir.namespace.inside(|| {
        Balancer::open(
            "forwarding",
            &[&interfaces[0], &interfaces[1]],
            &Serving::nat(BACKENDS, MAX_FLOWS),
        )
    })?;
    let mut programs = Programs::load()?;
    floor.namespace.inside(|| {
        let [arriving, leaving] = floor.inner_names();
        programs.forward(&arriving, network::ifindex(&leaving)?)
    })?;
    let rows = ends.inside(|| {
        network::pin(None, ends_cpu)?;
        let mut subjects = Vec::new();
        for site in [&floor, &nftables, &weir] {
            let [generator, receiver] = site.outer_names();
            programs.receive(&receiver, subject::BACKEND_PORT)?;
            subjects.push(Subject {
                generator: network::ifindex(&generator)?,
                thread: site.own_threads(ends_cpu, forwarder_cpu)?,
            });
        }
        rows(arguments.rounds, &mut programs, &subjects)
    })?;
    show(&rows);
    Ok(json!({
        "what": "packets that arrive translated, forwarder on one CPU, UDP over IPv4, full NAT",
        "frame_bytes": frames::LENGTH,
        "backends": BACKENDS,
        "cases": rows.iter().map(Row::json).collect::<Vec<_>>(),
    }))
}

/// What is measured, as the ends see it.
struct Subject {
    /// The interface that packets are sent by.
    generator: u32,
    /// The kernel thread that forwards them.
    thread: Pid,
}

/// One forwarder's numbers for a number of flows.
#[derive(Default)]
struct Numbers {
    /// Million packets per second that arrived translated.
    mpps: Series,
    /// The forwarder's CPU time for each of them, in nanoseconds.
    cpu_ns: Series,
    /// Share of the time in which the forwarder's thread ran.
    busy: Series,
}

/// The forwarders in the order they take turns in.
const NAMES: [&str; 3] = ["floor: XDP, fixed rewrite", "nftables", "Weir"];

/// All forwarders' numbers for a number of flows.
struct Row {
    flows: u32,
    numbers: [Numbers; 3],
}

fn rows(rounds: usize, programs: &mut Programs, subjects: &[Subject]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for flows in FLOWS {
        let mut numbers = [Numbers::default(), Numbers::default(), Numbers::default()];
        for _ in 0..rounds {
            for (subject, numbers) in subjects.iter().zip(&mut numbers) {
                one(programs, subject, flows, numbers)?;
            }
        }
        rows.push(Row { flows, numbers });
    }
    Ok(rows)
}

/// What has happened up to a moment.
struct Moment {
    at: Instant,
    received: [u64; 2],
    ran: u64,
}

impl Moment {
    fn now(programs: &Programs, thread: Pid) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            received: programs.received()?,
            ran: site::runtime(thread)?,
        })
    }
}

/// One measurement of one forwarder.
fn one(programs: &mut Programs, subject: &Subject, flows: u32, numbers: &mut Numbers) -> Result<()> {
    let client = SocketAddr::new(Ipv4Addr::new(198, 18, 0, 0).into(), frames::CLIENT_PORT);
    let frame = frames::frame(Shape::Udp4, MACS, client, subject::VIPS[0], false)?;
    let traffic = Traffic {
        frame,
        shape: Shape::Udp4,
        first: 0,
        flows,
    };
    programs.send(&traffic, subject.generator)?;
    let [before, after] = while_sending(programs, subject.thread)?;
    let [packets, strangers] = [0, 1].map(|index| after.received[index] - before.received[index]);
    if packets == 0 || strangers > 0 {
        bail!("{packets} packets arrived translated, {strangers} untranslated");
    }
    let (packets, ran, time) = (
        packets as f64,
        (after.ran - before.ran) as f64,
        after.at - before.at,
    );
    numbers.mpps.push(packets / time.as_secs_f64() / 1e6);
    numbers.cpu_ns.push(ran / packets);
    numbers.busy.push(ran / time.as_nanos() as f64);
    Ok(())
}

/// The moments at a window's ends, with packets being sent before, within and after.
fn while_sending(programs: &Programs, thread: Pid) -> Result<[Moment; 2]> {
    // A run sends a number of packets, not for a time, and has to be one run: between two there is
    // a pause. How many packets fill the window is found by trying.
    for count in (0..8).map(|doublings| 500_000_u32 << doublings) {
        let moments = std::thread::scope(|scope| {
            let sending = scope.spawn(|| programs.generate(count));
            std::thread::sleep(RUN_UP);
            let before = Moment::now(programs, thread)?;
            std::thread::sleep(WINDOW);
            let after = Moment::now(programs, thread)?;
            let enough = !sending.is_finished();
            match sending.join() {
                Ok(sent) => sent?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok::<_, anyhow::Error>(enough.then_some([before, after]))
        })?;
        if let Some(moments) = moments {
            return Ok(moments);
        }
    }
    bail!("the generator is too fast for the window")
}

impl Row {
    /// How many times as many packets Weir forwards in the same CPU time.
    fn ratio(&self) -> Series {
        let [_, nftables, weir] = &self.numbers;
        nftables.cpu_ns.over(&weir.cpu_ns)
    }

    fn json(&self) -> Value {
        let numbers = |numbers: &Numbers| {
            json!({
                "cpu_ns_per_packet": numbers.cpu_ns.json(),
                "million_packets_per_second": numbers.mpps.json(),
                "busy": numbers.busy.json(),
            })
        };
        let [floor, nftables, weir] = &self.numbers;
        json!({
            "flows": self.flows,
            "floor": numbers(floor),
            "nftables": numbers(nftables),
            "weir": numbers(weir),
            "weir_over_nftables_per_cpu_second": self.ratio().json(),
            "weir_over_nftables_as_received": weir.mpps.over(&nftables.mpps).json(),
        })
    }
}

fn show(rows: &[Row]) {
    println!(
        "Forwarding over veth, full NAT of UDP/IPv4 to {BACKENDS} backends, forwarder on one CPU; median (range)"
    );
    println!("Mpps/core: packets that arrived translated per second of the forwarder's CPU time");
    let mut cells = Vec::new();
    for row in rows {
        for (name, numbers) in NAMES.iter().zip(&row.numbers) {
            let ratio = if *name == "Weir" {
                row.ratio().shown(1) + "×"
            } else {
                String::new()
            };
            cells.push(vec![
                format!("{} flows, {name}", row.flows),
                format!("{:.2}", 1e3 / numbers.cpu_ns.median()),
                numbers.cpu_ns.shown(0),
                numbers.mpps.shown(2),
                format!("{:.0} %", 100.0 * numbers.busy.median()),
                ratio,
            ]);
        }
    }
    let head = [
        "forwarder",
        "Mpps/core",
        "CPU ns/packet",
        "received Mpps",
        "busy",
        "Weir/nftables",
    ];
    report::table(&head, &cells);
}
