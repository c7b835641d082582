//! Verbs, exit codes, and what is printed.

use super::{
    WEB,
    support::{Daemon, Home, free_port, text, weir, weir_on},
};
use serde_json::Value;
use std::process::Stdio;

#[test]
fn the_command_line_is_a_client() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let socket = home.socket();
    let set = weir_on(
        &socket,
        &["endpoint", "set", "web", "198.51.100.1:80", "--weight", "3"],
    );
    assert_eq!(
        text(&set.stdout),
        "cluster web endpoint 198.51.100.1:80: weight 1 -> 3\n"
    );
    let drain = weir_on(&socket, &["endpoint", "set", "web", "198.51.100.2:80", "--drain"]);
    assert_eq!(
        text(&drain.stdout),
        "cluster web endpoint 198.51.100.2:80: draining\n"
    );
    let screen = text(&weir_on(&socket, &["status"]).stdout);
    assert!(
        screen.contains("3 (config: 1)") && screen.contains("draining (config: no drain)"),
        "{screen}"
    );
    let undrain = weir_on(
        &socket,
        &["endpoint", "set", "web", "198.51.100.2:80", "--undrain"],
    );
    assert_eq!(
        text(&undrain.stdout),
        "cluster web endpoint 198.51.100.2:80: no longer draining\n"
    );
    let json: Value = serde_json::from_slice(&weir_on(&socket, &["status", "--json"]).stdout).unwrap();
    assert_eq!(json["pid"], daemon.pid());

    let wrong = weir_on(&socket, &["endpoint", "set", "dns", "198.51.100.2:80", "--drain"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(text(&wrong.stderr), "weir: no cluster dns; use one of: web\n");
    let usage = weir_on(&socket, &["endpoint", "set", "web", "198.51.100.2:80"]);
    assert_eq!(usage.status.code(), Some(2));

    daemon.signal("INT");
    assert_eq!(daemon.end(), Some(0));
    let nobody = weir_on(&socket, &["status"]);
    assert_eq!(nobody.status.code(), Some(1));
    let error = text(&nobody.stderr);
    assert!(
        error.starts_with(&format!("weir: no weir runs on {}; start one", socket.display())),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

/// 0, 1 and 2, and the first line says the same.
#[test]
fn status_check_answers_by_its_exit_code() {
    let home = Home::new(WEB);
    let socket = home.socket();
    let listener = format!("127.0.0.1:{}", free_port());
    let served = format!(
        "admin: {{ socket: {} }}\nlisteners: [{{ name: web, address: \"{listener}\", routes: [{{ respond: {{ status: 200 }} }}] }}]\n",
        socket.display()
    );
    home.write(&served);
    let daemon = Daemon::start(&home);
    let check = |arguments: &[&str]| {
        let output = weir_on(&socket, arguments);
        let first = text(&output.stdout).lines().next().unwrap_or_default().to_owned();
        (output.status.code(), first)
    };
    let healthy = (Some(0), "healthy: 1 listener".to_owned());
    assert_eq!(check(&["status", "--check"]), healthy);

    home.write("listeners: 7\n");
    daemon.signal("HUP");
    daemon.status_when("refused", |status| !status["last_error"].is_null());
    assert_eq!(
        check(&["status", "--check"]),
        (Some(1), "degraded: 1 listener".to_owned())
    );
    assert_eq!(check(&["status"]).0, Some(0), "an answer is no error");
    assert_eq!(check(&["status", "--json", "--check"]).0, Some(1));

    // L4 without the kernel.
    home.write(&home.config_with(WEB, ""));
    daemon.status_when("a service", |status| {
        !status["services"].as_array().unwrap().is_empty() && status["last_error"].is_null()
    });
    let screen = text(&weir_on(&socket, &["status"]).stdout);
    assert!(
        screen.contains(
            "  failing: no kernel plane (--no-kernel): 1 service not forwarded; start weir as root"
        ),
        "{screen}"
    );
    assert_eq!(check(&["status", "--check"]).0, Some(2));
    daemon.signal("INT");
    assert_eq!(daemon.end(), Some(0));
    assert_eq!(check(&["status", "--check"]).0, Some(2));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let home = Home::new(WEB);
    let _daemon = Daemon::start(&home);
    let mut status = weir(&["status", "--json", "--socket"]);
    let mut child = status
        .arg(home.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
}

#[test]
fn what_keeps_it_from_starting_is_said_in_a_line() {
    let home = Home::new(WEB);
    let output = weir(&["run"]).arg(home.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.contains("lists no interfaces") && error.contains("--no-kernel"),
        "{error}"
    );

    home.write("listeners: 7\n");
    let output = weir(&["run", "--no-kernel"]).arg(home.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("weir.yaml:1: listeners: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn one_daemon_at_a_time_and_a_dead_one_is_replaced() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let second = weir(&["run", "--no-kernel"]).arg(home.config()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stderr);
    let expected = format!(
        "another weir is running (pid {}) on {}",
        daemon.pid(),
        home.socket().display()
    );
    assert!(error.contains(&expected), "{error}");
    daemon.status();

    daemon.signal("KILL");
    daemon.end();
    assert!(home.socket().exists());
    let daemon = Daemon::start(&home);
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    assert!(!home.socket().exists());
}
