//! Disk full: requests go on, what is lost is counted, what can't be kept is refused, and all goes on with room.

use super::{Client, endpoint, metric, run, said, until};
use crate::support::{Daemon, Home, free_port};
use serde_json::Value;
use std::{fs, net::SocketAddr, path::PathBuf};

/// A file system of 64 KiB; unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(home: &Home) -> Self {
        let path = home.path().join("small");
        fs::create_dir(&path).unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=64k", "tmpfs", path.to_str().unwrap()],
        );
        Self(path)
    }

    fn fill(&self) {
        let filler = self.0.join("filler");
        // Whole pages first, as long as there are any.
        let error = fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Makes room for more than what waits for it.
    fn grow(&self) {
        run("mount", &["-o", "remount,size=16m", self.0.to_str().unwrap()]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a daemon that a failed test left has files there.
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

fn config(home: &Home, small: &Small, listen: SocketAddr, endpoint: SocketAddr) -> String {
    format!(
        "admin: {{ socket: {}, audit_log: {small}/audit.log }}
state_directory: {small}
listeners:
  - name: web
    address: {listen}
    access_log: {{ path: {small}/access.log, text: \"%REQ(:PATH)%\" }}
    routes: [{{ cluster: web }}]
clusters:
  - {{ name: web, endpoints: [\"{endpoint}\"] }}
",
        home.socket().display(),
        small = small.0.display()
    )
}

fn warnings(status: &Value) -> String {
    status["warnings"].to_string()
}

#[test]
fn on_a_full_disk_requests_go_on_and_what_must_be_kept_is_refused() {
    let home = Home::new("");
    let small = Small::mount(&home);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let endpoint = endpoint();
    home.write(&config(&home, &small, listen, endpoint));
    let daemon = Daemon::start(&home);
    let path = format!("/clusters/web/endpoints/{endpoint}");
    let (code, _) = daemon.curl("PATCH", &path, Some(r#"{"weight": 3, "durable": true}"#));
    assert_eq!(code, 200);
    let overrides = fs::read(small.0.join("overrides.json")).unwrap();
    small.fill();

    let mut client = Client::connect(listen);
    lose_lines(&daemon, &mut client);
    refuse_durably(&daemon, &path);
    assert_eq!(
        fs::read(small.0.join("overrides.json")).unwrap(),
        overrides,
        "the old one stays whole"
    );

    // What need not is done, and is in the log at least: the file's last page has room for some lines.
    let unaudited = || metric(&daemon, "weir_audit_log_lost_lines_total") > 0.0;
    let (generation, mut granted) = (daemon.status()["generation"].as_u64(), 0);
    while !unaudited() {
        granted += 1;
        let (code, _) = daemon.curl("PATCH", &path, Some(&format!("{{\"weight\": {}}}", 10 + granted)));
        assert_eq!((code, granted < 100), (200, true));
    }
    assert_eq!(
        daemon.status()["generation"].as_u64(),
        generation.map(|before| before + granted)
    );
    assert!(warnings(&daemon.status()).contains("audit.log: No space left on device"));
    assert_eq!(client.get("/goes-on").unwrap().0, 200);

    small.grow();
    until("the log goes on", || {
        assert_eq!(client.get("/again").unwrap().0, 200);
        fs::read_to_string(small.0.join("access.log"))
            .unwrap()
            .contains("/again\n")
    });
    assert!(daemon.status()["l7"]["listeners"][0]["log_error"].is_null());
    let (code, _) = daemon.curl("PATCH", &path, Some(r#"{"weight": 7, "durable": true}"#));
    assert_eq!(code, 200);
    assert!(!warnings(&daemon.status()).contains("audit.log"));
    let audit = fs::read_to_string(small.0.join("audit.log")).unwrap();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).expect("whole lines"))
        .collect();
    assert_eq!(
        lines.last().unwrap()["what"],
        format!("cluster web endpoint {endpoint}: weight 7, durable")
    );
}

/// Of the access log: they are of 1 KiB, and 1 MiB of them waits for the disk.
fn lose_lines(daemon: &Daemon, client: &mut Client) {
    let long = format!("/{}", "a".repeat(1_000));
    let lost = || metric(daemon, "weir_access_log_dropped_lines_total") > 0.0;
    for number in 0..10_000 {
        assert_eq!(client.get(&long).unwrap().0, 200);
        if number % 500 == 0 && lost() {
            break;
        }
    }
    until("lines are lost", lost);
    let status = said(daemon);
    assert!(status.starts_with("degraded"), "{status}");
    assert!(
        status.contains("listener web: access log ") && status.contains("No space left on device"),
        "{status}"
    );
}

/// What is to outlive the daemon can't be kept.
fn refuse_durably(daemon: &Daemon, path: &str) {
    let generation = daemon.status()["generation"].clone();
    let (code, answer) = daemon.curl("PATCH", path, Some(r#"{"weight": 7, "durable": true}"#));
    assert_eq!(code, 500, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("overrides.json: No space left on device"),
        "{answer}"
    );
    assert!(
        answer["remedy"].as_str().unwrap().contains("nothing changed"),
        "{answer}"
    );
    assert_eq!(daemon.status()["generation"], generation);
}

#[test]
fn a_log_that_was_moved_away_is_made_anew_on_sighup() {
    let home = Home::new("");
    let small = Small::mount(&home);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, &small, listen, endpoint()));
    let daemon = Daemon::start(&home);
    let (log, moved) = (small.0.join("access.log"), small.0.join("access.log.1"));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/first").unwrap().0, 200);
    until("written", || fs::read_to_string(&log).unwrap() == "/first\n");
    fs::rename(&log, &moved).unwrap();
    daemon.signal("HUP");
    until("made anew", || log.exists());
    assert_eq!(client.get("/second").unwrap().0, 200);
    until("written there", || {
        fs::read_to_string(&log).unwrap() == "/second\n"
    });
    assert_eq!(fs::read_to_string(&moved).unwrap(), "/first\n");
}
