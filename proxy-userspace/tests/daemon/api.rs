//! The admin API over a real socket.

use super::{
    WEB, endpoints,
    support::{Daemon, Home},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

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

/// Method, path, body, the status code and a part of the error.
type Wrong<'a> = (&'a str, &'a str, Option<&'a str>, u16, &'a str);

const ENDPOINT: &str = "/clusters/web/endpoints/198.51.100.1:80";

const WRONG: &[Wrong<'_>] = &[
    ("POST", "/", None, 405, "does not take POST"),
    ("GET", "/status/", None, 404, "no such path"),
    ("POST", "/status", None, 405, "does not take POST"),
    ("POST", "/metrics", None, 405, "does not take POST"),
    ("GET", "/reload", None, 405, "does not take GET"),
    ("PUT", ENDPOINT, Some("{}"), 405, "does not take PUT"),
    ("PATCH", ENDPOINT, None, 400, "EOF"),
    ("PATCH", ENDPOINT, Some("{}"), 400, "nothing to change"),
    (
        "PATCH",
        ENDPOINT,
        Some("{\"weigth\": 1}"),
        400,
        "unknown field `weigth`",
    ),
    ("PATCH", ENDPOINT, Some("{\"weight\": -1}"), 400, "invalid value"),
    (
        "PATCH",
        ENDPOINT,
        Some("{\"weight\": 65536}"),
        400,
        "weight 65536 is too great",
    ),
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
        Some("{\"drain\": true}"),
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
    ("GET", "/flows/tcp/here/there", None, 400, "no flow in the path"),
    (
        "GET",
        "/flows/sctp/198.51.100.7:1/192.0.2.1:80",
        None,
        400,
        "no flow in the path",
    ),
    (
        "POST",
        "/flows/tcp/198.51.100.7:1/192.0.2.1:80",
        None,
        405,
        "does not take POST",
    ),
    ("GET", "/flows/tcp", None, 404, "no such path"),
    (
        "GET",
        "/flows/tcp/198.51.100.7:1/192.0.2.1:80",
        None,
        400,
        "there is no kernel plane",
    ),
];

#[test]
fn every_wrong_request_has_an_error_and_a_remedy() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let long = format!("{{\"weight\": 1{}}}", " ".repeat(20_000));
    let too_long: Wrong<'_> = ("PATCH", ENDPOINT, Some(&long), 413, "longer than");
    for (method, path, body, code, error) in WRONG.iter().chain([&too_long]) {
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
    let (_, answer) = daemon.curl("GET", "/metric", None);
    assert!(answer["remedy"].as_str().unwrap().contains(
        "GET /status, GET /metrics, GET /flows/PROTOCOL/CLIENT/VIP[?connection_id=HEX], POST /reload, GET /drain, POST /drain, DELETE /drain, PATCH /clusters/"
    ));
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
    daemon.reload("cluster web endpoint 198.51.100.2:80: weight 1 -> 5");
    let status = daemon.status();
    assert_eq!(endpoints(&status)[1]["weight"], 5);
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
