//! An endpoint given by name: requests follow its addresses, and go on when DNS is dead.

use super::support::{Daemon, Home, free_port, text};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// dnsmasq on loopback, which answers for `api.test`; killed at the end.
struct Dns {
    child: Child,
    hosts: PathBuf,
    address: SocketAddr,
}

impl Dns {
    fn start(home: &Home, api: &str) -> Self {
        let hosts = home.config().with_file_name("hosts");
        fs::write(&hosts, format!("{api} api.test\n")).unwrap();
        // A port that is free for TCP may be taken for UDP.
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            if let Some(child) = run(address, &hosts) {
                return Self {
                    child,
                    hosts,
                    address,
                };
            }
        }
    }

    fn set(&self, api: &str) {
        fs::write(&self.hosts, format!("{api} api.test\n")).unwrap();
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "HUP", &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn kill(&mut self) {
        // One that was killed already can't be.
        let _gone = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that takes queries, if it came up.
fn run(address: SocketAddr, hosts: &Path) -> Option<Child> {
    let mut child = Command::new("dnsmasq")
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--local-ttl=1",
        ])
        .args([
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--local=/test/",
            "--user=root",
            "--pid-file=",
        ])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--addn-hosts={}", hosts.display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("dnsmasq is installed: cargo xtask setup");
    while !is_answering(address) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
    }
    Some(child)
}

/// Whether a query comes back, with whatever answer.
fn is_answering(server: SocketAddr) -> bool {
    /// Which addresses has `test.`?
    const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x01\0\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket.send(QUERY).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

/// Answers every connection with its own address, for as long as the test runs.
fn answer_with_own_address(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let body = stream.local_addr().unwrap().ip().to_string();
            let mut request = [0; 4_096];
            if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                // A client that went away is no matter.
                let _gone = stream.write_all(format!("{head}{body}").as_bytes());
            }
        }
    });
}

fn get(address: SocketAddr) -> String {
    let url = format!("http://{address}/");
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "10", &url])
        .output()
        .unwrap();
    text(&output.stdout)
}

/// The same port on two addresses.
fn backends() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.0.0.2", port)) {
            answer_with_own_address(first);
            answer_with_own_address(second);
            return port;
        }
    }
}

#[test]
fn requests_follow_a_name_and_outlive_its_dns() {
    let home = Home::new("");
    let mut dns = Dns::start(&home, "127.0.0.1");
    let port = backends();
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "admin: {{ socket: {} }}\ndns: {{ servers: [\"{}\"] }}\n\
         listeners:\n  - {{ name: web, address: \"{listen}\", routes: [{{ cluster: api }}] }}\n\
         clusters:\n  - {{ name: api, endpoints: [\"api.test:{port}\"] }}\n",
        home.socket().display(),
        dns.address
    );
    home.write(&config);
    let daemon = Daemon::start(&home);
    daemon.status_when("the first address", |_| get(listen) == "127.0.0.1");

    dns.set("127.0.0.2");
    daemon.status_when("the second address", |_| get(listen) == "127.0.0.2");

    // An address is an endpoint like others.
    let path = format!("/clusters/api/endpoints/127.0.0.2:{port}");
    let (code, _) = daemon.curl("PATCH", &path, Some("{\"drain\": true}"));
    assert_eq!(code, 200);
    daemon.status_when("drained", |_| get(listen) != "127.0.0.2");
    let (code, _) = daemon.curl("PATCH", &path, Some("{\"drain\": false}"));
    assert_eq!(code, 200);

    dns.kill();
    let warned = |status: &Value| {
        let warnings = status["warnings"].as_array().unwrap();
        let of_name = |it: &&Value| it.as_str().unwrap().starts_with("name api.test: not resolved");
        warnings
            .iter()
            .any(|it| of_name(&it) && it.as_str().unwrap().ends_with("stays in use"))
    };
    daemon.status_when("a warning", warned);
    assert_eq!(get(listen), "127.0.0.2");

    // A reload keeps what was found.
    let generation = daemon.status()["generation"].as_u64();
    home.write(&format!(
        "{config}  - {{ name: more, endpoints: [\"198.51.100.3:80\"] }}\n"
    ));
    daemon.reload("cluster more: added (endpoints: 1)");
    assert!(daemon.status()["generation"].as_u64() > generation);
    assert_eq!(get(listen), "127.0.0.2");
}
