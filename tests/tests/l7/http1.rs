//! What HTTP/1.1 itself asks of a proxy: connections kept and ended, Expect, half-close, CONNECT, upgrades.

use super::support::Proxy;
use anyhow::{Result, ensure};

#[test]
fn requests_follow_one_another_on_a_connection() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    for number in 0..10 {
        raw.send(format!(
            "POST /echo?{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
        ));
        let seen = raw.answer()?.seen()?;
        ensure!(seen.text("target") == format!("/echo?{number}"), "{seen:?}");
    }
    // All at once: answered in order.
    let requests: String = (0..20)
        .map(|number| format!("GET /echo?{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
        .collect();
    raw.send(&requests);
    for number in 0..20 {
        let seen = raw.answer()?.seen()?;
        ensure!(
            seen.text("target") == format!("/echo?{number}"),
            "pipelined: {seen:?}"
        );
    }
    raw.send(
        "HEAD /bytes/1000 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /status/204 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    raw.answer_to("HEAD")?.expect(200)?;
    raw.answer()?.expect(204)?;
    raw.send("GET /echo HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let answer = raw.answer()?.expect(200)?;
    ensure!(answer.header("connection") == Some("close"), "{answer:?}");
    ensure!(raw.is_closed()?, "closed as asked");
    Ok(())
}

#[test]
fn http_1_0_is_answered_and_closed() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    raw.send("GET /chunked/1000 HTTP/1.0\r\n\r\n");
    let answer = raw.answer()?.expect(200)?;
    ensure!(
        answer.header("transfer-encoding").is_none(),
        "HTTP/1.0 has no chunks: {answer:?}"
    );
    ensure!(
        answer.body.len() == 1000,
        "{} bytes up to the end",
        answer.body.len()
    );
    let mut raw = proxy.raw()?;
    for _ in 0..2 {
        raw.send("GET /echo HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
        raw.answer()?.expect(200)?;
    }
    Ok(())
}

#[test]
fn a_body_is_sent_once_it_is_expected() -> Result<()> {
    let proxy = Proxy::with_routes(
        "",
        "      - { match: { path_prefix: /h2/ }, cluster: h2c, rewrite: { prefix: / } }\n      - { cluster: backend }",
    )?;
    for path in ["/echo", "/h2/echo"] {
        let mut raw = proxy.raw()?;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        ));
        let interim = raw.until("\r\n\r\n")?;
        ensure!(interim.starts_with("HTTP/1.1 100 "), "{path}: {interim}");
        raw.send("abc");
        ensure!(raw.answer()?.seen()?.text("body") == "abc", "{path}");
    }
    // A refusal passes.
    let mut raw = proxy.raw()?;
    raw.send(
        "POST /expect-refused HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    );
    raw.answer()?.expect(417)?;
    Ok(())
}

#[test]
fn a_client_may_close_its_half() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    raw.send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    raw.finish();
    ensure!(raw.answer()?.seen()?.text("body") == "abc", "the answer comes");
    ensure!(raw.is_closed()?, "then the end");
    Ok(())
}

#[test]
fn connect_is_refused_unless_configured() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    raw.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    raw.answer_to("CONNECT")?.expect(405)?;
    let proxy = Proxy::start("connect: true")?;
    let mut raw = proxy.raw()?;
    raw.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    // The backend doesn't take CONNECT and closes: what matters is that it was asked.
    let answer = raw.answer_to("GET");
    ensure!(answer.map_or(true, |answer| answer.status != 405), "forwarded");
    Ok(())
}

const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Probe: 7\r\n\r\n";

#[test]
fn a_tunnel_opens_after_the_101_alone() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    // Bytes sent early wait for the 101.
    raw.send(format!("{UPGRADE}early "));
    let answer = raw.answer()?.expect(101)?;
    ensure!(answer.header("upgrade") == Some("websocket"), "{answer:?}");
    ensure!(answer.header("x-seen") == Some("7"), "{answer:?}");
    raw.send("later");
    ensure!(raw.exactly(11)? == b"early later", "bytes come back");
    raw.finish();
    ensure!(raw.is_closed()?, "one end's end is the other's");

    let mut raw = proxy.raw()?;
    raw.send(UPGRADE.replace("/up", "/refused"));
    let answer = raw.answer()?.expect(403)?;
    ensure!(
        answer.text() == "refused\n" && answer.header("x-why") == Some("rule"),
        "{answer:?}"
    );
    // The connection is one of HTTP still.
    raw.send("GET /echo HTTP/1.1\r\nHost: a.test\r\n\r\n");
    raw.answer()?.expect(200)?;
    Ok(())
}

#[test]
fn an_upgrade_that_is_not_configured_is_none() -> Result<()> {
    let proxy = Proxy::start("upgrades: []")?;
    let mut raw = proxy.raw()?;
    raw.send(UPGRADE);
    let seen = raw.answer()?.expect(200)?.seen()?;
    ensure!(
        seen.header("upgrade").is_none(),
        "the upstream isn't asked to: {seen:?}"
    );
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    raw.send(UPGRADE.replace("Upgrade: websocket", "Upgrade: other/1"));
    let seen = raw.answer()?.expect(200)?.seen()?;
    ensure!(seen.header("upgrade").is_none(), "another protocol: {seen:?}");
    Ok(())
}
