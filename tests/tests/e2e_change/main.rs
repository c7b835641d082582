//! Direct server return under change and failure: of endpoints, of a balancer, of the daemon, and under a SYN flood.
//!
//! With `WEIR_LONG=1` the tests run for as long, and with as many connections, as the project promises; without, for as
//! long as a test suite has time for.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{env, net::SocketAddr, time::Duration};
use weir_tests::lab::{
    Crowd, CrowdServer, Daemon, DaemonConfig, DirectSite, Family, Member, MemberState, NumberedDatagrams,
    SynFlood, until,
};

mod changes;

use changes::Changes;

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Port of the crowd's servers and service.
const CROWD: u16 = 7007;

/// The service's name, and its cluster's.
const SERVICE: &str = "crowd";

/// One of two, the second for long runs.
fn short_or_long<T>(short: T, long: T) -> T {
    if env::var_os("WEIR_LONG").is_some() {
        long
    } else {
        short
    }
}

fn vip() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(1), CROWD)
}

/// The endpoint at an address of backend number `host`, from 0.
fn endpoint(host: usize, alias: u8) -> SocketAddr {
    SocketAddr::new(DirectSite::address(host, alias).into(), CROWD)
}

/// The site's services, and one more for a crowd.
fn config(site: &DirectSite, mode: &str, endpoints: &[SocketAddr]) -> DaemonConfig {
    let endpoints: Vec<_> = endpoints.iter().map(|address| (*address, 1)).collect();
    let mut config = site
        .config(mode, Family::V4, Family::V4)
        .service(SERVICE, "tcp", vip(), &endpoints);
    if let Some(listener) = config.value["listeners"]
        .as_array_mut()
        .and_then(|all| all.last_mut())
    {
        listener["forward"]["mode"] = json!(mode);
    }
    config
}

/// One endpoint a backend.
fn backends() -> Vec<SocketAddr> {
    (0..3).map(|host| endpoint(host, 0)).collect()
}

fn crowd_servers(site: &DirectSite) -> Result<Vec<CrowdServer>> {
    let start = |host| CrowdServer::start(host, host.name(), &[vip()]);
    site.topology.backends.iter().map(start).collect()
}

/// A service's part of the status.
fn service(daemon: &Daemon, name: &str) -> Result<Value> {
    let status = daemon.status()?;
    let mut services = status["services"].as_array().into_iter().flatten();
    let found = services.find(|service| service["name"] == name);
    found.cloned().with_context(|| format!("no {name} in {status}"))
}

/// A service's counter.
fn counter(daemon: &Daemon, name: &str, counter: &str) -> Result<u64> {
    let service = service(daemon, name)?;
    let value = service["counters"][counter].as_u64();
    value.with_context(|| format!("no {counter} in {service}"))
}

/// Ends a crowd; no connection may have broken.
fn expect_unbroken(crowd: Crowd) -> Result<Vec<Member>> {
    let members = crowd.finish()?;
    let broken: Vec<_> = members
        .iter()
        .filter(|member| member.state != MemberState::Ended)
        .collect();
    ensure!(
        broken.is_empty(),
        "{} of {} connections broke: {:?} …",
        broken.len(),
        members.len(),
        &broken[..broken.len().min(5)]
    );
    Ok(members)
}

/// Endpoints come, go, drain and change their weight, while clients come and go too: what runs stays where it is.
///
/// With WEIR_LONG: 5,000 connections, 60 s, a change every 200 ms; else 1,000 and 10 s.
#[test]
fn no_change_of_endpoints_breaks_a_connection() -> Result<()> {
    let connections = short_or_long(1_000, 5_000);
    let steps = short_or_long(50, 300);
    let site = DirectSite::new()?;
    let _servers = crowd_servers(&site)?;
    let mut changes = Changes::start(&site, connections)?;
    for step in 0..steps {
        changes
            .step()
            .with_context(|| format!("change {step} of {steps}"))?;
    }
    changes.finish()
}

/// Half of the flows go by each of two balancers, and one dies: the other has the same table, and needs no more.
fn a_balancers_death_breaks_nothing(mode: &str) -> Result<()> {
    let connections = short_or_long(300, 3_000);
    let site = DirectSite::new()?;
    let _servers = crowd_servers(&site)?;
    let config = config(&site, mode, &backends());
    let mut first = Daemon::start(&site.topology.balancer, &config)?;
    let second = Daemon::start(&site.second_balancer()?, &config)?;
    let pace = short_or_long(Duration::from_millis(50), Duration::from_millis(500));
    let crowd = Crowd::start(&site.topology.client, vip(), connections, pace)?;
    crowd.open(connections)?;
    for daemon in [&first, &second] {
        let flows = counter(daemon, SERVICE, "flows")?;
        ensure!(flows > 0, "ECMP gave one balancer nothing");
    }
    first.kill();
    crowd.wait_for_rounds(5)?;
    ensure!(crowd.lost().is_empty(), "without its daemon: {:?}", crowd.lost());
    first.start_again()?;
    let before = counter(&second, SERVICE, "packets")?;
    // The machine is gone, and a while later the router knows.
    let host = first.host().clone();
    host.ip("link set dev front down\nlink set dev back down")?;
    until("packets by the other balancer", LIMIT, || {
        (counter(&second, SERVICE, "packets").ok()? > before).then_some(())
    })?;
    site.route_by(&[DirectSite::SECOND])?;
    crowd.wait_for_rounds(5)?;
    ensure!(crowd.lost().is_empty(), "by one balancer: {:?}", crowd.lost());
    // It comes back, and knows nothing of the flows that it gets.
    host.ip("link set dev front up\nlink set dev back up\nroute add default via 198.51.100.1")?;
    let before = counter(&first, SERVICE, "packets")?;
    site.route_by(&[DirectSite::FIRST, DirectSite::SECOND])?;
    until("packets by the one that was gone", LIMIT, || {
        (counter(&first, SERVICE, "packets").ok()? > before).then_some(())
    })?;
    crowd.wait_for_rounds(5)?;
    let members = expect_unbroken(crowd)?;
    assert_eq!(members.len(), connections);
    for daemon in [&first, &second] {
        assert_eq!(counter(daemon, SERVICE, "drops")?, 0);
        assert_eq!(daemon.status()?["kernel"]["tracked_flows"], 0);
    }
    Ok(())
}

#[test]
fn a_balancers_death_breaks_nothing_with_ipip() -> Result<()> {
    a_balancers_death_breaks_nothing("ipip")
}

#[test]
fn a_balancers_death_breaks_nothing_with_dsr_l2() -> Result<()> {
    a_balancers_death_breaks_nothing("dsr-l2")
}

/// Packets that a crowd and datagrams send while the daemon goes and comes back are counted on both sides. Each time it
/// comes back to another config, so that it must find in its maps which backends running flows have.
fn no_packet_is_lost(mut go: impl FnMut(&mut Daemon) -> Result<()>) -> Result<()> {
    let times = short_or_long(3, 20);
    let site = DirectSite::new()?;
    let _servers = crowd_servers(&site)?;
    let mut config = config(&site, "ipip", &backends());
    let mut daemon = Daemon::start(&site.topology.balancer, &config)?;
    let client = &site.topology.client;
    let crowd = Crowd::start(client, vip(), 50, Duration::from_millis(20))?;
    crowd.open(50)?;
    let echo = SocketAddr::new(Family::V4.vip(1), DirectSite::ECHO);
    let datagrams = NumberedDatagrams::start(client, echo, 4, Duration::from_millis(5))?;
    let traffic_flows = || -> Result<()> {
        crowd.wait_for_rounds(3)?;
        datagrams.wait_for(50)
    };
    traffic_flows()?;
    for time in 0..times {
        go(&mut daemon)?;
        traffic_flows().with_context(|| format!("time {time}, without a daemon"))?;
        for cluster in [SERVICE, "datagrams"] {
            let endpoints = &mut config.cluster(cluster)["endpoints"];
            endpoints[time % 3]["weight"] = json!(1 + (time + 1) % 4);
        }
        daemon.write(&config)?;
        daemon.start_again()?;
        traffic_flows().with_context(|| format!("time {time}, with a new daemon"))?;
    }
    let outcomes = datagrams.finish();
    let sent: u64 = outcomes.iter().map(|flow| flow.sent).sum();
    let answered: u64 = outcomes.iter().map(|flow| flow.answered).sum();
    assert_eq!(
        (answered, counter(&daemon, "datagrams", "packets")?),
        (sent, sent),
        "{outcomes:?}"
    );
    crowd.pause();
    until("as many packets of the crowd as it sent", LIMIT, || {
        // In this order a packet that was lost can't be made up for by one that was sent in between.
        let counted = counter(&daemon, SERVICE, "packets").ok()?;
        (crowd.segments_sent().ok()? == counted).then_some(())
    })?;
    println!(
        "{sent} datagrams and {} segments in {times} times",
        crowd.segments_sent()?
    );
    expect_unbroken(crowd)?;
    for name in [SERVICE, "datagrams"] {
        assert_eq!(counter(&daemon, name, "drops")?, 0);
    }
    Ok(())
}

/// With WEIR_LONG 20 times, else 3.
#[test]
fn no_packet_is_lost_when_the_daemon_is_killed_and_starts_again() -> Result<()> {
    no_packet_is_lost(|daemon| {
        daemon.kill();
        Ok(())
    })
}

/// An upgrade is a new daemon that loads its programs and puts them into the links in place of the old ones. With
/// WEIR_LONG 20 times, else 3.
#[test]
fn no_packet_is_lost_in_upgrades_of_the_programs() -> Result<()> {
    let mut seen = Vec::new();
    no_packet_is_lost(|daemon| {
        let link = daemon.pin("links").join("front-xdp_balancer");
        let shown = daemon
            .host()
            .execute(&format!("bpftool -j link show pinned {}", link.display()))?;
        let shown: Value = serde_json::from_str(&shown)?;
        seen.push((shown["id"].clone(), shown["prog_id"].clone()));
        daemon.stop()
    })?;
    for pair in seen.windows(2) {
        assert_eq!(pair[0].0, pair[1].0, "another link");
        ensure!(pair[0].1 != pair[1].1, "the same program: {}", pair[0].1);
    }
    Ok(())
}

/// SYNs from everywhere are forwarded and leave nothing behind; who is connected stays so.
#[test]
fn a_syn_flood_leaves_no_state_and_breaks_nothing() -> Result<()> {
    let site = DirectSite::new()?;
    let _servers = crowd_servers(&site)?;
    let daemon = Daemon::start(&site.topology.balancer, &config(&site, "ipip", &backends()))?;
    // What the backends answer ends here: nobody has these addresses.
    let sources = SynFlood::SOURCES;
    site.topology
        .router
        .ip(&format!("route add blackhole {sources}"))?;
    let crowd = Crowd::start(&site.topology.client, vip(), 200, Duration::from_millis(100))?;
    crowd.open(200)?;
    // SYNs that the balancer must have seen before it is over: seconds at the rate that a lab can make.
    let least = short_or_long(50_000, 500_000);
    let flood = SynFlood::start(&site.topology.client, vip(), 10 * least)?;
    until("a flood at the balancer", 2 * LIMIT, || {
        (counter(&daemon, SERVICE, "flows").ok()? >= least).then_some(())
    })?;
    crowd.wait_for_rounds(3)?;
    ensure!(crowd.lost().is_empty(), "in the flood: {:?}", crowd.lost());
    let sent = flood.sent();
    drop(flood);
    crowd.wait_for_rounds(3)?;
    let members = expect_unbroken(crowd)?;
    assert_eq!(members.len(), 200);
    println!(
        "{sent} SYNs sent, {} opened",
        counter(&daemon, SERVICE, "flows")? - 200
    );
    let status = daemon.status()?;
    assert_eq!(status["kernel"]["tracked_flows"], 0, "after {sent} SYNs");
    assert_eq!(status["kernel"]["flows"], 0, "after {sent} SYNs");
    for map in ["tracked_flows", "flows"] {
        let line = format!("bpftool -j map dump pinned {}", daemon.pin(map).display());
        let entries: Vec<Value> = serde_json::from_str(&daemon.host().execute(&line)?)?;
        assert_eq!(entries.len(), 0, "{map} after {sent} SYNs");
    }
    assert_eq!(daemon.drops("flow_table_full")?, 0);
    assert_eq!(counter(&daemon, SERVICE, "drops")?, 0);
    Ok(())
}
