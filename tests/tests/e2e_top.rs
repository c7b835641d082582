//! `weir top` on a terminal of 80 by 24, with real traffic: what it shows, what keys do, and how it ends. With WEIR_BLESS=1
//! it also makes the pictures in docs/pictures.
//!
//! WEIR_BLESS=1 cargo test -p weir-tests --test e2e_top

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{env, fs, path::Path, time::Duration};
use weir_tests::lab::{Family, Running, Terminal, until, weir_binary};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

const COLUMNS: u16 = 80;
const LINES: u16 = 24;

/// With health checks, an L7 listener that answers by itself, and two workers.
fn start() -> Result<Running> {
    Running::start_with(|config| {
        let mut config = config.health_check("tcp4", "200ms").health_check("tcp6", "200ms");
        let vip = Family::V4.vip(1);
        let web = json!({
            "name": "web",
            "address": format!("{vip}:8080"),
            "routes": [{"respond": {"status": 200, "body": "ok\n"}}],
        });
        config.value["workers"] = json!(2);
        if let Some(listeners) = config.value["listeners"].as_array_mut() {
            listeners.push(web);
        }
        config
    })
}

fn top(running: &Running, more: &str) -> Result<Terminal> {
    let (weir, socket) = (weir_binary()?, running.daemon.admin().socket().to_owned());
    let line = format!(
        "{} top --interval 250ms --socket {} {more}",
        weir.display(),
        socket.display()
    );
    Terminal::start(running.daemon.host(), COLUMNS, LINES, &line)
}

/// Whether a line that has the first has the second, too.
fn has_line(screen: &str, name: &str, text: &str) -> bool {
    screen
        .lines()
        .any(|line| line.contains(name) && line.contains(text))
}

/// The word under a heading in the line that begins with a name, both to the right.
fn figure(screen: &str, name: &str, heading: &str) -> Option<String> {
    let headings = screen.lines().find(|line| line.contains(heading))?;
    let end = headings.find(heading)? + heading.len();
    let line = screen
        .lines()
        .find(|line| line.trim_start_matches("> ").trim_start().starts_with(name))?;
    let until_there: String = line.chars().take(end).collect();
    until_there.split_whitespace().last().map(str::to_owned)
}

fn picture(terminal: &Terminal, name: &str, title: &str) -> Result<()> {
    if env::var_os("WEIR_BLESS").is_none() {
        return Ok(());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/pictures")
        .join(name);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(fs::write(path, terminal.picture(title)?)?)
}

#[test]
fn services_backends_and_keys() -> Result<()> {
    let mut running = start()?;
    let long = running.long(Family::V4, 8)?;
    let terminal = top(&running, "")?;
    let moves = |screen: &str| figure(screen, "tcp4", "PPS").is_some_and(|pps| pps != "-" && pps != "0");
    let screen = terminal.wait_for("packets of tcp4", |screen| {
        screen.contains("healthy: 4 services, 12 of 12 backends, 1 listener") && moves(screen)
    })?;
    ensure!(
        has_line(&screen, "tcp4", "3/3") && screen.contains("[1 Services]"),
        "{screen}"
    );
    ensure!(figure(&screen, "tcp6", "PPS").as_deref() == Some("0"), "{screen}");
    ensure!(screen.lines().count() == usize::from(LINES), "{screen}");

    // One fails, one drains.
    running.servers[2].stop();
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let drained = Running::backend(1).to_string();
    let arguments = [
        "endpoint", "set", "tcp4", &drained, "--drain", "--socket", &socket,
    ];
    running.daemon.weir(&arguments)?.success()?;
    terminal.wait_for("two of three away", |screen| {
        has_line(screen, "tcp4", "1/3") && moves(screen)
    })?;
    picture(&terminal, "top.svg", "weir top: services")?;

    terminal.press(&["Enter"])?;
    let failed = Running::backend(2).to_string();
    terminal.wait_for("the backends", |screen| {
        screen.contains("[1 Services > tcp4 tcp ")
            && has_line(screen, &failed, "unhealthy")
            && has_line(screen, &drained, "draining")
            && has_line(screen, &Running::backend(0).to_string(), "100.0 %")
    })?;
    terminal.press(&["G"])?;
    terminal.wait_for("why", |screen| screen.contains("health check: fails for"))?;
    picture(&terminal, "top-backends.svg", "weir top: a service's backends")?;

    terminal.press(&["Escape"])?;
    terminal.wait_for("services again", |screen| screen.contains("[1 Services]"))?;
    terminal.press(&["/", "t", "c", "p", "6", "Enter"])?;
    terminal.wait_for("tcp6 alone", |screen| {
        screen.contains("filter: tcp6") && has_line(screen, "tcp6", "2/3") && !has_line(screen, "tcp4", "nat")
    })?;
    terminal.press(&["Escape"])?;
    terminal.wait_for("all of them", |screen| has_line(screen, "udp4", "1/3"))?;
    for (key, text) in [
        ("2", "192.0.2.1:8080"),
        ("3", "REQUESTS/S"),
        ("4", "DROP REASON"),
        ("5", "least_loaded"),
    ] {
        terminal.press(&[key])?;
        let vip = Family::V4.vip(1).to_string();
        let text = text.replace("192.0.2.1", &vip);
        terminal.wait_for(&text, |screen| {
            screen.contains(&text) && screen.contains(&format!("[{key} "))
        })?;
    }
    terminal.press(&["6"])?;
    terminal.wait_for("what is wrong", |screen| {
        screen.contains("1 of 3 backends unhealthy")
    })?;
    terminal.press(&["q"])?;
    ensure!(terminal.end()? == 0, "q");
    ensure!(long.wait_for_rounds(1, LIMIT).is_ok());
    Ok(())
}

#[test]
fn it_outlives_the_daemon_and_gives_the_terminal_back() -> Result<()> {
    let mut running = start()?;
    let terminal = top(&running, "--page kernel")?;
    terminal.wait_for("health", |screen| screen.contains("healthy: 4 services"))?;
    running.daemon.kill();
    terminal.wait_for("its absence", |screen| {
        screen.contains("unreachable, what is shown was its last answer") && screen.contains("least_loaded")
    })?;
    running.daemon.start_again()?;
    terminal.wait_for("its return", |screen| screen.contains("healthy: 4 services"))?;
    let id = terminal.id()?.to_string();
    running.daemon.host().execute(&format!("kill -TERM {id}"))?;
    ensure!(terminal.end()? == 0, "SIGTERM");

    let plain = top(&running, "--page health")?;
    plain.wait_for("health", |screen| screen.contains("nothing needs attention"))?;
    plain.press(&["C-c"])?;
    ensure!(plain.end()? == 0, "Ctrl-C");
    Ok(())
}

#[test]
fn one_frame_for_scripts() -> Result<()> {
    let running = start()?;
    let _long = running.long(Family::V4, 2)?;
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let arguments = ["top", "--once", "--interval", "500ms", "--socket", &socket];
    let frame = until("packets in a frame", LIMIT, || {
        let frame = running.daemon.weir(&arguments).ok()?.success().ok()?;
        figure(&frame, "tcp4", "PPS")
            .is_some_and(|pps| pps != "0")
            .then_some(frame)
    })?;
    ensure!(
        frame.contains("L7 0 conns") && !frame.contains('\x1b') && !frame.contains("q quit"),
        "{frame}"
    );
    let refused = running.daemon.weir(&["top", "--socket", &socket])?;
    ensure!(
        refused.stderr.contains("use --once") && !refused.status.success(),
        "{refused:?}"
    );
    Ok(())
}
