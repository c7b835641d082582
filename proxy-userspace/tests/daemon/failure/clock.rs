//! The clock jumps, by years: what runs takes no notice, and what tells the time follows.

use super::{Client, endpoint, metric, run, said, until};
use crate::support::{Daemon, Home, free_port};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Debian's place for it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A clock that is as many days off as a file says.
struct Clock(PathBuf);

impl Clock {
    fn new(home: &Home) -> Self {
        let clock = Self(home.path().join("clock"));
        clock.jump("+0d");
        clock
    }

    fn jump(&self, by: &str) {
        // Renamed over: it is read at any moment.
        let new = self.0.with_extension("new");
        fs::write(&new, by).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

fn config(home: &Home, plain: SocketAddr, tls: SocketAddr, endpoint: SocketAddr) -> String {
    let folder = home.path().display();
    format!(
        "admin: {{ socket: {}, audit_log: {folder}/audit.log }}
listeners:
  - name: plain
    address: {plain}
    access_log: {{ path: {folder}/access.log, text: \"%START_TIME%\" }}
    routes: [{{ cluster: web }}]
  - name: secret
    address: {tls}
    tls: {{ certificates: [{{ cert: web.pem, key: web.key }}] }}
    routes: [{{ respond: {{ status: 200, body: here }} }}]
clusters:
  - name: web
    endpoints: [\"{endpoint}\"]
    health_check: {{ interval: 100ms, timeout: 100ms, rise: 1, fall: 20, tcp: {{}} }}
",
        home.socket().display(),
    )
}

/// A certificate that is good for the next days.
fn certify(home: &Home) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap();
    let today = run("date", &["--utc", "+%Y"]).trim().parse::<i32>().unwrap();
    params.not_before = rcgen::date_time_ymd(today - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(today + 2, 1, 1);
    fs::write(
        home.path().join("web.pem"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    fs::write(home.path().join("web.key"), key.serialize_pem()).unwrap();
}

fn get_by_tls(address: SocketAddr) -> String {
    run(
        "curl",
        &[
            "--silent",
            "--insecure",
            "--max-time",
            "10",
            &format!("https://{address}/"),
        ],
    )
}

#[test]
fn requests_and_checks_go_on_while_the_clock_jumps_by_years() {
    let home = Home::new("");
    let clock = Clock::new(&home);
    certify(&home);
    let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (plain, tls) = (address(), address());
    home.write(&config(&home, plain, tls, endpoint()));
    let file = clock.0.to_str().unwrap().to_owned();
    let daemon = Daemon::start_with(
        &home,
        &[
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ],
    );
    // One client never stops asking.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking = {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        thread::spawn(move || {
            let mut client = Client::connect(plain);
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get("/"), Ok((200, "there".into())));
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let this_year = year(tls);
    let started = daemon.status()["started_unix_seconds"].clone();
    assert!(!said(&daemon).contains("the certificate of"), "{}", said(&daemon));
    for (jump, years) in [("+3650d", 10), ("-3650d", -10), ("+0d", 0)] {
        clock.jump(jump);
        until("the clock has jumped", || year(tls) == this_year + years);
        let before = asked.load(Ordering::Relaxed);
        until("more requests", || asked.load(Ordering::Relaxed) > before + 20);
        assert_eq!(get_by_tls(tls), "here");
        assert_eq!(metric(&daemon, "weir_endpoint_healthy"), 1.0);
        let (code, answer) = daemon.curl("POST", "/reload", None);
        assert_eq!(code, 200, "{answer}");
        // By this daemon's clock, years after its certificate's end.
        let warnings = daemon.status()["warnings"].to_string();
        assert_eq!(warnings.contains("has expired"), years > 0, "{warnings}");
        assert_eq!(warnings.contains("is good from"), years < 0, "{warnings}");
        let log = home.path().join("access.log");
        let shown = (this_year + years).to_string();
        until("a line of that year", || {
            let log = fs::read_to_string(&log).unwrap();
            log.lines().last().is_some_and(|line| line.starts_with(&shown))
        });
        let audit = fs::read_to_string(home.path().join("audit.log")).unwrap();
        let line: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
        assert!(line["time"].as_str().unwrap().starts_with(&shown), "{line}");
        // Files that are newer than the clock are not read for ever.
        assert!(audit.lines().count() < 20, "{audit}");
    }
    assert_eq!(daemon.status()["started_unix_seconds"], started);
    stop.store(true, Ordering::Relaxed);
    asking.join().unwrap();
    assert_eq!(
        metric(&daemon, "weir_worker_panics_total") + metric(&daemon, "weir_panics_total"),
        0.0
    );
}

/// As the Date of an answer that Weir made itself says.
fn year(address: SocketAddr) -> i32 {
    let head = run(
        "curl",
        &[
            "--silent",
            "--insecure",
            "--head",
            "--http1.1",
            "--max-time",
            "10",
            &format!("https://{address}/"),
        ],
    );
    // Date: Sun, 06 Nov 1994 08:49:37 GMT
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("date").then_some(value)
    });
    date.unwrap().split(' ').nth(3).unwrap().parse().unwrap()
}
