//! WebSocket by Node's ws and Python's websockets: over HTTP/1.1, TLS, and HTTP/2.

use super::support::Proxy;
use anyhow::{Result, ensure};
use serde_json::Value;
use weir_tests::{
    l7::{Site, python, script},
    lab::Finished,
};

fn proxy(listener: &str) -> Result<Proxy> {
    let site = Site::shared();
    let websocket = format!(
        "  - {{ name: ws, endpoints: [\"{}\"] }}",
        site.websocket().address
    );
    let routes = "
      - { match: { host: h2c.test }, cluster: h2c }
      - { cluster: ws }";
    Proxy::with_clusters(listener, routes, &websocket)
}

fn tls() -> Result<String> {
    let identity = Site::shared()
        .authority()
        .issue("ws", "localhost", &["DNS:localhost", "IP:127.0.0.1"])?;
    Ok(format!(
        "tls: {{ certificates: [{{ cert: {}, key: {} }}] }}",
        identity.cert.display(),
        identity.key.display()
    ))
}

#[test]
fn websockets_of_python_and_node_work() -> Result<()> {
    let site = Site::shared();
    let ca = &site.authority().cert;
    let plain = proxy("")?;
    let url = format!("ws://localhost:{}", plain.address.port());
    Finished::run(python(site, "ws_client.py")?.arg(&url), "")?.success()?;
    Finished::run(script(site, "ws_client.cjs")?.arg(&url), "")?.success()?;
    let secure = proxy(&tls()?)?;
    let url = format!("wss://localhost:{}", secure.address.port());
    Finished::run(python(site, "ws_client.py")?.arg(&url).arg(ca), "")?.success()?;
    Finished::run(script(site, "ws_client.cjs")?.arg(&url).arg(ca), "")?.success()?;
    Ok(())
}

fn over_h2(proxy: &Proxy, path: &str, ca: bool) -> Result<Value> {
    let site = Site::shared();
    let mut command = python(site, "ws_h2.py")?;
    command.arg(proxy.address.port().to_string()).arg(path);
    if ca {
        command.arg(&site.authority().cert);
    }
    let output = Finished::run(&mut command, "")?.success()?;
    Ok(serde_json::from_str(&output)?)
}

/// RFC 8441, from HTTP/2 to an upstream of HTTP/1.1.
#[test]
fn a_websocket_runs_over_http_2() -> Result<()> {
    for (listener, secure) in [(String::new(), false), (tls()?, true)] {
        let proxy = proxy(&listener)?;
        let seen = over_h2(&proxy, "/chat", secure)?;
        ensure!(seen["enable_connect_protocol"] == 1, "announced: {seen}");
        ensure!(
            seen["status"] == 200 && seen["echo"] == "over HTTP/2 ".repeat(20),
            "{seen}"
        );
        ensure!(seen["close"] == 4007, "the close comes back: {seen}");
        let seen = over_h2(&proxy, "/refused", secure)?;
        ensure!(
            seen["status"] == 403 && seen["echo"] == "refused\n",
            "the refusal: {seen}"
        );
    }
    Ok(())
}

/// From HTTP/1.1 to an upstream of HTTP/2 that takes extended CONNECT.
#[test]
fn an_upgrade_reaches_an_http_2_upstream() -> Result<()> {
    let proxy = proxy("")?;
    let mut raw = proxy.raw()?;
    raw.send(
        "GET /up HTTP/1.1\r\nHost: h2c.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Probe: 7\r\n\r\n",
    );
    let answer = raw.answer()?.expect(101)?;
    ensure!(answer.header("x-seen") == Some("7"), "{answer:?}");
    ensure!(
        answer.header("sec-websocket-accept") == Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer:?}"
    );
    raw.send("there and back");
    ensure!(raw.exactly(14)? == b"there and back", "bytes come back");
    Ok(())
}
