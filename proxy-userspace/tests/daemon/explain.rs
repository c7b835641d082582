//! `weir explain`: a config in, the route and the reasons out.

use super::support::{Home, text, weir};
use serde_json::Value;
use std::process::Output;

const CONFIG: &str = r#"listeners:
  - name: web
    address: "127.0.0.1:8080"
    routes:
      - name: admin
        match: { host: admin.example.com, path_prefix: /admin/ }
        cluster: api
      - name: upload
        match: { path: /upload, method: POST }
        cluster: api
      - match: { path_prefix: /api/, headers: [{ name: x-canary, exact: "1" }] }
        cluster: canary
      - name: api
        match: { host: "*.example.com", path_segment_prefix: /api }
        clusters: [{ cluster: api, weight: 9 }, { cluster: canary, weight: 1 }]
        rewrite: { prefix: /v2 }
      - match: { path_regex: "/old/.*" }
        redirect: { scheme: https, path: /new }
  - name: other
    address: "127.0.0.1:8081"
    routes:
      - respond: { status: 200, body: "ok\n" }
clusters:
  - { name: api, endpoints: ["127.0.0.1:9001"] }
  - { name: canary, endpoints: ["127.0.0.1:9002"] }
"#;

fn explain(arguments: &[&str]) -> Output {
    let home = Home::new("");
    home.write(CONFIG);
    let mut command = weir(&["explain"]);
    command.arg(home.config()).args(arguments).output().unwrap()
}

#[test]
fn the_winner_and_why_others_lost() {
    let output = explain(&[
        "--listener",
        "web",
        "--host",
        "WWW.example.com:8080",
        "--path",
        "/x/../api/%75sers?q=1",
    ]);
    let screen = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{screen}{}", text(&output.stderr));
    for expected in [
        "request   GET www.example.com/api/users?q=1",
        "weir.yaml:13), number 4 of 5",
        "host is *.example.com",
        "path is under /api",
        "does      forwards to cluster api (weight 9) or canary (weight 1)",
        "path /v2/users",
        "host www.example.com is not admin.example.com",
        "path /api/users is not /upload",
        "header x-canary is absent; the route asks that it is \"1\"",
    ] {
        assert!(screen.contains(expected), "{expected} is not in:\n{screen}");
    }
}

#[test]
fn as_json() {
    let output = explain(&[
        "--address",
        "127.0.0.1:8080",
        "--path",
        "/old/x",
        "--host",
        "a.net",
        "--header",
        "x-canary: 1",
        "--json",
    ]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["listener"], "web");
    assert_eq!(answer["route"]["number"], 5);
    assert_eq!(
        answer["route"]["action"]["redirect"]["location"],
        "https://a.net/new"
    );
    assert_eq!(answer["passed"].as_array().unwrap().len(), 4);
    assert_eq!(answer["passed"][1]["name"], "upload");
    assert_eq!(answer["passed"][3]["reason"], "host a.net is not *.example.com");
}

#[test]
fn no_route_is_exit_code_1_and_so_is_what_is_refused() {
    for (arguments, said) in [
        (
            &["--listener", "web", "--path", "/nowhere"][..],
            "none of 5 matches",
        ),
        (
            &["--listener", "web", "--path", "/.."],
            "the path leaves the root",
        ),
        (&["--listener", "web", "--host", "a b"], "it is not a name"),
        (
            &[],
            "several listeners have routes; name one with --listener: web, other",
        ),
        (
            &["--listener", "wbe"],
            "no such listener with routes; use one of: web, other",
        ),
    ] {
        let output = explain(arguments);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{all}");
        assert!(all.contains(said), "{said} is not in:\n{all}");
    }
    let usage = explain(&["--header", "x"]);
    assert_eq!(usage.status.code(), Some(2));
}
