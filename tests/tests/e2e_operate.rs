//! What an operator does and sees: bpftool, the command line, and configs good and bad.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader},
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};
use weir_tests::lab::{Family, Running, failures, shares, until};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

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
        ["sk_steer", "tc_egress", "tc_ingress", "xdp_balancer"]
            .map(str::to_owned)
            .into()
    );
    Ok(())
}

#[test]
fn no_broken_config_kills_a_running_daemon() -> Result<()> {
    let mut running = Running::start()?;
    let long = running.long(Family::V4, 5)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/configs");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    // Those whose golden output is a warning are accepted.
    let is_broken = |path: &PathBuf| {
        let golden = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "yaml") && !golden.starts_with("ok")
    };
    let configs: Vec<_> = paths
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(is_broken)
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
        running.daemon.write_bytes(&fs::read(path)?)?;
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

/// What `weir flow` says of a connection is what the connection has.
#[test]
fn weir_flow_tells_where_a_connection_goes() -> Result<()> {
    let running = Running::start()?;
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let vip = Running::vip(Family::V4);
    let weir = |arguments: &[&str]| running.daemon.weir(&[arguments, &["--socket", &socket]].concat());
    let flow = |client: &str| -> Result<Value> {
        let answer = weir(&["flow", client, &vip.to_string(), "--json"])?.success()?;
        Ok(serde_json::from_str(&answer)?)
    };
    let mut open = Vec::new();
    for _ in 0..8 {
        let stream = running.topology.client.run(|| TcpStream::connect(vip))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut name = String::new();
        BufReader::new(&stream).read_line(&mut name)?;
        let number: usize = name.trim().trim_start_matches("backend-").parse()?;
        let backend = Running::backend(number - 1).to_string();
        let client = stream.local_addr()?.to_string();
        let told = flow(&client)?;
        ensure!(
            told["goes_to"] == json!(backend)
                && told["slot"]["backend"]["address"] == json!(backend)
                && told["entry"]["destination"] == json!(backend)
                && told["entry"]["stage"] == "established",
            "{backend} answered: {told}"
        );
        open.push((stream, client, backend));
    }
    // A drain moves the slot, not the connection.
    let (_stream, client, backend) = &open[0];
    weir(&["endpoint", "set", "tcp4", backend, "--drain"])?.success()?;
    let told = flow(client)?;
    ensure!(
        told["goes_to"] == json!(backend)
            && told["entry"]["backend"]["state"] == "draining"
            && told["slot"]["backend"]["address"] != json!(backend),
        "{told}"
    );
    let text = weir(&["flow", client, &vip.to_string()])?.success()?;
    ensure!(
        text.contains(&format!("goes to {backend}: its entry; the backend drains")),
        "{text}"
    );
    // A flow that isn't there, and a service that isn't.
    let told = flow("192.0.2.200:4711")?;
    ensure!(
        told["entry"].is_null() && told["goes_to"] == told["slot"]["backend"]["address"],
        "{told}"
    );
    let failed = weir(&["flow", client, "192.0.2.200:1"])?;
    ensure!(
        !failed.status.success() && failed.stderr.contains("no tcp service on 192.0.2.200:1"),
        "{failed:?}"
    );
    Ok(())
}

/// What `weir check --capacity` says before a start is what the kernel says afterwards.
#[test]
fn capacity_is_what_the_kernel_counts() -> Result<()> {
    let running = Running::start()?;
    let config = running.daemon.config().to_string_lossy().into_owned();
    let printed = running
        .daemon
        .weir(&["check", &config, "--capacity"])?
        .success()?;
    let said = |map: &str| -> Result<f64> {
        let row = printed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(map));
        let row = row.with_context(|| format!("{map} in {printed}"))?;
        Ok(row.split_whitespace().last().unwrap_or_default().parse()?)
    };
    for map in [
        "flows",
        "backends",
        "services",
        "service_counters",
        "backend_counters",
        "slots",
        "fragments",
        "source_rates",
        "workers",
        "affinities",
        "service_options",
    ] {
        let shown = running.bpftool(&format!("map show pinned {}", running.daemon.pin(map).display()))?;
        let counted = shown["bytes_memlock"].as_f64().context("bytes_memlock")? / f64::from(1 << 20);
        let said = said(map)?;
        ensure!(
            (said - counted).abs() < 0.02 + counted * 0.02,
            "{map}: {said} MiB said, the kernel counts {counted}: {shown}"
        );
    }
    ensure!(said("total")? > said("flows")?, "{printed}");
    ensure!(said("maglev_table")? > 0.0, "{printed}");
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
fn idle_flows_leave_the_table_and_busy_ones_stay() -> Result<()> {
    let running = Running::start_with(|mut config| {
        for listener in config.value["listeners"].as_array_mut().into_iter().flatten() {
            listener["forward"]["idle_timeouts"] =
                json!({"tcp": "3s", "tcp_opening": "2s", "tcp_closing": "1s", "udp": "1s"});
        }
        config
    })?;
    let long = running.long(Family::V4, 3)?;
    assert_eq!(failures(&running.ask(100)).len(), 0);
    let answered = running.topology.client.run(|| -> io::Result<usize> {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect(Running::vip(Family::V6))?;
        socket.send(b"x")?;
        socket.recv(&mut [0; 64])
    })?;
    ensure!(answered > 1, "an empty answer");
    let entries = || -> Result<usize> {
        let dump = running.bpftool(&format!(
            "map dump pinned {}",
            running.daemon.pin("flows").display()
        ))?;
        Ok(dump.as_array().context("a list of entries")?.len())
    };
    ensure!(entries()? > 3 * 2, "nothing to expire");
    // Two entries a connection, one a direction.
    until("all but the busy flows to expire", LIMIT, || {
        (entries().ok()? == 3 * 2).then_some(())
    })?;
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    assert_eq!(entries()?, 3 * 2);
    Ok(())
}
