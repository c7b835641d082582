//! What running connections and new ones notice of the daemon's life: nothing but what was asked for.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use weir_tests::lab::{
    Attempt, Daemon, DaemonConfig, EchoServer, Family, LongConnections, NewConnections, Protocol, Topology,
    ask_many, shares, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Between two exchanges of a connection, and between two connections of a thread.
const PACE: Duration = Duration::from_millis(5);

const PORT: u16 = 7;

/// The standard topology with an echo server on each backend, and a daemon for them.
struct Running {
    daemon: Daemon,
    config: DaemonConfig,
    servers: Vec<EchoServer>,
    topology: Topology,
}

impl Running {
    fn start() -> Result<Self> {
        Self::start_with(|config| config)
    }

    fn start_with(change: impl FnOnce(DaemonConfig) -> DaemonConfig) -> Result<Self> {
        let topology = Topology::new()?;
        let servers = topology.echo_servers(PORT)?;
        let config =
            DaemonConfig::standard()
                .echo(&topology, Family::V4, PORT)
                .echo(&topology, Family::V6, PORT);
        let config = change(config);
        let daemon = Daemon::start(&topology.balancer, &config)?;
        Ok(Self {
            daemon,
            config,
            servers,
            topology,
        })
    }

    fn vip(family: Family) -> SocketAddr {
        SocketAddr::new(family.vip(1), PORT)
    }

    fn backend(n: usize) -> SocketAddr {
        SocketAddr::new(Family::V4.backend(n), PORT)
    }

    fn long(&self, family: Family, count: usize) -> Result<LongConnections> {
        LongConnections::open(
            &self.topology.client,
            Protocol::Echo,
            Self::vip(family),
            count,
            PACE,
        )
    }

    fn new(&self, family: Family) -> NewConnections {
        NewConnections::start(&self.topology.client, Protocol::Echo, Self::vip(family), 1, PACE)
    }

    fn ask(&self, count: usize) -> Vec<Attempt> {
        ask_many(
            &self.topology.client,
            Protocol::Echo,
            Self::vip(Family::V4),
            count,
            4,
        )
    }

    /// Runs bpftool where the daemon's namespaces are; returns its JSON.
    fn bpftool(&self, arguments: &str) -> Result<Value> {
        let output = self.daemon.host().execute(&format!("bpftool -j {arguments}"))?;
        serde_json::from_str(&output).with_context(|| format!("bpftool {arguments} printed {output}"))
    }

    /// The kernel's ids of pinned objects: `kind` is map, link or prog.
    fn ids(&self, kind: &str, folder: &Path) -> Result<Vec<(PathBuf, Value)>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                let shown = self.bpftool(&format!("{kind} show pinned {}", path.display()))?;
                ids.push((path, shown["id"].clone()));
            }
        }
        ids.sort_by(|a, b| a.0.cmp(&b.0));
        ensure!(!ids.is_empty(), "nothing is pinned in {}", folder.display());
        Ok(ids)
    }
}

fn failures(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts
        .iter()
        .filter(|attempt| attempt.answer.is_err())
        .collect()
}

#[test]
fn nothing_is_lost_when_the_daemon_is_killed_and_starts_again() -> Result<()> {
    let mut running = Running::start()?;
    let long = [running.long(Family::V4, 20)?, running.long(Family::V6, 20)?];
    let new = [running.new(Family::V4), running.new(Family::V6)];
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
            // Four standard deviations of 3,000 draws are 3.7 percentage points at most.
            ensure!((got - wanted).abs() < 0.04, "{weights:?} gave {shares:?}");
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
fn the_command_line_changes_endpoints() -> Result<()> {
    let running = Running::start()?;
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let address = Running::backend(2).to_string();
    let weir = |arguments: &[&str]| {
        running
            .daemon
            .weir(&[arguments, &["--socket", &socket]].concat())?
            .success()
    };
    weir(&["endpoint", "set", "tcp4", &address, "--weight", "7"])?;
    let status: Value = serde_json::from_str(&weir(&["status", "--json"])?)?;
    let backends = status["services"][0]["backends"].as_array().context("backends")?;
    assert_eq!(backends[2]["weight"], 7, "{status}");
    weir(&["endpoint", "set", "tcp4", &address, "--drain"])?;
    assert_eq!(shares(&running.ask(100)).get("backend-3"), None);
    weir(&["endpoint", "set", "tcp4", &address, "--undrain"])?;
    assert!(shares(&running.ask(100)).contains_key("backend-3"));
    let table = weir(&["status"])?;
    ensure!(table.contains("tcp4") && table.contains(&address), "{table}");
    Ok(())
}

#[test]
fn a_drained_endpoint_keeps_its_connections_and_gets_no_new_ones() -> Result<()> {
    let running = Running::start()?;
    let long = running.long(Family::V4, 30)?;
    let on_first = long
        .outcomes()
        .iter()
        .filter(|outcome| outcome.server == "backend-1")
        .count();
    ensure!(on_first > 0, "none of 30 connections went to backend-1");
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
    let mut running = Running::start_with(|config| config.health_check("tcp4", "100ms"))?;
    wait_for_state(&running.daemon, Running::backend(1), "healthy")?;
    let long = running.long(Family::V4, 30)?;
    let new = running.new(Family::V4);
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
        .filter(|one| one.started < died)
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
    let running = Running::start_with(|config| config.health_check("tcp4", "200ms"))?;
    let client = &running.topology.client;
    let sockets: Vec<_> = client.run(|| -> Result<_> {
        let bind = |_| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(Running::vip(Family::V4))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            Ok(socket)
        };
        (0..12).map(bind).collect()
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
    // The host is gone: nothing refuses, probes time out.
    running.topology.segment.ip("link set dev backend-3 down")?;
    let verdict = wait_for_state(&running.daemon, Running::backend(2), "unhealthy")?;
    for (socket, before) in sockets.iter().zip(&before) {
        let now = until("an answer", LIMIT, || ask(socket))?;
        ensure!(now != "backend-3", "{before:?} became {now}");
        ensure!(
            before.as_deref() == Some("backend-3") || *before == Some(now),
            "a living flow moved"
        );
    }
    ensure!(
        verdict.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        verdict.elapsed()
    );
    Ok(())
}

#[test]
fn a_rejected_config_changes_nothing() -> Result<()> {
    let mut running = Running::start()?;
    let long = running.long(Family::V4, 10)?;
    let generation = running.daemon.status()?["generation"].clone();
    let mut bad = running.config.clone();
    bad.value["listeners"][0]["forward"]["cluster"] = json!("nowhere");
    bad.cluster("tcp6")["endpoints"][0]["weight"] = json!(-1);
    running.daemon.write(&bad)?;
    let answer = running.daemon.admin().request("POST", "/reload", None)?;
    ensure!((400..500).contains(&answer.code), "{answer:?}");
    let text = answer.body.to_string();
    ensure!(
        text.contains("nowhere") && text.contains("weight"),
        "not both mistakes: {text}"
    );
    let status = running.daemon.status()?;
    assert_eq!(status["generation"], generation);
    ensure!(status["last_error"].to_string().contains("nowhere"), "{status}");
    assert_eq!(failures(&running.ask(50)).len(), 0);
    // A good one is taken again, and clears the error.
    let mut good = running.config.clone();
    good.cluster("tcp4")["endpoints"][0]["weight"] = json!(0);
    running.daemon.reload(&good)?;
    assert_eq!(running.daemon.status()?["last_error"], Value::Null);
    assert_eq!(shares(&running.ask(100)).get("backend-1"), None);
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    running.daemon.check()
}

#[test]
fn a_changed_file_is_noticed_and_sighup_reloads() -> Result<()> {
    let running = Running::start()?;
    for (n, signal) in [(0, None), (1, Some(Signal::HUP))] {
        let mut changed = running.config.clone();
        changed.cluster("tcp4")["endpoints"][n]["weight"] = json!(0);
        running.daemon.write(&changed)?;
        signal.map(|signal| running.daemon.signal(signal)).transpose()?;
        until("the change in the status", LIMIT, || {
            let status = running.daemon.backend_status("tcp4", Running::backend(n)).ok()?;
            (status["effective_weight"] == 0).then_some(())
        })?;
        running.daemon.wait_in_force()?;
        assert_eq!(shares(&running.ask(100)).get(&format!("backend-{}", n + 1)), None);
    }
    Ok(())
}

#[test]
fn no_broken_config_kills_a_running_daemon() -> Result<()> {
    let mut running = Running::start()?;
    let long = running.long(Family::V4, 5)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/configs");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let is_config = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
    };
    let configs: Vec<_> = paths
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(is_config)
        .collect();
    ensure!(
        configs.len() >= 50,
        "{} broken configs in {}",
        configs.len(),
        folder.display()
    );
    let has_error = |wanted: bool| {
        let status = running.daemon.status().ok()?;
        (status["last_error"].is_null() != wanted).then_some(())
    };
    for path in &configs {
        let broken = fs::read(path)?;
        running.daemon.write_text(&String::from_utf8_lossy(&broken))?;
        running.daemon.signal(Signal::HUP)?;
        until(&format!("{} to be rejected", path.display()), LIMIT, || {
            has_error(true)
        })?;
        running.daemon.write(&running.config)?;
        running.daemon.signal(Signal::HUP)?;
        until(&format!("recovery from {}", path.display()), LIMIT, || {
            has_error(false)
        })?;
    }
    running.daemon.check()?;
    assert_eq!(failures(&running.ask(50)).len(), 0);
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    Ok(())
}

#[test]
fn bpftool_shows_fields_and_names() -> Result<()> {
    let running = Running::start()?;
    let _long = running.long(Family::V4, 3)?;
    let fields = [
        (
            "services",
            vec!["address", "port", "protocol", "index", "table_size", "mode"],
        ),
        (
            "backends",
            vec![
                "address",
                "source",
                "port",
                "flags",
                "service",
                "incarnation",
                "weight",
            ],
        ),
        (
            "flows",
            vec![
                "source",
                "destination",
                "source_port",
                "destination_port",
                "backend",
                "last_seen",
            ],
        ),
    ];
    for (map, names) in fields {
        let line = format!("bpftool map dump pinned {}", running.daemon.pin(map).display());
        let shown = running.daemon.host().execute(&line)?;
        for name in names {
            ensure!(
                shown.contains(&format!("\"{name}\":")),
                "{map} shows no {name}:\n{shown:.2000}"
            );
        }
    }
    for name in ["xdp_balancer", "tc_ingress", "tc_egress"] {
        let path = running.daemon.pin("programs").join(name);
        let shown = running.bpftool(&format!("prog show pinned {}", path.display()))?;
        let shown_name = shown["name"].as_str().unwrap_or_default();
        ensure!(
            !shown_name.is_empty() && name.starts_with(shown_name),
            "{name} is shown as {shown}"
        );
        ensure!(shown["btf_id"].as_u64().is_some(), "{name} has no BTF: {shown}");
    }
    let mut programs = BTreeSet::new();
    for (path, _) in running.ids("link", &running.daemon.pin("links"))? {
        let link = running.bpftool(&format!("link show pinned {}", path.display()))?;
        let program = running.bpftool(&format!("prog show id {}", link["prog_id"]))?;
        programs.insert(program["name"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(
        programs,
        ["tc_egress", "tc_ingress", "xdp_balancer"]
            .map(str::to_owned)
            .into()
    );
    Ok(())
}
