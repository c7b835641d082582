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
    l7::{Site, python},
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
