//! Packets per second over veth: the balancer beside the kernel's own NAT by nftables.
//!
//! A generator sends frames by XDP's live-frame test run from one CPU into a veth pair whose other
//! end is the forwarder's; a receiver at the far end of a second pair counts what arrives
//! translated. The forwarder's veth is polled by a kernel thread (threaded NAPI) that has a CPU
//! to itself, so its work and nothing else happens there; generator and receiver share the
//! other. The generator sends more than either forwarder can take; what is lost is lost in front
//! of the forwarder. Both forwarders translate destination and source, and keep a flow table.

use super::{
    L4Args,
    frames::{self, Shape},
    network::{self, Namespace},
    programs::{Programs, Traffic},
    report::{self, Series},
    subject::{self, Balancer},
};
use crate::shell;
use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use serde_json::{Value, json};
use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

const BACKENDS: usize = 4;
const FLOWS: [u32; 3] = [1, 1_024, 65_536];
const MAX_FLOWS: u32 = 131_072;
/// One measurement.
const WINDOW: Duration = Duration::from_millis(700);
/// Before it: handing the generator to the kernel takes some tens of milliseconds, in which
/// nothing is sent, and the first packets open the flows.
const RUN_UP: Duration = Duration::from_millis(200);

/// MACs of the ends' and the forwarder's side, on both pairs.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

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
    let weir = Site::new(&ends, "weir")?;
    let nftables = Site::new(&ends, "nft")?;
    let names = [weir.inner_names(), nftables.inner_names()];
    let _balancer = weir
        .namespace
        .inside(|| Balancer::open("forwarding", &[&names[0][0], &names[0][1]], BACKENDS, MAX_FLOWS))?;
    nftables.translate()?;
    let sites = [&weir, &nftables];
    let rows = ends.inside(|| {
        network::pin(None, ends_cpu)?;
        let mut programs = Programs::load()?;
        for site in sites {
            programs.receive(&site.outer_names()[1], subject::BACKEND_PORT)?;
        }
        let threads = [
            weir.own_threads(ends_cpu, forwarder_cpu)?,
            nftables.own_threads(ends_cpu, forwarder_cpu)?,
        ];
        let generators = sites.map(|site| site.outer_names()[0].clone());
        rows(arguments.rounds, &mut programs, &generators, threads)
    })?;
    show(&rows);
    Ok(json!({
        "what": "packets that arrive translated, forwarder on one CPU, UDP over IPv4, full NAT",
        "frame_bytes": frames::LENGTH,
        "backends": BACKENDS,
        "cases": rows.iter().map(Row::json).collect::<Vec<_>>(),
    }))
}

/// A forwarder's namespace between two veth pairs.
struct Site {
    namespace: Namespace,
    role: &'static str,
}

impl Site {
    fn new(ends: &Namespace, role: &'static str) -> Result<Self> {
        let this = Self {
            namespace: Namespace::new(role)?,
            role,
        };
        for (outer, inner) in this.outer_names().iter().zip(&this.inner_names()) {
            ends.connect(outer, &this.namespace, inner, MACS)?;
            // NAPI on both ends: without an XDP program veth has it only with GRO on.
            ends.shell(&format!(
                "ethtool -K {outer} gro on; echo 1 > /sys/class/net/{outer}/threaded"
            ))?;
            this.namespace.shell(&format!(
                "ethtool -K {inner} gro on; echo 1 > /sys/class/net/{inner}/threaded"
            ))?;
        }
        let [arriving, leaving] = this.inner_names();
        this.namespace.shell(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; \
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        )?;
        this.namespace
            .ip(&format!("addr add 192.0.2.1/24 dev {arriving}"))?;
        this.namespace.ip("route add 198.18.0.0/15 via 192.0.2.2")?;
        let mac = "02:00:00:00:00:01";
        this.namespace.ip(&format!(
            "neigh add 192.0.2.2 lladdr {mac} dev {arriving} nud permanent"
        ))?;
        this.namespace
            .ip(&format!("addr add {}/24 dev {leaving}", subject::NAT_SOURCES.0))?;
        this.namespace.ip(&format!(
            "addr add {}/64 dev {leaving} nodad",
            subject::NAT_SOURCES.1
        ))?;
        for address in (0..BACKENDS).flat_map(subject::backend) {
            this.namespace.ip(&format!(
                "neigh add {address} lladdr {mac} dev {leaving} nud permanent"
            ))?;
        }
        Ok(this)
    }

    /// Interfaces at the ends: the generator's and the receiver's. Unique on the machine, since
    /// kernel threads are told apart by them.
    fn outer_names(&self) -> [String; 2] {
        let initial = &self.role[..1];
        ["g", "r"].map(|end| format!("{initial}{end}{}", std::process::id()))
    }

    /// Interfaces of the forwarder: packets arrive by the first and leave by the second.
    fn inner_names(&self) -> [String; 2] {
        let initial = &self.role[..1];
        ["a", "l"].map(|end| format!("{initial}{end}{}", std::process::id()))
    }

    /// The kernel's own NAT: the same service, backends and translation, in the usual rules.
    fn translate(&self) -> Result<()> {
        let leaving = &self.inner_names()[1];
        let (vip, port) = (subject::VIPS[0].ip(), subject::VIPS[0].port());
        let backends: Vec<String> = (0..BACKENDS)
            .map(|index| format!("{index} : {}", subject::backend(index)[0]))
            .collect();
        let rules = format!(
            "table ip nat {{
               chain prerouting {{
                 type nat hook prerouting priority dstnat;
                 ip daddr {vip} udp dport {port} dnat to numgen inc mod {BACKENDS} map {{ {} }} : {}
               }}
               chain postrouting {{
                 type nat hook postrouting priority srcnat;
                 oifname {leaving} masquerade
               }}
             }}",
            backends.join(", "),
            subject::BACKEND_PORT,
        );
        self.namespace.shell(&format!("nft '{rules}'"))
    }

    /// Gives the kernel threads that poll this site's interfaces their CPUs, and returns the one
    /// that forwards.
    fn own_threads(&self, ends_cpu: usize, forwarder_cpu: usize) -> Result<Pid> {
        let [_, receiver] = self.outer_names();
        let receiver = napi_thread(&receiver)?;
        let forwarder = napi_thread(&self.inner_names()[0])?;
        for (thread, cpu) in [(receiver, ends_cpu), (forwarder, forwarder_cpu)] {
            network::pin(Some(thread), cpu)?;
            // The receiver shares its CPU with the generator. Run at once whenever something
            // arrives, it keeps up; in turns of milliseconds, veth's ring of 256 frames would
            // overflow. The forwarder is kept from sharing its CPU with whatever else runs here.
            let id = thread.as_raw_nonzero().to_string();
            shell::run(&mut shell::command("chrt", &["--fifo", "--pid", "1", &id]))?;
        }
        Ok(forwarder)
    }
}

/// The kernel thread that polls an interface; its name starts with `napi/INTERFACE-`.
fn napi_thread(interface: &str) -> Result<Pid> {
    // Names of kernel threads are cut off at 15 characters.
    let wanted: String = format!("napi/{interface}-").chars().take(15).collect();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with(&wanted) {
            let id = path
                .file_name()
                .and_then(|id| id.to_str())
                .and_then(|id| id.parse().ok());
            return id.and_then(Pid::from_raw).context("a process without a number");
        }
    }
    bail!("{interface} has no NAPI thread: does this kernel have threaded NAPI (5.12 or later)?")
}

/// Nanoseconds a thread has been on a CPU (Documentation/scheduler/sched-stats.rst).
fn runtime(thread: Pid) -> Result<u64> {
    let path = format!("/proc/{}/schedstat", thread.as_raw_nonzero());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .context("schedstat without numbers")
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

struct Row {
    flows: u32,
    weir: Numbers,
    nftables: Numbers,
}

fn rows(
    rounds: usize,
    programs: &mut Programs,
    generators: &[String; 2],
    threads: [Pid; 2],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for flows in FLOWS {
        let mut row = Row {
            flows,
            weir: Numbers::default(),
            nftables: Numbers::default(),
        };
        for _ in 0..rounds {
            for (index, numbers) in [&mut row.weir, &mut row.nftables].into_iter().enumerate() {
                one(programs, &generators[index], threads[index], flows, numbers)?;
            }
        }
        rows.push(row);
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
            ran: runtime(thread)?,
        })
    }
}

/// One measurement of one forwarder.
fn one(
    programs: &mut Programs,
    generator: &str,
    thread: Pid,
    flows: u32,
    numbers: &mut Numbers,
) -> Result<()> {
    let client = Ipv4Addr::new(198, 18, 0, 0).into();
    let frame = frames::frame(Shape::Udp4, MACS, client, subject::VIPS[0], false)?;
    let traffic = Traffic {
        frame,
        shape: Shape::Udp4,
        first: 0,
        flows,
    };
    programs.send(&traffic, network::ifindex(generator)?)?;
    let [before, after] = while_sending(programs, thread)?;
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
    fn json(&self) -> Value {
        let numbers = |numbers: &Numbers| {
            json!({
                "million_packets_per_second": numbers.mpps.json(),
                "cpu_ns_per_packet": numbers.cpu_ns.json(),
                "busy": numbers.busy.json(),
            })
        };
        json!({
            "flows": self.flows,
            "weir": numbers(&self.weir),
            "nftables": numbers(&self.nftables),
            "ratio": self.weir.mpps.over(&self.nftables.mpps).json(),
            "ratio_per_cpu_second": self.nftables.cpu_ns.over(&self.weir.cpu_ns).json(),
        })
    }
}

fn show(rows: &[Row]) {
    println!(
        "Forwarding over veth, full NAT of UDP/IPv4 to {BACKENDS} backends, forwarder on one CPU; median (range)"
    );
    let mut cells = Vec::new();
    for row in rows {
        let ratio = row.weir.mpps.over(&row.nftables.mpps);
        for (name, numbers, ratio) in [
            ("nftables", &row.nftables, None),
            ("Weir", &row.weir, Some(ratio)),
        ] {
            cells.push(vec![
                format!("{name}, {} flows", row.flows),
                numbers.mpps.shown(2),
                numbers.cpu_ns.shown(0),
                format!("{:.0} %", 100.0 * numbers.busy.median()),
                ratio.map_or(String::new(), |ratio| format!("{}×", ratio.shown(1))),
            ]);
        }
    }
    report::table(
        &["forwarder", "Mpps", "CPU ns/packet", "busy", "Weir over nftables"],
        &cells,
    );
}
