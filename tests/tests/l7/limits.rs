//! Bounds on what a client may send, and on how long it may take.

use super::support::Proxy;
use anyhow::{Result, ensure};
use serde_json::json;
use weir_tests::l7::{Answer, Raw, Site, h2_request};

#[test]
fn too_much_is_answered_and_not_forwarded() -> Result<()> {
    let proxy =
        Proxy::start("limits: { header_bytes: 8192, header_count: 20, uri_bytes: 1000, body_bytes: 1000 }")?;
    let many: String = (0..30).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = "x".repeat(10_000);
    let cases = [
        (
            "a head of 10 kB",
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: {long}\r\n\r\n"),
            431,
        ),
        (
            "30 headers",
            format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"),
            431,
        ),
        (
            "a path of 2 kB",
            format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(2000)),
            414,
        ),
        (
            "a body of 2 kB",
            "POST /sink HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2000\r\n\r\n".to_owned(),
            413,
        ),
    ];
    for (what, request, status) in cases {
        let answer = proxy.ask(&request)?;
        ensure!(answer.status == status, "{what}: {answer:?}");
    }
    // A body that grows over the bound.
    let mut raw = proxy.raw()?;
    raw.send("POST /sink HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw.send(format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)));
    raw.answer()?.expect(413)?;
    // The same over HTTP/2.
    let h2 = |path: &str| proxy.curl(path).with("--http2-prior-knowledge");
    h2(&format!("/{}", "x".repeat(2000))).answer()?.expect(414)?;
    let url = format!("http://{}/sink", proxy.address);
    let request = json!({"url": url, "headers": {":method": "POST"}, "body": "x".repeat(2000)});
    let answer = h2_request(Site::shared(), &request)?;
    ensure!(answer["status"] == 413, "{answer}");
    let mut many = h2("/");
    for number in 0..30 {
        many = many.header(&format!("x-{number}: 1"));
    }
    many.answer()?.expect(431)?;
    // At the bounds all is well.
    proxy
        .curl("/sink")
        .with("--data-binary")
        .arg(&"x".repeat(1000))
        .answer()?
        .expect(200)?;
    Ok(())
}

fn after(proxy: &Proxy, bytes: &str) -> Result<(Answer, Raw)> {
    let mut raw = proxy.raw()?;
    raw.send(bytes);
    Ok((raw.answer()?, raw))
}

#[test]
fn waiting_ends() -> Result<()> {
    let proxy = Proxy::with_routes(
        "timeouts: { header_read: 2s, request: 1s, idle_connection: 2s }",
        "      - { match: { path_prefix: /slow/ }, cluster: backend, rewrite: { prefix: / }, timeouts: { request: 0s, per_try: 1s } }
      - { match: { path_prefix: /idle/ }, cluster: backend, rewrite: { prefix: / }, timeouts: { request: 0s, idle: 1s } }
      - { match: { path: /at-once }, respond: { status: 200, body: ok } }
      - { cluster: backend }",
    )?;
    let (answer, mut raw) = after(&proxy, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Half")?;
    ensure!(answer.status == 408, "a head that stops: {answer:?}");
    ensure!(raw.is_closed()?, "and the connection is closed");
    let mut raw = proxy.raw()?;
    ensure!(raw.is_closed()?, "a client that says nothing");

    proxy.get("/never")?.expect(504)?;
    proxy.get("/slow/never")?.expect(504)?;
    proxy
        .curl("/never")
        .with("--http2-prior-knowledge")
        .answer()?
        .expect(504)?;
    let (answer, mut raw) = after(&proxy, "GET /at-once HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
    answer.expect(200)?;
    ensure!(raw.is_closed()?, "a connection without a request");

    // An answer that stops in the middle is cut, so that nobody takes it for whole.
    let finished = proxy.curl("/idle/stall").run()?;
    ensure!(!finished.status.success(), "cut: {finished:?}");
    let finished = proxy.curl("/idle/stall").with("--http2-prior-knowledge").run()?;
    ensure!(!finished.status.success(), "reset: {finished:?}");
    // A body that stops.
    let mut raw = proxy.raw()?;
    raw.send("POST /idle/sink HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nabc");
    let answer = raw.answer()?;
    ensure!([408, 504].contains(&answer.status), "{answer:?}");
    Ok(())
}
