//! Sources that may not send, and sources that send too much: dropped by name, while others are served.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use std::{fs, net::SocketAddr, time::Duration};
use weir_tests::lab::{
    Daemon, DaemonConfig, EchoServer, Family, SynFlood, Topology, expect_any_backend, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

const PORT: u16 = 7;

/// A daemon with a NAT service for the echo servers, guarded like this.
fn guarded(topology: &Topology, family: Family, guard: &[(&str, serde_json::Value)]) -> Result<Daemon> {
    Daemon::start(&topology.balancer, &config(topology, family, guard))
}

fn config(topology: &Topology, family: Family, guard: &[(&str, serde_json::Value)]) -> DaemonConfig {
    let mut config = DaemonConfig::standard().echo(topology, family, PORT);
    for listener in config.value["listeners"].as_array_mut().into_iter().flatten() {
        for (key, value) in guard {
            listener["forward"][*key] = value.clone();
        }
    }
    config
}

#[test]
fn a_denied_source_is_dropped_and_named_and_others_are_served() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(PORT)?;
    for family in Family::BOTH {
        let (deny, allow) = match family {
            Family::V4 => ("192.0.2.10/32", "192.0.2.0/24"),
            Family::V6 => ("2001:db8:2::10/128", "2001:db8:2::/64"),
        };
        let vip = SocketAddr::new(family.vip(1), PORT);
        let daemon = guarded(&topology, family, &[("deny", json!([deny]))])?;
        let curl = format!("curl -sS -m 2 telnet://{vip}");
        let refused = topology.client.try_execute(&curl)?;
        ensure!(refused.success().is_err(), "a denied client was served");
        ensure!(daemon.drops("denied")? > 0, "nothing was dropped as denied");
        // The longest prefix decides, live.
        daemon.reload(&config(
            &topology,
            family,
            &[("deny", json!([allow])), ("allow", json!([deny]))],
        ))?;
        expect_any_backend(&topology.client, vip, "here")
            .with_context(|| format!("{family}: an allowed client is not served"))?;
        daemon.reload(&config(&topology, family, &[]))?;
        expect_any_backend(&topology.client, vip, "here")
            .with_context(|| format!("{family}: without rules nobody is served"))?;
    }
    Ok(())
}

/// Whether the client's SYNs are answered.
fn connects(topology: &Topology, vip: SocketAddr) -> bool {
    let line = format!("socat -T 1 -u OPEN:/dev/null TCP4:{vip},connect-timeout=1");
    let tried = topology.client.try_execute(&line);
    tried.is_ok_and(|finished| finished.status.success())
}

#[test]
fn lists_of_prefixes_are_read_from_files_that_may_change() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(PORT)?;
    let vip = SocketAddr::new(Family::V4.vip(1), PORT);
    let list = topology.lab.directory().join("denied.txt");
    let lines: String = (0..100_000u32)
        .map(|n| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255))
        .collect();
    fs::write(&list, &lines)?;
    // Relative to the config, which is in the same folder.
    let daemon = guarded(&topology, Family::V4, &[("deny_files", json!(["denied.txt"]))])?;
    ensure!(connects(&topology, vip), "a client that isn't listed is refused");
    let denied = daemon.drops("denied")?;
    let put = |text: String| -> Result<()> {
        let new = list.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(&new, &list)?)
    };
    put(format!("{lines}192.0.2.10  # the client\n"))?;
    daemon.signal(Signal::HUP)?;
    until("the client to be denied", LIMIT, || {
        (!connects(&topology, vip)).then_some(())
    })?;
    ensure!(daemon.drops("denied")? > denied, "nothing was dropped as denied");
    // A file with a mistake changes nothing; nobody has to tell the daemon of either.
    put("192.0.2.10/33\n".to_owned())?;
    until("the mistake in the status", LIMIT, || {
        let error = daemon.status().ok()?["last_error"]["error"].as_str()?.to_owned();
        error.contains("denied.txt:1: ").then_some(())
    })?;
    ensure!(!connects(&topology, vip), "a refused list took effect");
    put(lines)?;
    until("the client to be served", LIMIT, || {
        connects(&topology, vip).then_some(())
    })
}

#[test]
fn a_source_over_its_limit_is_dropped_and_counted() -> Result<()> {
    let topology = Topology::new()?;
    let server = EchoServer::start(
        &topology.backends[0],
        "one",
        &[SocketAddr::new(Family::V4.backend(0), PORT)],
    )?;
    let vip = SocketAddr::new(Family::V4.vip(1), PORT);
    let config = |limits| {
        let mut config = DaemonConfig::standard().service(
            "one",
            "tcp",
            vip,
            &[(SocketAddr::new(Family::V4.backend(0), PORT), 1)],
        );
        config.value["listeners"][0]["forward"]["limits"] = limits;
        config
    };
    let limits = json!({"connections": {"per_second": 1, "burst": 3}});
    let daemon = Daemon::start(&topology.balancer, &config(limits))?;
    // More at once than the bucket holds: a dropped SYN is sent again a second later, when there may be a token for it.
    let mut refused = 0;
    for _ in 0..8 {
        let shown = topology.client.try_execute(&format!(
            "socat -T 1 -u OPEN:/dev/null TCP4:{vip},connect-timeout=0.2"
        ))?;
        refused += usize::from(shown.success().is_err());
    }
    ensure!(
        daemon.drops("connection_limit")? > 0,
        "no connection was too many"
    );
    ensure!(refused > 0, "all of them were served");
    ensure!(server.accepted() >= 3, "{} were served", server.accepted());
    // Without limits all are.
    daemon.reload(&config(json!({})))?;
    let before = daemon.drops("connection_limit")?;
    for _ in 0..8 {
        topology.client.execute(&format!(
            "socat -T 1 -u OPEN:/dev/null TCP4:{vip},connect-timeout=5"
        ))?;
    }
    ensure!(
        daemon.drops("connection_limit")? == before,
        "dropped without a limit"
    );
    Ok(())
}

/// SYNs of a flood: at the rate below they would take minutes to be remembered all.
const FLOOD: u64 = 3_000;

/// Few new flows are remembered a second: with NAT the rest is dropped, without it forwarded.
#[test]
fn a_flood_of_new_flows_is_remembered_in_part() -> Result<()> {
    let topology = Topology::new()?;
    let vips = [1, 2].map(|n| SocketAddr::new(Family::V4.vip(n), PORT));
    let endpoint = (SocketAddr::new(Family::V4.backend(0), PORT), 1);
    let mut config = DaemonConfig::standard()
        .service("translated", "tcp", vips[0], &[endpoint])
        .service("direct", "tcp", vips[1], &[endpoint]);
    config.value["kernel"] = json!({"new_flows_per_second": 4});
    config.value["listeners"][1]["forward"]["mode"] = json!("ipip");
    config.value["listeners"][1]["forward"]["tracking"] = json!("always");
    let daemon = Daemon::start(&topology.balancer, &config)?;
    let counter = |service: usize, name: &str| -> Result<u64> {
        let status = daemon.status()?;
        Ok(status["services"][service]["counters"][name]
            .as_u64()
            .unwrap_or(0))
    };
    for (service, vip) in vips.into_iter().enumerate() {
        let flood = SynFlood::start(&topology.client, vip, FLOOD)?;
        let arrived = || -> Result<u64> { Ok(counter(service, "packets")? + counter(service, "drops")?) };
        until("the flood to arrive", Duration::from_secs(90), || {
            (flood.sent() == FLOOD && arrived().is_ok_and(|arrived| arrived >= FLOOD / 2)).then_some(())
        })?;
    }
    let dropped = daemon.drops("flow_limit")?;
    let (translated, direct) = (counter(0, "flows")?, counter(1, "untracked")?);
    ensure!(
        dropped > FLOOD / 4 && translated < FLOOD / 4,
        "NAT: {dropped} dropped, {translated} opened"
    );
    ensure!(
        direct > FLOOD / 4 && counter(1, "drops")? == 0,
        "without NAT {direct} went on without being remembered"
    );
    let socket = daemon.admin().socket().to_string_lossy().into_owned();
    let shown = daemon.weir(&["status", "--socket", &socket])?.success()?;
    ensure!(
        shown.contains("FLOWS NOT REMEMBERED OF") && shown.contains("flow_limit"),
        "{shown}"
    );
    Ok(())
}
