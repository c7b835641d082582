//! Interfaces that come late, go and come again, and other people's programs on them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use weir_tests::lab::{
    Daemon, DaemonConfig, Family, Finished, Host, Protocol, Running, Topology, ask_many, failures, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

const PORT: u16 = 7;

fn config(topology: &Topology) -> DaemonConfig {
    DaemonConfig::standard()
        .echo(topology, Family::V4, PORT)
        .echo(topology, Family::V6, PORT)
}

/// An interface's part of the status.
fn interface(daemon: &Daemon, name: &str) -> Result<Value> {
    let status = daemon.status()?;
    let interfaces = status["kernel"]["interfaces"].as_array().into_iter().flatten();
    let mut found = interfaces.filter(|interface| interface["name"] == name);
    found
        .next()
        .cloned()
        .with_context(|| format!("no {name} in {status}"))
}

fn wait_for(daemon: &Daemon, name: &str, xdp: &str) -> Result<Value> {
    until(&format!("{name} to be {xdp}"), LIMIT, || {
        let interface = interface(daemon, name).ok()?;
        (interface["xdp"] == xdp).then_some(interface)
    })
}

/// Waits until clients are served in both families, then expects all to be.
fn expect_service(topology: &Topology) -> Result<()> {
    for family in Family::BOTH {
        let ask = |count| ask_many(&topology.client, Protocol::Echo, Running::vip(family), count, 1);
        until(&format!("an answer over {family}"), LIMIT, || {
            failures(&ask(1)).is_empty().then_some(())
        })?;
        let attempts = ask(60);
        ensure!(
            failures(&attempts).is_empty(),
            "{family}: {:?}",
            failures(&attempts)
        );
    }
    Ok(())
}

#[test]
fn interfaces_that_come_late_or_come_again_are_attached() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(PORT)?;
    topology.balancer.ip("link del dev front\nlink del dev back")?;
    let mut daemon = Daemon::start(&topology.balancer, &config(&topology))?;
    for name in ["front", "back"] {
        let absent = interface(&daemon, name)?;
        ensure!(absent["xdp"] == "absent", "{absent}");
        let warning = absent["warning"].as_str().unwrap_or_default();
        ensure!(warning.contains("ip link"), "{absent}");
    }
    let socket = daemon.admin().socket().to_string_lossy().into_owned();
    let shown = daemon.weir(&["status", "--socket", &socket])?.success()?;
    ensure!(
        shown.contains("interfaces: front (absent), back (absent)"),
        "{shown}"
    );
    // Made one after the other, in either order, again and again.
    for round in 0..3 {
        if round % 2 == 0 {
            topology.make_back()?;
            topology.make_front()?;
        } else {
            topology.make_front()?;
            topology.make_back()?;
        }
        for name in ["front", "back"] {
            wait_for(&daemon, name, "native").with_context(|| format!("round {round}"))?;
        }
        expect_service(&topology).with_context(|| format!("round {round}"))?;
        topology.balancer.ip("link del dev front\nlink del dev back")?;
        wait_for(&daemon, "front", "absent")?;
        wait_for(&daemon, "back", "absent")?;
    }
    daemon.check()
}

#[test]
fn one_made_anew_between_two_looks_is_attached_and_its_old_links_are_gone() -> Result<()> {
    let running = Running::start()?;
    let links = running.ids("link", &running.daemon.pin("links"))?;
    running.topology.balancer.ip("link del dev front")?;
    running.topology.make_front()?;
    expect_service(&running.topology)?;
    let after = until("all links", LIMIT, || {
        let after = running.ids("link", &running.daemon.pin("links")).ok()?;
        (after.len() == links.len()).then_some(after)
    })?;
    for ((path, before), (_, after)) in links.iter().zip(&after) {
        let is_of_front = path.to_string_lossy().contains("/front-");
        ensure!(
            (before != after) == is_of_front,
            "{}: {before} became {after}",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn down_and_up_keeps_the_links_and_the_connections() -> Result<()> {
    let running = Running::start()?;
    let long = running.long(Family::V4, 10)?;
    let links = running.ids("link", &running.daemon.pin("links"))?;
    let balancer = &running.topology.balancer;
    balancer.ip("link set dev back down\nlink set dev back up")?;
    // The default route went with it, as on any host.
    balancer.ip("link set dev front down
        link set dev front up
        route add default via 198.51.100.1")?;
    let rounds = long.wait_for_rounds(20, LIMIT);
    rounds.with_context(|| running.daemon.output())?;
    ensure!(long.lost().is_empty(), "{:?}", long.lost());
    ensure!(failures(&running.ask(60)).is_empty(), "new connections failed");
    assert_eq!(running.ids("link", &running.daemon.pin("links"))?, links);
    Ok(())
}

/// One at a time: `xdp-loader` gives up where another one runs.
static LOADER: Mutex<()> = Mutex::new(());

fn xdp_loader(host: &Host, arguments: &str) -> Result<String> {
    // What a test that failed leaves locked is as good as ever.
    let _turn = LOADER.lock().unwrap_or_else(PoisonError::into_inner);
    host.execute(&format!("xdp-loader {arguments}"))
}

/// A program of xdp-tools' on an interface, as `xdp-loader` puts it there: behind libxdp's dispatcher, where the kernel can do that.
/// Removed when dropped.
struct Other<'a> {
    host: &'a Host,
    interface: &'static str,
}

impl<'a> Other<'a> {
    fn load(host: &'a Host, interface: &'static str) -> Result<Self> {
        let found = host.execute("find /usr/lib /usr/lib64 -name xdpfilt_alw_all.o")?;
        let object = found
            .lines()
            .next()
            .context("xdp-tools has no xdpfilt_alw_all.o")?;
        xdp_loader(host, &format!("load {interface} {object}"))?;
        Ok(Self { host, interface })
    }

    /// Name and id as a refusal has them.
    fn shown(&self) -> Result<String> {
        let line = format!("ip -json -details link show dev {}", self.interface);
        let shown: Value = serde_json::from_str(&self.host.execute(&line)?)?;
        let program = &shown[0]["xdp"]["prog"];
        let name = program["name"].as_str();
        let name = name.with_context(|| format!("no XDP program with a name in {shown}"))?;
        Ok(format!(
            "{} has another XDP program already, {name} (id {})",
            self.interface, program["id"]
        ))
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let _ = xdp_loader(self.host, &format!("unload {} --all", self.interface));
    }
}

/// Does what a refusal advises.
fn follow_advice(host: &Host, refusal: &str) -> Result<()> {
    let advice = refusal.split('`').nth(1);
    host.execute(advice.with_context(|| format!("no command in {refusal}"))?)
        .map(drop)
}

#[test]
fn another_xdp_program_is_refused_by_name_and_stays() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(PORT)?;
    let balancer = &topology.balancer;
    let other = Other::load(balancer, "front")?;
    let named = other.shown()?;
    let mut advice = String::new();
    for mode in ["auto", "native", "generic"] {
        let started = Daemon::start(balancer, &config(&topology).xdp(mode));
        let refused = started.err().context("it started all the same")?;
        advice = format!("{refused:#}");
        ensure!(advice.contains(&named), "xdp: {mode}: no {named:?} in: {advice}");
        ensure!(other.shown()? == named, "xdp: {mode}: it was replaced");
        let back = balancer.execute("ip -details link show dev back")?;
        ensure!(!back.contains("prog/xdp"), "half attached: {back}");
    }
    follow_advice(balancer, &advice)?;
    let _daemon = Daemon::start(balancer, &config(&topology))?;
    expect_service(&topology)
}

#[test]
fn another_xdp_program_on_an_interface_that_comes_late_does_not_end_the_daemon() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(PORT)?;
    let balancer = &topology.balancer;
    balancer.ip("link del dev front")?;
    let mut daemon = Daemon::start(balancer, &config(&topology))?;
    topology.router.connect("balancer", balancer, "later")?;
    topology.router.take_xdp_tx("balancer")?;
    let mut other = Other::load(balancer, "later")?;
    balancer.ip("link set dev later down
        link set dev later name front
        link set dev front up")?;
    other.interface = "front";
    Topology::address_front(&topology.router, balancer)?;
    let refused = wait_for(&daemon, "front", "refused")?;
    let warning = refused["warning"].as_str().unwrap_or_default();
    ensure!(warning.contains(&other.shown()?), "{refused}");
    ensure!(
        interface(&daemon, "back")?["xdp"] == "native",
        "back was given up"
    );
    follow_advice(balancer, warning)?;
    wait_for(&daemon, "front", "native")?;
    expect_service(&topology)?;
    daemon.check()
}

#[test]
fn filters_of_others_see_what_this_host_sends_and_gets() -> Result<()> {
    let running = Running::start()?;
    let balancer = &running.topology.balancer;
    balancer.execute("tc qdisc add dev front clsact")?;
    for hook in ["ingress", "egress"] {
        // The bytecode, "return -1", takes every packet; a copy goes to the segment, where it is nobody's.
        let words = format!("filter add dev front {hook} bpf bytecode");
        let mut command = balancer.command("tc")?;
        command
            .args(words.split(' '))
            .arg("1,6 0 0 4294967295,")
            .args("action mirred egress mirror dev back".split(' '));
        Finished::run(&mut command, "")?.success()?;
    }
    balancer.execute("ping -c 3 -i 0.2 -W 5 198.51.100.1")?;
    for hook in ["ingress", "egress"] {
        let shown = balancer.execute(&format!("tc -statistics -json filter show dev front {hook}"))?;
        let shown: Value = serde_json::from_str(&shown).with_context(|| shown.clone())?;
        let packets = shown[1]["options"]["actions"][0]["stats"]["packets"].as_u64();
        ensure!(packets.is_some_and(|packets| packets >= 3), "{hook}: {shown}");
    }
    expect_service(&running.topology)
}
