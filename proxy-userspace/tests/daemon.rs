//! The daemon from outside: config in, signals in, API out; no privileges needed.

mod support;

use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};
use support::{Daemon, Home, backend, text, weir, weir_on};

const WEB: &str = "  - { name: web, endpoints: [\"198.51.100.1:80\", \"198.51.100.2:80\"] }\n";

fn endpoints(status: &Value) -> Vec<&Value> {
    status["services"][0]["backends"]
        .as_array()
        .unwrap()
        .iter()
        .collect()
}

#[test]
fn status_tells_what_is_there() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let status = daemon.status();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["generation"], 1);
    assert_eq!(status["kernel"]["generation"], Value::Null);
    assert_eq!(status["kernel"]["absent"], "--no-kernel");
    assert_eq!(status["last_error"], Value::Null);
    let service = &status["services"][0];
    assert_eq!(service["name"], "web");
    assert_eq!(service["address"], "192.0.2.10:80");
    assert_eq!(
        (&service["protocol"], &service["mode"]),
        (&json!("tcp"), &json!("nat"))
    );
    assert_eq!(service["counters"], Value::Null);
    assert_eq!(
        service["backends"][0],
        json!({
            "address": "198.51.100.1:80", "weight": 1, "effective_weight": 1, "share_percent": 50.0,
            "state": "unknown", "drain": false, "overridden": null, "health": null, "counters": null,
        })
    );
    assert_eq!(
        fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn every_wrong_request_has_an_error_and_a_remedy() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let endpoint = "/clusters/web/endpoints/198.51.100.1:80";
    let long = format!("{{\"weight\": 1{}}}", " ".repeat(20_000));
    let table: &[(&str, &str, Option<&str>, u16, &str)] = &[
        ("GET", "/", None, 404, "no such path"),
        ("GET", "/status/", None, 404, "no such path"),
        ("POST", "/status", None, 405, "does not take POST"),
        ("GET", "/reload", None, 405, "does not take GET"),
        ("PUT", endpoint, Some("{}"), 405, "does not take PUT"),
        ("PATCH", endpoint, None, 400, "EOF"),
        ("PATCH", endpoint, Some("{}"), 400, "nothing to change"),
        (
            "PATCH",
            endpoint,
            Some("{\"weigth\": 1}"),
            400,
            "unknown field `weigth`",
        ),
        ("PATCH", endpoint, Some("{\"weight\": -1}"), 400, "invalid value"),
        ("PATCH", endpoint, Some("{\"weight\": 65536}"), 400, "too great"),
        ("PATCH", endpoint, Some(&long), 413, "longer than"),
        (
            "PATCH",
            "/clusters/web/endpoints/here",
            Some("{}"),
            400,
            "no endpoint address",
        ),
        (
            "PATCH",
            "/clusters/%ff/endpoints/198.51.100.1:80",
            Some("{}"),
            400,
            "is not a name",
        ),
        (
            "PATCH",
            "/clusters/dns/endpoints/198.51.100.1:80",
            Some("{\"weight\": 1}"),
            404,
            "no cluster dns",
        ),
        (
            "PATCH",
            "/clusters/web/endpoints/[2001:db8::1]:80",
            Some("{\"weight\": 1}"),
            404,
            "has no endpoint",
        ),
    ];
    for (method, path, body, code, error) in table {
        let (got, answer) = daemon.curl(method, path, *body);
        assert_eq!(got, *code, "{method} {path}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(error),
            "{method} {path}: {answer}"
        );
        assert!(
            !answer["remedy"].as_str().unwrap().is_empty(),
            "{method} {path}: {answer}"
        );
    }
    let (_, answer) = daemon.curl("GET", "/metrics", None);
    assert!(
        answer["remedy"]
            .as_str()
            .unwrap()
            .contains("GET /status, POST /reload, PATCH /clusters/")
    );
    assert_eq!(daemon.status()["generation"], 1, "nothing changed");
}

#[test]
fn overrides_lie_on_top_of_the_config_until_they_say_the_same() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let endpoint = "/clusters/web/endpoints/198.51.100.1:80";
    let (code, answer) = daemon.curl("PATCH", endpoint, Some("{\"weight\": 3}"));
    assert_eq!(code, 200);
    assert_eq!(
        answer["changes"],
        json!(["cluster web endpoint 198.51.100.1:80: weight 1 -> 3"])
    );
    assert_eq!(answer["generation"], 2);
    daemon.curl("PATCH", endpoint, Some("{\"drain\": true}"));

    // A reload with another weight for the neighbour keeps both overrides.
    home.write(&home.config_with(
        "  - { name: web, endpoints: [\"198.51.100.1:80\", { address: \"198.51.100.2:80\", weight: 5 }] }\n",
        "",
    ));
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(
        (code, &answer["changes"]),
        (
            200,
            &json!(["cluster web endpoint 198.51.100.2:80: weight 1 -> 5"])
        )
    );
    let status = daemon.status();
    let first = endpoints(&status)[0];
    assert_eq!(first["overridden"], json!({ "weight": 1, "drain": false }));
    assert_eq!(
        (&first["weight"], &first["effective_weight"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(
        (&first["state"], &first["drain"]),
        (&json!("draining"), &json!(true))
    );
    assert_eq!(endpoints(&status)[1]["share_percent"], 100.0);

    daemon.curl("PATCH", endpoint, Some("{\"weight\": 1, \"drain\": false}"));
    assert_eq!(endpoints(&daemon.status())[0]["overridden"], Value::Null);

    // An endpoint that goes takes its override along.
    daemon.curl("PATCH", endpoint, Some("{\"weight\": 9}"));
    home.write(&home.config_with("  - { name: web, endpoints: [\"198.51.100.2:80\"] }\n", ""));
    daemon.curl("POST", "/reload", None);
    home.write(&home.config_with(WEB, ""));
    daemon.curl("POST", "/reload", None);
    assert_eq!(endpoints(&daemon.status())[0]["weight"], 1);
}

#[test]
fn a_rejected_config_changes_nothing_and_says_why() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    home.write(&home.config_with(WEB, "    policy: sideways\n"));
    let status = daemon.status_when("refused", |status| !status["last_error"].is_null());
    assert_eq!(status["generation"], 1);
    assert_eq!(endpoints(&status).len(), 2);
    let error = status["last_error"]["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("weir.yaml:") && error.contains("generation 1 goes on"),
        "{error}"
    );
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 422, "{answer}");

    fs::remove_file(home.config()).unwrap();
    let gone = |status: &Value| {
        status["last_error"]["error"]
            .as_str()
            .is_some_and(|it| it.contains("is gone"))
    };
    daemon.status_when("gone", gone);

    home.write(&home.config_with("  - { name: web, endpoints: [\"198.51.100.3:80\"] }\n", ""));
    let status = daemon.status_when("good again", |status| status["generation"] == 2);
    assert_eq!(status["last_error"], Value::Null);
    assert_eq!(endpoints(&status)[0]["address"], "198.51.100.3:80");
}

#[test]
fn hangup_reloads() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    // In place and followed at once by the signal: whichever comes first reads it.
    fs::write(
        home.config(),
        home.config_with("  - { name: web, endpoints: [\"198.51.100.3:80\"] }\n", ""),
    )
    .unwrap();
    daemon.signal("HUP");
    daemon.status_when("reloaded", |status| status["generation"] == 2);
}

#[test]
fn what_cannot_change_live_is_named() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let more = "kernel: { max_flows: 1000 }\nnat: { ports: 2000-3000 }\n";
    home.write(&home.config_with("  - { name: web, endpoints: [\"198.51.100.3:80\"] }\n", more));
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(
        (code, &answer["generation"]),
        (200, &json!(2)),
        "the rest is applied"
    );
    let expected = ["kernel.max_flows", "nat.ports"]
        .map(|key| format!("{key}: the change takes effect at the next start"));
    for warning in expected {
        assert!(
            answer["warnings"].as_array().unwrap().contains(&json!(warning)),
            "{answer}"
        );
        assert!(
            daemon.status()["warnings"]
                .as_array()
                .unwrap()
                .contains(&json!(warning))
        );
    }
    home.write(&home.config_with(WEB, ""));
    let (_, answer) = daemon.curl("POST", "/reload", None);
    assert!(!answer["warnings"].to_string().contains("next start"), "{answer}");
}

#[test]
fn a_dead_backend_leaves_and_comes_back() {
    let (first, alive) = backend();
    let (second, mortal) = backend();
    let check = "health_check: { tcp: {}, interval: 50ms, timeout: 40ms, rise: 1, fall: 2 }";
    let clusters = format!("  - {{ name: web, endpoints: [\"{alive}\", \"{mortal}\"], {check} }}\n");
    let home = Home::new(&clusters);
    let daemon = Daemon::start(&home);
    let states = |status: &Value| -> Vec<String> {
        endpoints(status)
            .iter()
            .map(|it| it["state"].as_str().unwrap().to_owned())
            .collect()
    };
    daemon.status_when("both healthy", |status| states(status) == ["healthy", "healthy"]);
    drop(second);
    let status = daemon.status_when("one dead", |status| states(status) == ["healthy", "unhealthy"]);
    let dead = endpoints(&status)[1];
    assert_eq!(
        (&dead["effective_weight"], &dead["share_percent"]),
        (&json!(0), &json!(0.0))
    );
    let error = dead["health"]["last_error"].as_str().unwrap();
    assert!(error.contains("connection refused"), "{error}");

    // A reload that does not touch them keeps the verdicts.
    let generation = status["generation"].clone();
    home.write(&home.config_with(
        &clusters,
        "  - { name: more, endpoints: [\"198.51.100.3:80\"] }\n",
    ));
    let (_, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(answer["changes"], json!(["cluster more: added (endpoints: 1)"]));
    assert_eq!(states(&daemon.status()), ["healthy", "unhealthy"]);
    assert_ne!(daemon.status()["generation"], generation);

    let _second = std::net::TcpListener::bind(mortal).unwrap();
    daemon.status_when("back", |status| states(status) == ["healthy", "healthy"]);
    drop(first);
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
