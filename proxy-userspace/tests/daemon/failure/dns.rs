//! DNS dead in each way it can be: the last addresses stay in use, others serve, and what comes back is taken.

use super::{Client, endpoint, metric, until};
use crate::support::{Daemon, Home, free_port};
use serde_json::Value;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

/// What the server does.
const ANSWERS: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;
const SILENT: u8 = 100;

/// A DNS server for which every name has the address 127.0.0.1, for a second.
struct Server {
    address: SocketAddr,
    does: Arc<AtomicU8>,
}

impl Server {
    fn start(does: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            does: Arc::new(AtomicU8::new(does)),
        };
        let does = Arc::clone(&server.does);
        thread::spawn(move || {
            let mut query = [0; 1_500];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let code = does.load(Ordering::Relaxed);
                if code != SILENT
                    && let Some(answer) = answer(&query[..length], code)
                {
                    // A client that went away is no matter.
                    let _gone = socket.send_to(&answer, client);
                }
            }
        });
        server
    }

    fn does(&self, what: u8) {
        self.does.store(what, Ordering::Relaxed);
    }
}

/// RFC 1035, 4.1: the header, the question, and for A and no error an address.
fn answer(query: &[u8], code: u8) -> Option<Vec<u8>> {
    let name = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..name + 4)?;
    let has_address = code == ANSWERS && query[name..name + 2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(question);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

fn config(home: &Home, server: &Server, listen: SocketAddr, port: u16) -> String {
    format!(
        "admin: {{ socket: {} }}
dns: {{ servers: [\"{}\"] }}
listeners:
  - name: web
    address: {listen}
    routes: [{{ match: {{ path: /here }}, respond: {{ status: 200, body: here }} }}, {{ cluster: api }}]
clusters:
  - {{ name: api, endpoints: [\"api.test:{port}\"] }}
",
        home.socket().display(),
        server.address
    )
}

fn get(listen: SocketAddr, path: &str) -> (u16, String) {
    Client::connect(listen).get(path).unwrap()
}

fn resolves(daemon: &Daemon) -> bool {
    metric(daemon, "weir_dns_name_resolved") == 1.0
}

fn warns(status: &Value, end: &str) -> bool {
    let warnings = status["warnings"].as_array().unwrap();
    let texts = || warnings.iter().filter_map(Value::as_str);
    texts().any(|text| text.starts_with("name api.test: not resolved: ") && text.ends_with(end))
}

#[test]
fn addresses_outlive_every_way_in_which_dns_dies() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::start(ANSWERS);
    home.write(&config(&home, &server, listen, endpoint().port()));
    let daemon = Daemon::start(&home);
    until("an endpoint", || get(listen, "/") == (200, "there".into()));
    for failure in [SERVFAIL, NXDOMAIN, REFUSED, SILENT] {
        server.does(failure);
        until("it fails", || !resolves(&daemon));
        assert!(
            warns(&daemon.status(), "the address it had stays in use"),
            "{failure}"
        );
        assert_eq!(get(listen, "/"), (200, "there".into()), "{failure}");
        server.does(ANSWERS);
        until("it is back", || resolves(&daemon));
        assert!(!warns(&daemon.status(), ""), "{failure}");
    }
    assert!(metric(&daemon, "weir_dns_name_changed_timestamp_seconds") > 1e9);
}

#[test]
fn without_dns_at_the_start_others_serve_and_endpoints_come_with_it() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::start(SERVFAIL);
    home.write(&config(&home, &server, listen, endpoint().port()));
    let daemon = Daemon::start(&home);
    assert_eq!(get(listen, "/here"), (200, "here".into()));
    assert_eq!(get(listen, "/").0, 503);
    assert!(
        warns(&daemon.status(), "it has no endpoints yet"),
        "{}",
        daemon.status()["warnings"]
    );
    server.does(ANSWERS);
    until("an endpoint", || get(listen, "/") == (200, "there".into()));
}
