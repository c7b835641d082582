//! What traffic of both planes notices when one process takes over from another: nothing, from one container to the next too, and
//! least of all where that fails.

use super::{LIMIT, dropped};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf};
use weir_tests::lab::{DaemonConfig, Family, Finished, Running, Traffic, Web, failures, until};

/// As from one container to the next: the bpffs, the folder of the sockets and the network are the host's, and nothing else. No more
/// capabilities than README says, no way to others, and settings of the kernel that can't be written.
const CONTAINER: [&str; 9] = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-ec",
    CONTAINED,
];
const CONTAINED: &str = "mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec setpriv --no-new-privs --bounding-set=-all,+bpf,+perfmon,+net_admin,+sys_admin \"$0\" \"$@\"";

/// Upgrades in a row; `WEIR_LONG` asks for the number that the project promises.
fn upgrades() -> usize {
    if std::env::var_os("WEIR_LONG").is_some() {
        100
    } else {
        4
    }
}

/// Where the L7 listener is, on no interface: the kernel steers connections to the workers' sockets.
fn web() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(2), 8000)
}

/// Services in the kernel, and a listener beside them.
fn with_web(mut config: DaemonConfig) -> DaemonConfig {
    config.value["workers"] = json!(2);
    config.value["upgrade"] = json!({"ready_timeout": "5m"});
    if let Some(listeners) = config.value["listeners"].as_array_mut() {
        listeners.push(json!({
            "name": "web",
            "address": web(),
            "routes": [{"respond": {"status": 200, "body": "ok"}}],
        }));
    }
    config
}

#[test]
fn one_process_after_another_takes_over_unnoticed() -> Result<()> {
    let mut running = Running::start_with(with_web)?;
    let traffic = Traffic::start(&running)?;
    let web = Web::start(&running, web())?;
    for number in 0..upgrades() {
        let words: &[&str] = if number % 2 == 0 { &CONTAINER } else { &[] };
        running.daemon.take_over(words)?;
        traffic
            .wait()
            .with_context(|| format!("after upgrade {number}"))?;
    }
    // The last one rules.
    running.daemon.drain("tcp4", Running::backend(0))?;
    ensure!(
        dropped(&running)? == 0,
        "{:#}",
        running.daemon.status()?["kernel"]["drops"]
    );
    web.expect_unnoticed()?;
    traffic.expect_unnoticed()?;
    running.daemon.expect_left()
}

/// A program that asks for the sockets and then does nothing, as one that hangs while it starts.
fn hanging(running: &Running) -> Result<PathBuf> {
    let path = running.topology.lab.directory().join("hanging");
    let script = "#!/usr/bin/python3
import json, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
config = json.load(open(next(word for word in sys.argv if word.endswith('.yaml'))))
s.connect(config['admin']['socket'] + '.upgrade')
s.send(json.dumps({'take_over': {'version': '9.9.9', 'pid': 1}}).encode())
s.recv(65536)
time.sleep(3600)
";
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The process may be told to end at any time, by an orchestrator that believes the next one to be ready.
#[test]
fn a_process_that_is_to_end_amid_a_hand_over_takes_back_first() -> Result<()> {
    let mut running = Running::start_with(|config| {
        let mut config = with_web(config);
        config.value["upgrade"] = json!({"ready_timeout": "2s"});
        config
    })?;
    let socket = running.daemon.admin().socket().display().to_string();
    let hanging = hanging(&running)?.display().to_string();
    std::thread::scope(|scope| -> Result<()> {
        let daemon = &running.daemon;
        let upgrading = scope.spawn(|| daemon.weir(&["upgrade", "--socket", &socket, "--binary", &hanging]));
        until("the hand-over", LIMIT, || {
            let status = daemon.status().ok()?;
            (status["kernel"]["absent"] == "an upgrade is under way").then_some(())
        })?;
        daemon.signal(Signal::TERM)?;
        let refused = upgrading.join().map_err(|_| anyhow!("a thread panicked"))??;
        ensure!(refused.stderr.contains("did not serve within 2s"), "{refused:?}");
        Ok(())
    })?;
    running.daemon.expect_end()?;
    ensure!(!running.daemon.admin().socket().exists(), "its socket is left");
    running.daemon.start_again()?;
    ensure!(failures(&running.ask(20)).is_empty(), "it does not forward");
    Ok(())
}

#[test]
fn an_upgrade_that_fails_leaves_the_service_untouched() -> Result<()> {
    let mut running = Running::start_with(|config| {
        let mut config = with_web(config);
        config.value["upgrade"] = json!({"ready_timeout": "3s"});
        config
    })?;
    let traffic = Traffic::start(&running)?;
    let web = Web::start(&running, web())?;
    let upgrade = |running: &Running, program: &str| -> Result<Finished> {
        let socket = running.daemon.admin().socket().display().to_string();
        running
            .daemon
            .weir(&["upgrade", "--socket", &socket, "--binary", program])
    };
    let hanging = hanging(&running)?.display().to_string();
    for (program, said) in [
        ("/bin/false", "the new process ended (exit status: 1)"),
        ("/etc/hostname", "starting /etc/hostname: "),
        (hanging.as_str(), "did not serve within 3s"),
    ] {
        let refused = upgrade(&running, program)?;
        ensure!(
            !refused.status.success() && refused.stderr.contains(said),
            "{program}: {refused:?}"
        );
        running.daemon.check()?;
        running.daemon.wait_in_force()?;
        traffic.wait().with_context(|| format!("after {program}"))?;
    }
    // A config that only shows itself as impossible when the sockets are handed over already: nobody here has the address.
    let mut impossible = running.config.clone();
    impossible.value["metrics"] = json!({"address": "192.0.2.77:9100"});
    running.daemon.write(&impossible)?;
    let binary = running.daemon.binary().display().to_string();
    let refused = upgrade(&running, &binary)?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("metrics.address: 192.0.2.77:9100"),
        "{refused:?}"
    );
    running.daemon.write(&running.config)?;
    running.daemon.wait_in_force()?;
    traffic.wait().context("after a config that can't be")?;
    let status: Value = running.daemon.status()?;
    ensure!(status["pid"] == json!(running.daemon.id()), "{status:#}");
    // It rules as before: the maps are its own again.
    running.daemon.drain("tcp4", Running::backend(0))?;
    ensure!(dropped(&running)? == 0, "{:#}", status["kernel"]["drops"]);
    web.expect_unnoticed()?;
    traffic.expect_unnoticed()
}
