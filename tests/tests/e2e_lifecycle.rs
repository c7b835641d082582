//! What running connections and new ones notice of the daemon's life: nothing but what was asked for.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use weir_tests::lab::{
    Daemon, EchoServer, Family, LongConnections, NewConnections, Protocol, Running, ask_many, failures,
    shares, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn nothing_is_lost_when_the_daemon_is_killed_and_starts_again() -> Result<()> {
    let mut running = Running::start()?;
    let long = [running.long(Family::V4, 20)?, running.long(Family::V6, 20)?];
    let new = [
        running.new_connections(Family::V4),
        running.new_connections(Family::V6),
    ];
    let traffic_flows = || -> Result<()> {
        long.iter()
            .try_for_each(|connections| connections.wait_for_rounds(20, LIMIT))?;
        new.iter()
            .try_for_each(|connections| connections.wait_for(50, LIMIT))
    };
    traffic_flows()?;
    let pins = running.daemon.pin_path().to_owned();
    let [maps, links] = [
        running.ids("map", &pins)?,
        running.ids("link", &pins.join("links"))?,
    ];
    for round in 0..3 {
        running.daemon.kill();
        traffic_flows().with_context(|| format!("round {round}, without a daemon"))?;
        running.daemon.start_again()?;
        traffic_flows().with_context(|| format!("round {round}, with a new daemon"))?;
    }
    assert_eq!(running.ids("map", &pins)?, maps, "the maps were not adopted");
    assert_eq!(
        running.ids("link", &pins.join("links"))?,
        links,
        "the links were not adopted"
    );
    // The new daemon rules: a change arrives.
    running.daemon.drain("tcp4", Running::backend(0))?;
    assert_eq!(shares(&running.ask(200)).get("backend-1"), None);
    let outcomes: Vec<_> = long.into_iter().flat_map(LongConnections::finish).collect();
    let lost: Vec<_> = outcomes.iter().filter(|outcome| outcome.lost.is_some()).collect();
    let attempts: Vec<_> = new.into_iter().flat_map(NewConnections::finish).collect();
    assert_eq!(
        lost.len() + failures(&attempts).len(),
        0,
        "{lost:?} {:?}",
        failures(&attempts)
    );
    Ok(())
}

#[test]
fn a_config_changed_while_the_daemon_is_dead_holds_when_it_starts() -> Result<()> {
    let mut running = Running::start()?;
    let long = running.long(Family::V4, 30)?;
    running.daemon.kill();
    let mut changed = running.config.clone();
    changed.cluster("tcp4")["endpoints"][0]["weight"] = json!(0);
    changed = changed.service(
        "other",
        "tcp",
        SocketAddr::new(Family::V4.vip(2), 7),
        &[(Running::backend(1), 1)],
    );
    running.daemon.write(&changed)?;
    running.daemon.start_again()?;
    assert_eq!(shares(&running.ask(200)).get("backend-1"), None);
    let other = SocketAddr::new(Family::V4.vip(2), 7);
    let attempts = ask_many(&running.topology.client, Protocol::Echo, other, 10, 1);
    assert_eq!(shares(&attempts).get("backend-2"), Some(&10), "{attempts:?}");
    long.wait_for_rounds(10, LIMIT)?;
    assert_eq!(long.lost().len(), 0, "{:?}", long.lost());
    Ok(())
}

#[test]
fn an_interface_taken_out_of_the_config_is_left_alone() -> Result<()> {
    let mut running = Running::start()?;
    assert_eq!(failures(&running.ask(10)).len(), 0);
    running.daemon.stop()?;
    let mut changed = running.config.clone();
    changed.value["interfaces"] = json!(["back"]);
    running.daemon.write(&changed)?;
    running.daemon.start_again()?;
    let front = running.daemon.host().execute("ip -details link show dev front")?;
    ensure!(!front.contains("xdp"), "{front}");
    let links = running.ids("link", &running.daemon.pin("links"))?;
    // Three on the interface, and the steering of L7 connections on the namespace.
    assert_eq!(links.len(), 4, "{links:?}");
    Ok(())
}

#[test]
fn a_removed_endpoint_and_service_are_gone_and_the_others_stay() -> Result<()> {
    let running = Running::start()?;
    let long = running.long(Family::V4, 30)?;
    let six = running.long(Family::V6, 3)?;
    let mut changed = running.config.clone();
    changed.cluster("tcp4")["endpoints"]
        .as_array_mut()
        .context("endpoints")?
        .remove(0);
    let listeners = changed.value["listeners"].as_array_mut().context("listeners")?;
    listeners.retain(|listener| listener["name"] != "tcp6");
    running.daemon.reload(&changed)?;
    let attempts = running.ask(200);
    assert_eq!(
        (failures(&attempts).len(), shares(&attempts).get("backend-1")),
        (0, None)
    );
    long.wait_for_rounds(10, LIMIT)?;
    for outcome in long.outcomes() {
        assert_eq!(
            outcome.lost.is_some(),
            outcome.server == "backend-1",
            "{outcome:?}"
        );
    }
    until("the end of connections to a service that is gone", LIMIT, || {
        (six.lost().len() == 3).then_some(())
    })?;
    // And back again.
    running.daemon.reload(&running.config)?;
    assert!(shares(&running.ask(200)).contains_key("backend-1"));
    running.long(Family::V6, 3)?;
    Ok(())
}

#[test]
fn a_stopped_daemon_leaves_forwarding_on() -> Result<()> {
    let mut running = Running::start()?;
    let long = running.long(Family::V4, 5)?;
    running.daemon.stop()?;
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(failures(&running.ask(50)).len(), 0);
    assert_eq!(long.lost().len(), 0);
    Ok(())
}

#[test]
fn unload_removes_everything() -> Result<()> {
    let mut running = Running::start()?;
    let pins = running.daemon.pin_path().to_owned();
    let links = running.ids("link", &pins.join("links"))?;
    assert_eq!(failures(&running.ask(10)).len(), 0);
    running.daemon.kill();
    let printed = running.daemon.unload()?;
    assert!(printed.contains("services"), "{printed}");
    assert!(!pins.exists(), "{} is still there", pins.display());
    let left = |line: &str| running.daemon.host().try_execute(line);
    for (path, id) in links {
        let shown = left(&format!("bpftool link show id {id}"))?;
        ensure!(
            !shown.status.success(),
            "{} is still attached: {}",
            path.display(),
            shown.stdout
        );
    }
    let shown = left("ip -details link show")?.success()?;
    ensure!(!shown.contains("xdp"), "{shown}");
    // Unloading what is not there is no error, and the machine can start over.
    running.daemon.unload()?;
    running.daemon.start_again()?;
    assert_eq!(failures(&running.ask(10)).len(), 0);
    Ok(())
}

#[test]
fn weights_change_live() -> Result<()> {
    let running = Running::start()?;
    let long = running.long(Family::V4, 30)?;
    let expect = |weights: [u32; 3]| -> Result<()> {
        for (n, weight) in weights.into_iter().enumerate() {
            running
                .daemon
                .set_endpoint("tcp4", Running::backend(n), &json!({"weight": weight}))?;
        }
        let attempts = running.ask(3000);
        assert_eq!(failures(&attempts).len(), 0);
        let shares = shares(&attempts);
        for (n, weight) in weights.into_iter().enumerate() {
            let wanted = f64::from(weight) / f64::from(weights.iter().sum::<u32>());
            let got = shares.get(&format!("backend-{}", n + 1)).copied().unwrap_or(0) as f64 / 3000.0;
            // Five standard deviations of 3,000 draws are 4.6 percentage points at most.
            ensure!((got - wanted).abs() < 0.05, "{weights:?} gave {shares:?}");
            ensure!(weight > 0 || got == 0.0, "{weights:?} gave {shares:?}");
        }
        Ok(())
    };
    [[1, 1, 1], [1, 2, 3], [4, 0, 1], [1, 1, 1]]
        .into_iter()
        .try_for_each(expect)?;
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0, "{:?}", long.lost());
    Ok(())
}

#[test]
fn a_drained_endpoint_keeps_its_connections_and_gets_no_new_ones() -> Result<()> {
    let running = Running::start()?;
    let long = running.long(Family::V4, 40)?;
    let on_first = long
        .outcomes()
        .iter()
        .filter(|outcome| outcome.server == "backend-1")
        .count();
    ensure!(on_first > 0, "none of 40 connections went to backend-1");
    running.daemon.drain("tcp4", Running::backend(0))?;
    let accepted = running.servers[0].accepted();
    let attempts = running.ask(500);
    assert_eq!(failures(&attempts).len(), 0);
    assert_eq!(shares(&attempts).get("backend-1"), None);
    assert_eq!(running.servers[0].accepted(), accepted);
    long.wait_for_rounds(20, LIMIT)?;
    assert_eq!(long.lost().len(), 0, "{:?}", long.lost());
    assert_eq!(running.servers[0].open(), on_first);
    running
        .daemon
        .set_endpoint("tcp4", Running::backend(0), &json!({"drain": false}))?;
    assert!(shares(&running.ask(200)).contains_key("backend-1"));
    long.wait_for_rounds(20, LIMIT)?;
    let lost = long
        .finish()
        .into_iter()
        .filter(|outcome| outcome.lost.is_some())
        .count();
    assert_eq!(lost, 0);
    Ok(())
}

/// Waits for an endpoint's state and returns when it was seen.
fn wait_for_state(daemon: &Daemon, address: SocketAddr, state: &str) -> Result<Instant> {
    until(&format!("{address} to be {state}"), LIMIT, || {
        let status = daemon.backend_status("tcp4", address).ok()?;
        (status["state"] == state).then(Instant::now)
    })
}

#[test]
fn a_dead_endpoint_is_taken_out_and_comes_back() -> Result<()> {
    let mut running = Running::start_with(|config| config.health_check("tcp4", "500ms"))?;
    wait_for_state(&running.daemon, Running::backend(1), "healthy")?;
    let long = running.long(Family::V4, 30)?;
    let new = running.new_connections(Family::V4);
    new.wait_for(20, LIMIT)?;
    let died = Instant::now();
    running.servers[1].stop();
    let verdict = wait_for_state(&running.daemon, Running::backend(1), "unhealthy")?;
    let settled = verdict + Duration::from_secs(1);
    until("a second of connections after the verdict", LIMIT, || {
        new.attempts()
            .iter()
            .any(|attempt| attempt.started > settled)
            .then_some(())
    })?;
    assert_eq!(failures(&running.ask(300)).len(), 0);
    let attempts = new.finish();
    let late: Vec<_> = failures(&attempts)
        .into_iter()
        .filter(|one| one.started > settled)
        .collect();
    ensure!(late.is_empty(), "{} s after the verdict: {late:?}", 1);
    let early = failures(&attempts)
        .into_iter()
        .filter(|one| one.started + one.took < died)
        .count();
    assert_eq!(early, 0, "failed before it died");
    long.wait_for_rounds(10, LIMIT)?;
    for outcome in long.finish() {
        assert_eq!(
            outcome.lost.is_some(),
            outcome.server == "backend-2",
            "{outcome:?}"
        );
    }
    running.servers[1] =
        EchoServer::start(&running.topology.backends[1], "backend-2", &[Running::backend(1)])?;
    wait_for_state(&running.daemon, Running::backend(1), "healthy")?;
    assert!(shares(&running.ask(200)).contains_key("backend-2"));
    Ok(())
}

#[test]
fn an_unreachable_endpoint_is_taken_out_and_its_udp_flows_move() -> Result<()> {
    /// So many that one of three backends has none of them once in 10^11 runs.
    const SOCKETS: usize = 64;
    let running = Running::start_with(|config| config.health_check("tcp4", "200ms"))?;
    let client = &running.topology.client;
    let sockets: Vec<_> = client.run(|| -> Result<_> {
        let bind = |_| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(Running::vip(Family::V4))?;
            socket.set_read_timeout(Some(LIMIT))?;
            Ok(socket)
        };
        (0..SOCKETS).map(bind).collect()
    })?;
    let ask = |socket: &std::net::UdpSocket| -> Option<String> {
        let mut buffer = [0; 64];
        socket.send(b"x").ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Some(
            String::from_utf8_lossy(&buffer[..length])
                .lines()
                .next()?
                .to_owned(),
        )
    };
    let before: Vec<_> = sockets.iter().map(ask).collect();
    ensure!(before.contains(&Some("backend-3".to_owned())), "{before:?}");
    // From here on some get no answer, and ask again.
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    }
    // The host is gone: nothing refuses, probes time out.
    running.topology.segment.ip("link set dev backend-3 down")?;
    wait_for_state(&running.daemon, Running::backend(2), "unhealthy")?;
    for (socket, before) in sockets.iter().zip(&before) {
        let now = until("an answer", LIMIT, || ask(socket))?;
        ensure!(now != "backend-3", "{before:?} became {now}");
        ensure!(
            before.as_deref() == Some("backend-3") || *before == Some(now),
            "a living flow moved"
        );
    }
    Ok(())
}
