//! The admin API beyond status and endpoints: what runs and why, durable changes, the log's filter, the audit log.

use super::{
    WEB,
    support::{Daemon, Home, free_port, text, weir_on},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

const FIRST: &str = "/clusters/web/endpoints/198.51.100.1:80";

fn get(daemon: &Daemon, path: &str) -> Value {
    let (code, answer) = daemon.curl("GET", path, None);
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

fn patch(daemon: &Daemon, body: &str) -> Value {
    let (code, answer) = daemon.curl("PATCH", FIRST, Some(body));
    assert_eq!(code, 200, "{body}: {answer}");
    answer
}

/// A listener of each plane, with what must not be told.
fn site() -> Home {
    let home = Home::new("");
    let port = free_port();
    home.write(&format!(
        "admin: {{ socket: {} }}
listeners:
  - {{ name: vip, address: \"192.0.2.10:80\", forward: {{ cluster: web }} }}
  - name: site
    address: 127.0.0.1:{port}
    tls: {{ self_signed: true }}
    routes:
      - {{ match: {{ host: www.example.com, path_prefix: /x/ }}, cluster: web, request_headers: {{ set: {{ x-key: secret-of-the-header }} }} }}
      - respond: {{ status: 404, body: secret-of-the-body }}
clusters:
  - name: web
    policy: least_request
    endpoints: [\"198.51.100.1:80\", {{ address: \"198.51.100.2:80\", weight: 3, drain: true }}]
",
        home.socket().display()
    ));
    home
}

#[test]
fn every_effective_weight_has_its_reason() {
    let home = site();
    let daemon = Daemon::start(&home);
    patch(&daemon, r#"{"weight": 5}"#);

    let mut cluster = get(&daemon, "/clusters/web");
    let first = &cluster["endpoints"][0];
    assert_eq!(
        (&first["effective_weight"], &first["reason"], &first["why"]),
        (
            &json!(5),
            &json!("override"),
            &json!("5 by an operator, where the config says 1")
        )
    );
    let second = &cluster["endpoints"][1];
    assert_eq!(
        (&second["effective_weight"], &second["reason"]),
        (&json!(0), &json!("drain"))
    );
    assert_eq!(
        (&cluster["policy"], &cluster["effective_weight"]),
        (&json!("least_request"), &json!(5))
    );
    // Of one alone it is also told what became of it.
    let first_alone = get(&daemon, "/clusters/web/endpoints/198.51.100.1:80");
    assert_eq!(first_alone, cluster["endpoints"][0]);
    for endpoint in cluster["endpoints"].as_array_mut().unwrap() {
        assert_eq!(
            endpoint.as_object_mut().unwrap().remove("history"),
            Some(json!([]))
        );
    }
    assert_eq!(get(&daemon, "/clusters")["clusters"], json!([cluster]));
    let (code, answer) = daemon.curl("GET", "/clusters/dns", None);
    assert_eq!((code, &answer["remedy"]), (404, &json!("use one of: web")));
}

#[test]
fn what_runs_is_told_without_secrets() {
    let home = site();
    let daemon = Daemon::start(&home);
    let listeners = get(&daemon, "/listeners");
    let kinds: Vec<&Value> = listeners["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["kind"])
        .collect();
    assert_eq!(kinds, ["l4", "https"]);
    let routes = &listeners["listeners"][1]["routes"];
    assert_eq!(
        routes[0]["conditions"],
        json!(["host is www.example.com", "path begins with /x/"])
    );
    assert_eq!(
        routes[0]["action"],
        json!({ "forward": [{ "cluster": "web", "weight": 1 }] })
    );
    assert_eq!(routes[1]["action"]["respond"]["status"], 404);

    let certificates = get(&daemon, "/certificates");
    let certificate = &certificates["certificates"][0];
    assert_eq!(certificate["listener"], "site");
    assert!(
        certificate["names"]
            .as_array()
            .unwrap()
            .contains(&json!("localhost"))
    );
    let left = certificate["seconds_left"].as_i64().unwrap();
    assert!(0 < left && left < certificate["not_after_unix_seconds"].as_i64().unwrap());

    let workers = get(&daemon, "/workers");
    assert_eq!(workers["connections"], 0);
    assert!(!workers["workers"].as_array().unwrap().is_empty());

    let dump = get(&daemon, "/config");
    assert_eq!(dump["generation"], 1);
    assert_eq!(dump["listeners"], listeners["listeners"]);
    assert_eq!(dump["clusters"], get(&daemon, "/clusters")["clusters"]);
    assert!(!dump.to_string().contains("secret-of"), "{dump}");
}

#[test]
fn durable_changes_outlive_the_daemon_and_others_do_not() {
    let home = Home::new(WEB);
    let kept = home.socket().with_file_name("overrides.json");
    let daemon = Daemon::start(&home);
    patch(&daemon, r#"{"weight": 2}"#);
    assert!(!kept.exists());
    let set = weir_on(
        &home.socket(),
        &[
            "endpoint",
            "set",
            "web",
            "198.51.100.1:80",
            "--weight",
            "3",
            "--durable",
        ],
    );
    assert!(set.status.success());
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let covered = weir_on(
        &home.socket(),
        &["endpoint", "set", "web", "198.51.100.1:80", "--weight", "6"],
    );
    assert!(text(&covered.stderr).contains("what was set durably is back at the next start"));
    let answer = patch(&daemon, r#"{"drain": true, "weight": 7}"#);
    assert!(
        answer["warnings"].to_string().contains("back at the next start"),
        "{answer}"
    );
    let first = get(&daemon, "/clusters/web")["endpoints"][0].clone();
    assert_eq!((&first["weight"], &first["durable"]), (&json!(7), &json!(true)));
    // Killed: what was answered is on the disk.
    daemon.signal("KILL");
    daemon.end();

    let daemon = Daemon::start(&home);
    let first = get(&daemon, "/clusters/web")["endpoints"][0].clone();
    assert_eq!(
        (&first["weight"], &first["drain"], &first["configured"]["weight"]),
        (&json!(3), &json!(false), &json!(1))
    );
    patch(&daemon, r#"{"weight": 1, "durable": true}"#);
    let left: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert_eq!(left, json!({ "version": 1, "endpoints": [] }));
}

#[test]
fn what_was_kept_and_no_longer_fits_is_a_warning() {
    let home = Home::new(WEB);
    let kept = home.socket().with_file_name("overrides.json");
    let entry = |address: &str| json!({ "cluster": "web", "address": address, "weight": 4 });
    let content = json!({ "version": 1, "endpoints": [entry("198.51.100.2:80"), entry("198.51.100.9:80")] });
    fs::write(&kept, content.to_string()).unwrap();
    let daemon = Daemon::start(&home);
    let warnings = daemon.status()["warnings"].to_string();
    assert!(
        warnings.contains("cluster web endpoint 198.51.100.9:80 is gone: its durable override is forgotten"),
        "{warnings}"
    );
    assert_eq!(get(&daemon, "/clusters/web")["endpoints"][1]["weight"], 4);
    let left: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert_eq!(left["endpoints"], json!([entry("198.51.100.2:80")]));
    drop(daemon);

    fs::write(&kept, "{\"version\": 1, \"endp").unwrap();
    let daemon = Daemon::start(&home);
    let warnings = daemon.status()["warnings"].to_string();
    assert!(
        warnings.contains("overrides.json: ") && warnings.contains("correct the file"),
        "{warnings}"
    );
    assert_eq!(get(&daemon, "/clusters/web")["endpoints"][1]["weight"], 1);
    drop(daemon);

    // A directory that can't be made: told to whoever asks for what needs it, and nothing changes.
    home.write(&home.config_with(WEB, &format!("state_directory: {}/x\n", home.config().display())));
    let daemon = Daemon::start(&home);
    let (code, answer) = daemon.curl("PATCH", FIRST, Some(r#"{"weight": 2, "durable": true}"#));
    assert_eq!(code, 500, "{answer}");
    assert!(
        answer["remedy"].as_str().unwrap().contains("state_directory"),
        "{answer}"
    );
    assert_eq!(daemon.status()["generation"], 1);
    patch(&daemon, r#"{"weight": 2}"#);
}

#[test]
fn the_log_filter_is_changed_live() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    assert_eq!(get(&daemon, "/log"), json!({ "filter": "info" }));
    let wanted = json!({ "filter": "warn,weir::health=debug" });
    let (code, answer) = daemon.curl("PUT", "/log", Some(&wanted.to_string()));
    assert_eq!((code, &answer), (200, &wanted));
    assert_eq!(get(&daemon, "/log"), wanted);
    for (bad, error) in [
        (r#"{"filter": "loud"}"#, "is no level"),
        (r#"{"filter": "weir=loud"}"#, "weir=loud"),
        (r#"{"filter": ""}"#, "is no level"),
        (r#"{"level": "info"}"#, "unknown field"),
        ("{}", "missing field"),
    ] {
        let (code, answer) = daemon.curl("PUT", "/log", Some(bad));
        assert_eq!(code, 400, "{bad}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
        assert!(!answer["remedy"].as_str().unwrap().is_empty());
    }
    assert_eq!(get(&daemon, "/log"), wanted);
}

/// The audit log's lines: who, from where, what, outcome, generation.
fn audited(path: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A config with an audit log, and this weight of the second endpoint.
fn audited_config(home: &Home, weight: u32) -> String {
    format!(
        "admin: {{ socket: {}, audit_log: {} }}
listeners:\n  - {{ name: web, address: \"192.0.2.10:80\", forward: {{ cluster: web }} }}
clusters:\n  - {{ name: web, endpoints: [\"198.51.100.1:80\", {{ address: \"198.51.100.2:80\", weight: {weight} }}] }}\n",
        home.socket().display(),
        home.socket().with_file_name("audit.log").display()
    )
}

#[test]
fn every_change_is_written_down_with_who_asked_for_it() {
    let home = Home::new(WEB);
    let log = home.socket().with_file_name("audit.log");
    home.write(&audited_config(&home, 1));
    let daemon = Daemon::start(&home);
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.curl("PUT", "/log", Some(r#"{"filter": "error"}"#));
    patch(&daemon, r#"{"drain": true}"#);
    daemon.curl("PATCH", FIRST, Some(r#"{"weight": 70000}"#));
    daemon.curl(
        "PATCH",
        "/clusters/d%0Ans/endpoints/198.51.100.1:80",
        Some(r#"{"weight": 1}"#),
    );
    daemon.curl("GET", "/clusters", None);

    let lines = audited(&log);
    let seen: Vec<(&Value, &Value, &Value)> = lines
        .iter()
        .map(|it| (&it["what"], &it["outcome"], &it["generation"]))
        .collect();
    let first = "cluster web endpoint 198.51.100.1:80:";
    assert_eq!(
        seen,
        [
            (
                &json!("log filter info -> error"),
                &json!("granted"),
                &Value::Null
            ),
            (&json!(format!("{first} drain")), &json!("granted"), &json!(2)),
            (
                &json!(format!("{first} weight 70000")),
                &json!("refused"),
                &Value::Null
            ),
            (
                &json!("cluster d\nns endpoint 198.51.100.1:80: weight 1"),
                &json!("refused"),
                &Value::Null
            ),
        ]
    );
    assert!(lines[2]["error"].as_str().unwrap().contains("too great"));
    for line in &lines {
        let who = line["who"].as_str().unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert!(who.starts_with(&format!("uid {user}, pid ")), "{who}");
        assert_eq!(line["from"], "unix");
    }
}

#[test]
fn reloads_are_written_down_too_and_the_file_may_be_rotated() {
    let home = Home::new(WEB);
    let log = home.socket().with_file_name("audit.log");
    home.write(&audited_config(&home, 1));
    let daemon = Daemon::start(&home);
    // A rotation, by SIGHUP, and a change of the file, by whoever comes first.
    fs::rename(&log, log.with_extension("1")).unwrap();
    home.write(&audited_config(&home, 2));
    daemon.signal("HUP");
    daemon.status_when("reloaded", |status| status["generation"] == 2);
    let after = |lines: Vec<Value>| {
        lines
            .into_iter()
            .filter(|it| it["what"] == "reload")
            .collect::<Vec<_>>()
    };
    daemon.status_when("written down", |_| {
        log.exists() && !after(audited(&log)).is_empty()
    });
    let mut reloads = after(audited(&log));
    reloads.extend(after(audited(&log.with_extension("1"))));
    for reload in reloads {
        assert!(reload["who"] == "SIGHUP" || reload["who"] == "files", "{reload}");
        assert_eq!(reload["from"], "local");
    }
}
