//! Memory low: what is open goes on, new connections are closed and counted, until there is more.

use super::{Client, metric, said, until};
use crate::support::{Daemon, Home, free_port};
use std::{io::Write, net::SocketAddr, time::Duration};

/// Of a request's head that never ends: its buffer's size.
const HEAD: usize = 60 << 10;

fn config(home: &Home, listen: SocketAddr, limit: u64) -> String {
    format!(
        "admin: {{ socket: {} }}
limits: {{ memory_bytes: {limit} }}
listeners:
  - name: web
    address: {listen}
    timeouts: {{ header_read: 0s }}
    routes: [{{ respond: {{ status: 200, body: here }} }}]
",
        home.socket().display()
    )
}

fn set_limit(daemon: &Daemon, home: &Home, listen: SocketAddr, bytes: u64) {
    home.write(&config(home, listen, bytes));
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 200, "{answer}");
}

fn shortage(daemon: &Daemon) -> String {
    daemon.status()["l7"]["memory"]["shortage"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn short_of_memory_new_connections_are_closed_and_open_ones_go_on() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, listen, 1 << 40));
    let daemon = Daemon::start(&home);
    assert_eq!(shortage(&daemon), "none");
    let mut open = Client::connect(listen);
    assert_eq!(open.get("/"), Ok((200, "here".into())));

    let resident = daemon.status()["l7"]["memory"]["resident_bytes"]
        .as_u64()
        .unwrap();
    set_limit(&daemon, &home, listen, resident + (resident / 5).max(16 << 20));
    let mut heads = Vec::new();
    while shortage(&daemon) != "full" {
        for _ in 0..20 {
            let mut head = Client::connect(listen);
            // One that is closed at once may break at any point.
            let _closed = head
                .0
                .write_all(&[b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; HEAD]].concat());
            heads.push(head);
        }
        assert!(heads.len() < 4_000, "{:#}", daemon.status()["l7"]["memory"]);
        // What is idle is closed sooner: this one is not.
        assert_eq!(open.get("/"), Ok((200, "here".into())));
    }

    until("new connections are closed", || {
        let mut new = Client::connect(listen);
        let _closed = new.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        new.answer().is_err()
    });
    assert!(metric(&daemon, "weir_worker_connections_refused_total") >= 1.0);
    assert_eq!(metric(&daemon, "weir_memory_short"), 1.0);
    let status = said(&daemon);
    assert!(status.contains("  failing: memory: "), "{status}");
    assert_eq!(open.get("/"), Ok((200, "here".into())));

    set_limit(&daemon, &home, listen, 1 << 40);
    until("enough again", || shortage(&daemon) == "none");
    assert_eq!(Client::connect(listen).get("/"), Ok((200, "here".into())));
    assert_eq!(open.get("/"), Ok((200, "here".into())));
}

#[test]
fn nearly_short_of_memory_idle_connections_are_closed_sooner() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, listen, 1 << 40));
    let daemon = Daemon::start(&home);
    let mut idle = Client::connect(listen);
    assert_eq!(idle.get("/"), Ok((200, "here".into())));
    idle.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();

    // Without a shortage it would stay for an hour.
    until("closed", || {
        let memory = &daemon.status()["l7"]["memory"];
        if memory["shortage"] != "near" {
            // Between 90 and 100 % of what it has now, which changes a little.
            let resident = memory["resident_bytes"].as_u64().unwrap();
            set_limit(&daemon, &home, listen, resident / 95 * 100);
        }
        idle.answer() == Err("closed after \"\"".into())
    });
}
