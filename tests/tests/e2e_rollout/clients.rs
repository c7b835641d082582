//! Clients whose requests must not notice a rollout: HTTP/2 by h2load and by gRPC's own, streams, WebSockets; and one WebSocket that a test
//! holds open.

use super::{LIMIT, Site, web};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use weir_tests::{
    l7::{data, venv_program},
    lab::{Finished, Host, Process, h2load_succeeded, until},
};

/// What h2load asks for, and nobody else.
const BY_H2LOAD: &str = "/loaded";

/// Servers of gRPC and of WebSockets on the balancer's own host.
pub struct Servers([Process; 2]);

/// Below the ephemeral ports: who connects to one of those until something listens there may meet itself (RFC 9293, simultaneous open).
const GRPC_PORT: u16 = 5051;
const WEBSOCKET_PORT: u16 = 5052;

fn python(host: &Host, script: &str) -> Result<std::process::Command> {
    let mut command = host.command(&venv_program("python")?.to_string_lossy())?;
    command
        .arg(data(script))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    Ok(command)
}

impl Servers {
    /// Starts both, and brings a config that leads to them.
    pub fn start(site: &Site) -> Result<Self> {
        let host = &site.running.topology.balancer;
        let start = |script: &str, port: u16| -> Result<Process> {
            let mut command = python(host, script)?;
            let log = site.folder(&format!("{script}.log"));
            let mut process = Process::start(command.arg(port.to_string()), &log)?;
            until(script, LIMIT, || {
                let connected = host.run(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
                (connected || process.ended().is_some()).then_some(())
            })?;
            process.check()?;
            Ok(process)
        };
        let servers = Self([
            start("grpc_server.py", GRPC_PORT)?,
            start("ws_server.py", WEBSOCKET_PORT)?,
        ]);
        let cluster = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "endpoints": [format!("127.0.0.1:{port}")]});
        site.configure(
            &json!([
                {"match": {"path": "/ws"}, "cluster": "ws"},
                {"match": {"path_prefix": "/weir.test.Echo/"}, "cluster": "grpc"},
                {"respond": {"status": 200, "body": "ok"}},
            ]),
            &[
                cluster("ws", "http1", WEBSOCKET_PORT),
                cluster("grpc", "h2", GRPC_PORT),
            ],
        )?;
        Ok(servers)
    }

    /// That none has ended.
    pub fn check(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Process::check)
    }
}

/// tests/data/l7/through_upgrades.py: calls, streams of two seconds, WebSockets of two seconds.
pub struct Calls(Child);

impl Calls {
    /// From the client.
    pub fn start(site: &Site) -> Result<Self> {
        let mut command = python(&site.running.topology.client, "through_upgrades.py")?;
        command.arg(web().to_string());
        Ok(Self(
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?,
        ))
    }

    /// Ends them: each kind was done, and nothing failed.
    pub fn expect_unnoticed(mut self) -> Result<()> {
        // Its standard input is closed by this.
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output()?;
        ensure!(
            output.status.success(),
            "the clients ended with {}",
            output.status
        );
        let said: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(said["failed"] == json!([]), "{said}");
        for kind in ["unary", "streams", "websockets"] {
            ensure!(said["done"][kind].as_u64() > Some(0), "{said}");
        }
        Ok(())
    }
}

/// HTTP/2 by h2load, one run after the other until told to end: it opens no connection anew. Returns how many requests succeeded.
///
/// After a GOAWAY h2load makes requests that never leave it, up to one a stream, and counts them as started and failed: that nothing was lost
/// which left it, the access log says.
pub fn h2load(host: &Host, ends: &AtomicBool) -> Result<u64> {
    const CLIENTS: u64 = 4;
    const STREAMS: u64 = 8;
    let url = format!("http://{}{BY_H2LOAD}", web());
    let mut all = 0;
    while !ends.load(Ordering::Relaxed) {
        let mut command = host.command("h2load")?;
        let (clients, streams) = (CLIENTS.to_string(), STREAMS.to_string());
        let load = ["-n", "2000", "-c", &clients, "-m", &streams, &url];
        let output = Finished::run(command.args(load), "")?.success()?;
        let succeeded = h2load_succeeded(&output, CLIENTS * STREAMS)?;
        all += succeeded;
    }
    Ok(all)
}

/// Runs `work` under h2load's requests, and checks that whatever reached any pod was answered, and the answer came.
pub fn under_h2load(site: &Site, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let ends = AtomicBool::new(false);
    let client = &site.running.topology.client;
    let succeeded = thread::scope(|scope| -> Result<u64> {
        let loading = scope.spawn(|| h2load(client, &ends));
        let worked = work();
        ends.store(true, Ordering::Relaxed);
        let succeeded = loading
            .join()
            .unwrap_or_else(|_| bail!("h2load's thread panicked"));
        worked?;
        succeeded
    })?;
    let logged = || -> Result<u64> {
        let log = site.access_log()?;
        Ok(log.lines().filter(|line| line.starts_with(BY_H2LOAD)).count() as u64)
    };
    // Lines are written a moment after the answers.
    until("the access log's last line", LIMIT, || {
        (logged().ok()? >= succeeded).then_some(())
    })?;
    let logged = logged()?;
    ensure!(
        logged == succeeded && succeeded > 1_000,
        "{logged} requests were answered, {succeeded} answers came"
    );
    Ok(())
}

/// A WebSocket of the test's own.
pub struct WebSocket(TcpStream);

impl WebSocket {
    /// From the client, through the listener, to the echo server.
    pub fn open(site: &Site) -> Result<Self> {
        let mut stream = site.running.topology.client.run(|| TcpStream::connect(web()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            web()
        );
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut socket = Self(stream);
        socket.echo("first")?;
        Ok(socket)
    }

    /// Sends a text and waits for it to come back.
    pub fn echo(&mut self, text: &str) -> Result<()> {
        // A final frame of text, masked with zeroes (RFC 6455, section 5.2).
        let length = u8::try_from(text.len())?;
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.bytes());
        self.0.write_all(&frame)?;
        let mut answer = vec![0; 2 + text.len()];
        self.0.read_exact(&mut answer).context("the echo")?;
        ensure!(
            answer[..2] == [0x81, length] && answer[2..] == *text.as_bytes(),
            "{answer:?}"
        );
        Ok(())
    }
}
