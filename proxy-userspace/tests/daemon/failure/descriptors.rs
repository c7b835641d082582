//! File descriptors gone: what is open goes on, the admin API answers, and all comes back.

use super::{Client, endpoint, last_error, metric, run, said, until};
use crate::support::{Daemon, Home, SOON, free_port};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Enough for those who take what isn't theirs, where they may.
const API_REQUESTS: usize = 300;

fn config(home: &Home, listen: SocketAddr, endpoint: SocketAddr, more: &str) -> String {
    format!(
        "admin: {{ socket: {} }}
workers: 2
listeners:
  - name: web
    address: {listen}
    timeouts: {{ header_read: 0s }}
    access_log: {{ path: {}, text: \"%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\" }}
    routes:
      - {{ match: {{ path: /here }}, respond: {{ status: 200, body: here }} }}
      - {{ cluster: web }}
clusters:
  - name: web
    endpoints: [\"{endpoint}\"]
    health_check: {{ interval: 100ms, timeout: 100ms, rise: 1, fall: 20, tcp: {{}} }}
{more}",
        home.socket().display(),
        home.path().join("access.log").display()
    )
}

/// The highest descriptor that is open.
fn highest(pid: u32) -> u32 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.max().unwrap()
}

fn limit(pid: u32, soft: &str) {
    run(
        "prlimit",
        &["--pid", &pid.to_string(), &format!("--nofile={soft}:")],
    );
}

#[test]
fn without_descriptors_what_is_open_goes_on_and_all_comes_back() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let endpoint = endpoint();
    let text = config(&home, listen, endpoint, "");
    home.write(&text);
    // It begins with few, as shells and service managers have it, and raises that itself.
    let daemon = Daemon::start_by(&home, "prlimit", &["--nofile=256:4096"]);
    assert_eq!(limits(daemon.pid()), ["4096", "4096"]);
    let mut open: Vec<Client> = (0..8).map(|_| Client::connect(listen)).collect();
    for client in &mut open {
        assert_eq!(client.get("/there"), Ok((200, "there".into())));
    }
    until("healthy", || metric(&daemon, "weir_endpoint_healthy") == 1.0);
    limit(daemon.pid(), &(highest(daemon.pid()) + 1).to_string());
    let mut waiting = Vec::new();
    // What a probe gives back may be taken by a client, and the other way round, until enough clients wait.
    while accept_errors(&daemon.status()) == 0 || !check_error(&daemon).contains("not probed") {
        waiting.push(Client::connect(listen));
        assert!(
            waiting.len() < 1_000,
            "none of them is refused: {}",
            check_error(&daemon)
        );
    }
    // One of them may get the descriptor that a probe gives back; others go on waiting.
    waiting.extend((0..8).map(|_| Client::connect(listen)));
    assert_pauses(&daemon);
    for client in &mut open {
        assert_eq!(client.get("/here"), Ok((200, "here".into())));
    }
    // Workers and checks look for descriptors all the time, and get none of those that are kept for the API.
    for _ in 0..API_REQUESTS {
        daemon.status();
    }
    assert_no_endpoint(&home, &mut open[0]);
    assert_eq!(
        metric(&daemon, "weir_endpoint_healthy"),
        1.0,
        "it says nothing of the endpoint"
    );
    assert!(metric(&daemon, "weir_worker_accept_errors_total") > 0.0);
    assert!(
        said(&daemon).contains("raise the limit of open files"),
        "{}",
        said(&daemon)
    );

    let few = highest(daemon.pid()) + 1;
    let more = "  - { name: more, endpoints: [\"198.51.100.3:80\"] }\n";
    reload_without_any(&daemon, &home, &config(&home, listen, endpoint, more));
    // From here on one that comes free may be had by those who read the config once more.
    limit(daemon.pid(), &few.to_string());
    assert_eq!(open[1].get("/here"), Ok((200, "here".into())));

    limit(daemon.pid(), "4096");
    for client in &mut waiting {
        assert_eq!(client.get("/there"), Ok((200, "there".into())));
    }
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 200, "{answer}");
    assert!(daemon.status()["last_error"].is_null());
    assert_eq!(Client::connect(listen).get("/there"), Ok((200, "there".into())));
}

/// A request that needs a connection to the endpoint is refused, and the access log says why.
fn assert_no_endpoint(home: &Home, client: &mut Client) {
    // Between two probes there is room for one.
    until("no connection to the endpoint either", || {
        let (code, body) = client.get("/there").unwrap();
        code == 503 && body.contains("out of file descriptors")
    });
    until("a line of the access log", || {
        let log = fs::read_to_string(home.path().join("access.log")).unwrap();
        let is_it = |line: &str| line.starts_with("/there 503 ") && line.contains("out of file descriptors");
        log.lines().any(is_it)
    });
}

/// With none at all no file can be read, and nothing changes. A client of the API that was there goes on.
fn reload_without_any(daemon: &Daemon, home: &Home, config: &str) {
    let mut admin = UnixStream::connect(home.socket()).unwrap();
    admin.set_read_timeout(Some(SOON)).unwrap();
    let mut ask = |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: weir\r\n\r\n");
        admin.write_all(request.as_bytes()).unwrap();
        let mut answer = vec![0; 64 << 10];
        let count = admin.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    };
    assert!(ask("GET /log").starts_with("HTTP/1.1 200 "));
    limit(daemon.pid(), "1");
    home.write(config);
    let answer = ask("POST /reload");
    assert!(answer.contains("Too many open files"), "{answer}");
    let answer = ask("GET /status");
    let (_, status) = answer.split_once("\r\n\r\n").unwrap();
    let status = serde_json::from_str(status).unwrap();
    assert!(last_error(&status).contains("Too many open files"), "{status:#}");
}

/// The soft and the hard limit of open files.
fn limits(pid: u32) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files"));
    let mut words = files.unwrap().split_whitespace().skip(3).map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

/// Clients that wait are tried again after a pause, not in a loop: timers never end early, so that a slow machine is no failure.
fn assert_pauses(daemon: &Daemon) {
    const ERRORS: u64 = 20;
    const WORKERS: u64 = 2;
    let (begin, before) = (Instant::now(), accept_errors(&daemon.status()));
    until("tried again", || {
        accept_errors(&daemon.status()) >= before + ERRORS
    });
    // The first of each worker may come at once.
    let least = Duration::from_millis(100) * (ERRORS / WORKERS - 1) as u32;
    assert!(
        begin.elapsed() >= least,
        "{ERRORS} tries took {:?}",
        begin.elapsed()
    );
}

fn accept_errors(status: &Value) -> u64 {
    let workers = status["l7"]["workers"].as_array().unwrap();
    workers
        .iter()
        .filter_map(|worker| worker["accept_errors"].as_u64())
        .sum()
}

/// What the check of the endpoint met last.
fn check_error(daemon: &Daemon) -> String {
    let (_, cluster) = daemon.curl("GET", "/clusters/web", None);
    let error = &cluster["endpoints"][0]["last_error"];
    error.as_str().unwrap_or_default().to_owned()
}
