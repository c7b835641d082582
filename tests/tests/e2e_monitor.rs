//! `weir monitor` on real traffic: what it shows, what its filters leave out, and that it needs no daemon.

use anyhow::{Context, Result, ensure};
use proxy_common::events::wanted;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use weir_tests::lab::{Family, Finished, Process, Running, until, weir_binary};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A UDP service none of whose backends takes flows.
const NOBODY: u16 = 9;

fn start() -> Result<Running> {
    Running::start_with(|config| {
        let backend = SocketAddr::new(Family::V4.backend(0), NOBODY);
        config.service("nobody", "udp", nobody(), &[(backend, 0)])
    })
}

fn nobody() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(1), NOBODY)
}

/// A datagram that is dropped; returns whose it was.
fn send_to_nobody(running: &Running) -> Result<SocketAddr> {
    running.topology.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(nobody())?;
        socket.send(b"a datagram")?;
        Ok(socket.local_addr()?)
    })
}

/// Arguments that every monitor of a lab needs.
fn arguments(running: &Running, more: &[&str]) -> Vec<String> {
    let pins = running.daemon.pin_path().to_string_lossy().into_owned();
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let start = ["monitor", "--pin-path", &pins, "--socket", &socket];
    start.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// A monitor in the background that listens already.
struct Monitor {
    process: Process,
    output: PathBuf,
}

impl Monitor {
    fn start(running: &Running, more: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = running.topology.lab.directory();
        let output = directory.join(format!("monitor-{number}.out"));
        let mut command = running.daemon.host().command("sh")?;
        // Standard output in a file of its own; the shell becomes the monitor.
        command.args(["-c", "out=$1; shift; exec \"$@\" > \"$out\"", "sh"]);
        command
            .arg(&output)
            .arg(weir_binary()?)
            .args(arguments(running, more));
        let log = directory.join(format!("monitor-{number}.log"));
        let mut process = Process::start(command.env("NO_COLOR", "1"), &log)?;
        until("a monitor that listens", LIMIT, || {
            (flags(running).ok()? != 0 || process.ended().is_some()).then_some(())
        })?;
        process.check()?;
        Ok(Self { process, output })
    }

    /// What it showed, once it has ended by itself.
    fn finish(mut self, what_happens: impl Fn() -> Result<()>) -> Result<Vec<String>> {
        let status = until("the monitor's end", LIMIT, || {
            what_happens().ok()?;
            self.process.ended()
        })?;
        ensure!(status.success(), "{status}: {}", self.process.output());
        self.lines()
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.output)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Ends it by a signal; returns its last words.
    fn stop(mut self, signal: Signal) -> Result<String> {
        self.process.signal(signal)?;
        let status = until("the monitor's end", LIMIT, || self.process.ended())?;
        ensure!(status.success(), "{status}: {}", self.process.output());
        Ok(self.process.output())
    }
}

/// What `Settings::flags` says of events: not 0 while the programs tell of them.
fn flags(running: &Running) -> Result<u64> {
    let pin = running.daemon.pin("settings");
    let shown = running.bpftool(&format!("map dump pinned {}", pin.display()))?;
    let flags = &shown[0]["formatted"]["value"]["flags"];
    let flags = flags.as_u64().with_context(|| format!("no flags in {shown}"))?;
    Ok(flags & (wanted::EVENTS | u64::from(u32::MAX) << wanted::RATE_SHIFT))
}

fn weir(running: &Running, more: &[&str]) -> Result<Finished> {
    let arguments = arguments(running, more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    running.daemon.weir(&arguments)
}

fn object(lines: &[String]) -> Result<Value> {
    ensure!(lines.len() == 1, "not one line: {lines:?}");
    Ok(serde_json::from_str(&lines[0])?)
}

#[test]
fn shows_a_drop_and_a_flow() -> Result<()> {
    let running = start()?;
    let client = Family::V4.client();
    let source = format!("{client}/32");
    let monitor = Monitor::start(
        &running,
        &[
            "--json", "--count", "1", "--event", "dropped", "--source", &source,
        ],
    )?;
    let ports = std::sync::Mutex::new(Vec::new());
    let lines = monitor.finish(|| {
        ports.lock().unwrap().push(send_to_nobody(&running)?.to_string());
        Ok(())
    })?;
    let shown = object(&lines)?;
    let source = shown["source"].as_str().context("a source")?.to_owned();
    ensure!(ports.lock().unwrap().contains(&source), "{shown}");
    for (field, expected) in [
        ("event", json!("dropped")),
        ("reason", json!("no_backend")),
        ("service", json!("nobody")),
        ("vip", json!(nobody().to_string())),
        ("destination", json!(nobody().to_string())),
        ("protocol", json!("udp")),
        ("backend", Value::Null),
        ("interface", json!("front")),
    ] {
        assert_eq!(shown[field], expected, "{field} in {shown}");
    }
    let vip = Running::vip(Family::V4);
    let monitor = Monitor::start(&running, &["--json", "--count", "1", "--service", "tcp4"])?;
    let stream = running.topology.client.run(|| TcpStream::connect(vip))?;
    let lines = monitor.finish(|| Ok(()))?;
    let shown = object(&lines)?;
    ensure!(
        shown["event"] == "opened"
            && shown["service"] == "tcp4"
            && shown["source"] == json!(stream.local_addr()?.to_string()),
        "{shown}"
    );
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let flow = [
        "flow",
        shown["source"].as_str().context("a source")?,
        &vip.to_string(),
        "--json",
        "--socket",
        &socket,
    ];
    let told: Value = serde_json::from_str(&running.daemon.weir(&flow)?.success()?)?;
    assert_eq!(shown["backend"], told["goes_to"]);
    // As text, by its backend.
    let monitor = Monitor::start(
        &running,
        &["--count", "1", "--backend", &Running::backend(1).to_string()],
    )?;
    let lines = monitor.finish(|| running.ask(1).pop().map(drop).context("an attempt"))?;
    ensure!(
        lines[0].contains("  opened    tcp ") && lines[0].contains(&format!("{} ", Running::backend(1))),
        "{lines:?}"
    );
    assert_eq!(flags(&running)?, 0);
    Ok(())
}

#[test]
fn filters_leave_out_the_rest() -> Result<()> {
    let running = start()?;
    for (n, filter) in [
        ["--source", "192.0.2.199"],
        ["--reason", "ttl_expired"],
        ["--event", "moved"],
        ["--service", "udp4"],
        ["--backend", "192.0.2.199:1"],
    ]
    .iter()
    .enumerate()
    {
        let monitor = Monitor::start(&running, filter)?;
        for _ in 0..3 {
            send_to_nobody(&running)?;
        }
        let drops = 3 * (n as u64 + 1);
        until("three drops", LIMIT, || {
            (running.daemon.drops("no_backend").ok()? == drops).then_some(())
        })?;
        let output = monitor.output.clone();
        let words = monitor.stop(Signal::INT)?;
        ensure!(
            words.contains("0 events shown of 3 received, 0 lost"),
            "{filter:?}: {words}"
        );
        assert_eq!(fs::read_to_string(output)?, "", "{filter:?}");
        assert_eq!(flags(&running)?, 0);
    }
    Ok(())
}

#[test]
fn tcpdump_reads_what_it_writes() -> Result<()> {
    let running = start()?;
    let file = running.topology.lab.directory().join("monitor.pcap");
    let name = file.to_string_lossy().into_owned();
    let monitor = Monitor::start(&running, &["--pcap", &name, "--count", "3", "--event", "dropped"])?;
    let lines = monitor.finish(|| send_to_nobody(&running).map(drop))?;
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let host = running.daemon.host();
    let shown = host.execute(&format!("tcpdump -nr {name}"))?;
    let packet = format!("IP {}.", Family::V4.client());
    let wanted = format!(" > {}.{NOBODY}: UDP, length 10", Family::V4.vip(1));
    ensure!(
        shown.lines().count() == 3
            && shown
                .lines()
                .all(|line| line.contains(&packet) && line.contains(&wanted)),
        "{shown}"
    );
    // Standard output, and then no lines.
    let monitor = Monitor::start(&running, &["--pcap", "-", "--count", "1", "--event", "opened"])?;
    let output = monitor.output.clone();
    monitor
        .finish(|| running.ask(1).pop().map(drop).context("an attempt"))
        .ok();
    let mut tcpdump = host.command("tcpdump")?;
    let child = tcpdump
        .args(["-nr", "-"])
        .stdin(File::open(output)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let shown = String::from_utf8(child.wait_with_output()?.stdout)?;
    ensure!(
        shown.lines().count() == 1 && shown.contains("Flags [S]"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn works_without_the_daemon_and_across_its_restart() -> Result<()> {
    let mut running = start()?;
    running.daemon.kill();
    let vip = nobody().to_string();
    let monitor = Monitor::start(&running, &["--json", "--count", "1", "--service", &vip])?;
    let shown = object(&monitor.finish(|| send_to_nobody(&running).map(drop))?)?;
    ensure!(
        shown["service"].is_null() && shown["vip"] == json!(vip) && shown["reason"] == "no_backend",
        "{shown}"
    );
    let failed = weir(&running, &["--service", "nobody"])?;
    ensure!(
        !failed.status.success() && failed.stderr.contains("name the service by VIP:PORT"),
        "{failed:?}"
    );
    assert_eq!(flags(&running)?, 0, "cleared after an error");
    // A start clears what was asked for; who lives asks again.
    let mut monitor = Monitor::start(&running, &["--count", "1", "--reason", "no_backend"])?;
    running.daemon.start_again()?;
    until("the flag once more", LIMIT, || {
        (flags(&running).ok()? != 0).then_some(())
    })?;
    monitor.process.check()?;
    assert_eq!(monitor.finish(|| send_to_nobody(&running).map(drop))?.len(), 1);
    // Of one that was killed the next daemon clears up.
    let mut monitor = Monitor::start(&running, &[])?;
    monitor.process.kill();
    ensure!(flags(&running)? != 0, "somebody cleared up after SIGKILL");
    running.daemon.kill();
    running.daemon.start_again()?;
    assert_eq!(flags(&running)?, 0);
    Ok(())
}

#[test]
fn there_is_one_at_a_time_and_root_alone() -> Result<()> {
    let running = start()?;
    let monitor = Monitor::start(&running, &[])?;
    let second = weir(&running, &["--count", "1"])?;
    ensure!(
        !second.status.success() && second.stderr.contains("another weir monitor reads the events"),
        "{second:?}"
    );
    ensure!(flags(&running)? != 0, "the second one stopped the first");
    monitor.stop(Signal::TERM)?;
    assert_eq!(flags(&running)?, 0);
    for map in ["events", "event_losses", "settings"] {
        let mode = fs::metadata(running.daemon.pin(map))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{map}");
    }
    let binary = weir_binary()?;
    let mut command = running.daemon.host().command("setpriv")?;
    command.args(["--reuid=65534", "--clear-groups"]).arg(binary);
    let refused = Finished::run(command.args(arguments(&running, &[])), "")?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("run as root"),
        "{refused:?}"
    );
    let monitor = Monitor::start(&running, &[])?;
    running
        .daemon
        .weir(&[
            "unload",
            "--force",
            "--pin-path",
            &running.daemon.pin_path().to_string_lossy(),
        ])?
        .success()?;
    let mut process = monitor.process;
    let status = until("the monitor's end", LIMIT, || process.ended())?;
    ensure!(
        !status.success() && process.output().contains("weir was unloaded"),
        "{status}: {}",
        process.output()
    );
    Ok(())
}

#[test]
fn mistakes_are_named() -> Result<()> {
    let running = start()?;
    for (arguments, message) in [
        (&["--reason", "no_bakend"][..], "no_backend"),
        (
            &["--event", "nothing"],
            "possible values: dropped, opened, moved, answered",
        ),
        (
            &["--source", "10.0.0.0/33"],
            "write a prefix such as 198.51.100.0/24",
        ),
        (&["--backend", "10.0.0.1"], "--backend"),
        (&["--count", "0"], "--count"),
        (&["--sample", "0"], "--sample"),
        (
            &["--service", "nowhere"],
            "no L4 service nowhere; `weir status` lists them",
        ),
        (&["--service", "192.0.2.199:1"], "no L4 service 192.0.2.199:1"),
        (&["--json", "--pcap", "-"], "name a file for --pcap"),
        (&["--pcap", "/nowhere/file"], "writing /nowhere/file"),
    ] {
        let failed = weir(&running, arguments)?;
        ensure!(
            !failed.status.success() && failed.stderr.contains(message),
            "{arguments:?}: {failed:?}"
        );
        assert_eq!(flags(&running)?, 0, "{arguments:?}");
    }
    let failed = running
        .daemon
        .weir(&["monitor", "--pin-path", "/sys/fs/bpf/nowhere"])?;
    ensure!(
        failed
            .stderr
            .contains("no kernel plane with events is loaded under /sys/fs/bpf/nowhere"),
        "{failed:?}"
    );
    Ok(())
}
