//! Configs that change under a running daemon.

use super::{
    WEB, endpoints,
    support::{Daemon, Home},
};
use serde_json::{Value, json};
use std::fs;

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
