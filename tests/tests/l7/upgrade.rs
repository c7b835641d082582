//! Upgrades under load: requests, calls, streams and WebSockets don't notice them.

use super::support::Proxy;
use anyhow::{Result, anyhow, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use weir_tests::{
    l7::{Raw, Site, python},
    lab::{Finished, Process, h2load_succeeded, tool, until},
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What h2load asks for, and nobody else.
const BY_H2LOAD: &str = "/echo";

/// Upgrades in a row; `WEIR_LONG` asks for the number that the project promises.
fn upgrades() -> usize {
    if std::env::var_os("WEIR_LONG").is_some() {
        100
    } else {
        8
    }
}

fn proxy(log: &Path) -> Result<Proxy> {
    let site = Site::shared();
    let clusters = format!(
        "  - {{ name: grpc, protocol: h2, endpoints: [\"{}\"] }}\n  - {{ name: ws, endpoints: [\"{}\"] }}",
        site.grpc().address,
        site.websocket().address
    );
    let routes = "
      - { match: { path: /at-once }, respond: { status: 200, body: ok } }
      - { match: { path: /ws }, cluster: ws }
      - { match: { path_prefix: /weir.test.Echo/ }, cluster: grpc }
      - { cluster: backend }";
    let listener = format!(
        "access_log: {{ path: {}, text: \"%REQ(:PATH)% %RESPONSE_CODE%\" }}",
        log.display()
    );
    Proxy::with_clusters(&listener, routes, &clusters)
}

/// HTTP/2 by h2load until all its connections were told to go elsewhere, or so many requests are done: it opens none anew. Returns how
/// many succeeded. After a GOAWAY it makes requests that never leave it, up to one a stream, and counts them as started and
/// failed: that nothing was lost which left it, the access log says.
fn h2load(address: SocketAddr) -> Result<u64> {
    const CLIENTS: u64 = 4;
    const STREAMS: u64 = 8;
    let url = format!("http://{address}{BY_H2LOAD}");
    let mut command = Site::shared()
        .host()
        .command(&tool("h2load")?.to_string_lossy())?;
    let (clients, streams) = (CLIENTS.to_string(), STREAMS.to_string());
    let output = Finished::run(
        command.args(["-n", "400", "-c", &clients, "-m", &streams, &url]),
        "",
    )?
    .success()?;
    h2load_succeeded(&output, CLIENTS * STREAMS)
}

/// wrk's HTTP/1.1 on connections that it keeps, until it is told to end.
struct Wrk(Process);

impl Wrk {
    fn start(proxy: &Proxy) -> Result<Self> {
        let url = format!("http://{}/at-once", proxy.address);
        let mut command = Site::shared().host().command(&tool("wrk")?.to_string_lossy())?;
        command.args(["-c", "8", "-t", "1", "-d", "3600s", "--timeout", "60s", &url]);
        let log = proxy.weir.folder().join("wrk.log");
        Ok(Self(Process::start(&mut command, &log)?))
    }

    /// Nothing failed.
    fn finish(mut self) -> Result<()> {
        self.0.signal(Signal::INT)?;
        until("wrk's end", LIMIT, || self.0.ended())?;
        let output = self.0.output();
        ensure!(output.contains("Requests/sec"), "{output}");
        ensure!(
            !output.contains("Socket errors") && !output.contains("Non-2xx"),
            "{output}"
        );
        Ok(())
    }
}

#[test]
fn no_request_stream_or_websocket_fails_through_upgrades() -> Result<()> {
    let site = Site::shared();
    let log = site.subfolder("upgrades")?.join("access.log");
    let mut proxy = proxy(&log)?;
    let mut succeeded = 0;
    let wrk = Wrk::start(&proxy)?;
    let mut clients: Command = python(site, "through_upgrades.py")?;
    clients.arg(proxy.address.to_string());
    let clients = clients.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    for _ in 0..upgrades() {
        let address = proxy.address;
        // On the way from one process to the next, and after it.
        let loaded = std::thread::spawn(move || h2load(address));
        proxy.weir.take_over(site)?;
        succeeded += loaded.join().map_err(|_| anyhow!("h2load's thread panicked"))??;
        succeeded += h2load(address)?;
    }
    let output = clients.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the clients ended with {}",
        output.status
    );
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["failed"] == Value::Array(Vec::new()), "{said}");
    for kind in ["unary", "streams", "websockets"] {
        ensure!(said["done"][kind].as_u64() > Some(0), "{said}");
    }
    wrk.finish()?;
    proxy.weir.signal(Signal::TERM)?;
    until("the end of the last process", LIMIT, || {
        proxy.weir.check().is_err().then_some(())
    })?;
    proxy.weir.expect_left()?;
    // Whatever reached any of the processes was answered, and the answer came to the client.
    let log = std::fs::read_to_string(&log)?;
    let logged = log.lines().filter(|line| line.starts_with(BY_H2LOAD)).count() as u64;
    ensure!(
        logged == succeeded,
        "{logged} requests were answered, {succeeded} answers came"
    );
    Ok(())
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}

/// Header fields of a request: a method of HPACK's static table, and a path (RFC 7541, appendix A and section 6.2.2).
fn head(method: u8, path: &str) -> Vec<u8> {
    const SCHEME_HTTP: u8 = 0x86;
    let mut fields = vec![method, SCHEME_HTTP, 0x04, path.len() as u8];
    fields.extend(path.bytes());
    fields.extend([0x01, 1, b'x']);
    fields
}

/// Of section 6 of RFC 9113.
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The next frame: kind, flags, stream, payload.
fn next(raw: &mut Raw) -> Result<(u8, u8, u8, Vec<u8>)> {
    let head = raw.exactly(9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    Ok((head[3], head[4], head[8], raw.exactly(length)?))
}

/// A client answers the PING of a connection that drains ahead of a stream that it has begun, as gRPC's do: that stream is served, and those that
/// run live on.
#[test]
fn a_stream_sent_behind_the_answer_to_a_drains_ping_is_served() -> Result<()> {
    const GET: u8 = 0x82;
    const POST: u8 = 0x83;
    let site = Site::shared();
    let log = site.subfolder("behind-the-ping")?.join("access.log");
    let mut proxy = proxy(&log)?;
    let mut raw = proxy.raw()?;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    raw.send(frame(kind::SETTINGS, 0, 0, &[]));
    raw.send(frame(kind::HEADERS, END_HEADERS, 1, &head(POST, "/echo")));
    proxy.weir.take_over(site)?;
    let ping = loop {
        match next(&mut raw)? {
            (kind::PING, 0, _, payload) => break payload,
            (kind::GOAWAY, _, _, payload) => ensure!(payload[4..] == [0; 4], "{payload:?}"),
            _ => {}
        }
    };
    // In one segment.
    raw.send(
        [
            frame(kind::PING, ACK, 0, &ping),
            frame(kind::HEADERS, END_HEADERS | END_STREAM, 3, &head(GET, "/at-once")),
            frame(kind::WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]),
        ]
        .concat(),
    );
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let (kind, flags, stream, payload) = next(&mut raw)?;
        match kind {
            kind::GOAWAY => ensure!(payload[4..] == [0; 4], "{payload:?} after {ended:?}"),
            // `:status: 200` of the static table comes first.
            kind::HEADERS => ensure!(payload[0] == 0x88, "stream {stream}: {payload:?}"),
            kind::DATA if stream == 3 && ended.is_empty() => {
                raw.send(frame(kind::DATA, END_STREAM, 1, b"the end"));
            }
            _ => {}
        }
        if matches!(kind, kind::HEADERS | kind::DATA) && flags & END_STREAM != 0 {
            ended.push(stream);
        }
    }
    ensure!(ended == [3, 1], "{ended:?}");
    // The last GOAWAY names the stream behind the answer.
    let last = std::iter::from_fn(|| next(&mut raw).ok()).find(|frame| frame.0 == kind::GOAWAY);
    ensure!(last.is_some_and(|(_, _, _, payload)| payload == [0, 0, 0, 3, 0, 0, 0, 0]));
    proxy.weir.expect_left()?;
    Ok(())
}
