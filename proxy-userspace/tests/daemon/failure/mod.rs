//! What fails around a daemon (docs/failure.md): nothing that works stops, and it shows.

mod certificates;
mod clock;
mod descriptors;
mod disk;
mod dns;
mod files;
mod memory;

use super::support::{Daemon, SOON, backend, weir_on};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A connection of a client, which is kept.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(stream)
    }

    /// Status and body of the answer to a request.
    fn get(&mut self, path: &str) -> Result<(u16, String), String> {
        self.send(path);
        self.answer()
    }

    fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Result<(u16, String), String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let field = |line: &str| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse::<usize>().ok())?
                };
                let length = head.lines().find_map(field).unwrap_or(0);
                if body.len() >= length {
                    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
                    return Ok((code.ok_or(head)?, body.to_owned()));
                }
            }
            match self.0.read(&mut buffer) {
                Ok(0) => return Err(format!("closed after {text:?}")),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// An endpoint that answers every request with 200 and closes its connection, for as long as the test runs.
fn endpoint() -> SocketAddr {
    let (listener, address) = backend();
    serve(listener);
    address
}

fn serve(listener: TcpListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4_096];
            if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthere";
                // A client that went away is no matter.
                let _gone = stream.write_all(answer);
            }
        }
    });
}

/// Runs a program of the system that must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What is true at once or soon.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The sum of a metric's samples.
fn metric(daemon: &Daemon, name: &str) -> f64 {
    let socket = daemon.socket().to_str().unwrap();
    let page = run(
        "curl",
        &[
            "--silent",
            "--fail",
            "--max-time",
            "10",
            "--unix-socket",
            socket,
            "http://weir/metrics",
        ],
    );
    let samples = page.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    samples
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

/// What `weir status` says.
fn said(daemon: &Daemon) -> String {
    let output = weir_on(daemon.socket(), &["status"]);
    String::from_utf8(output.stdout).unwrap()
}

fn last_error(status: &Value) -> &str {
    status["last_error"]["error"].as_str().unwrap_or_default()
}
