//! Headers that belong to one hop, and headers about the client's connection.

use super::support::Proxy;
use anyhow::{Result, ensure};
use weir_tests::l7::Seen;

#[test]
fn hop_by_hop_headers_stay_on_their_hop() -> Result<()> {
    let proxy = Proxy::with_routes(
        "",
        "      - { match: { host: h2.test }, cluster: h2c }\n      - { cluster: backend }",
    )?;
    for host in ["a.test", "h2.test"] {
        let seen = proxy
            .ask(&format!(
                "GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: X-Listed, keep-alive, Upgrade\r\nX-Listed: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nX-Kept: 1\r\nAuthorization: Basic YTpi\r\n\r\n"
            ))?
            .seen()?;
        for gone in [
            "x-listed",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
        ] {
            ensure!(
                seen.header(gone).is_none(),
                "{host}: {gone} was forwarded: {seen:?}"
            );
        }
        ensure!(seen.header("x-kept") == Some("1"), "{host}: {seen:?}");
        ensure!(
            seen.header("authorization") == Some("Basic YTpi"),
            "{host}: {seen:?}"
        );
        ensure!(
            seen.header("te").is_none_or(|te| te == "trailers"),
            "{host}: {seen:?}"
        );
    }
    let answer = proxy.get("/hop")?;
    for gone in ["x-listed", "keep-alive"] {
        ensure!(answer.header(gone).is_none(), "{gone} was forwarded: {answer:?}");
    }
    ensure!(answer.header("x-kept") == Some("yes"), "{answer:?}");
    ensure!(
        answer.all("set-cookie") == ["a=1", "b=2"],
        "two cookies stay two: {answer:?}"
    );
    Ok(())
}

fn seen_with(listener: &str, headers: &str) -> Result<Seen> {
    let proxy = Proxy::start(listener)?;
    proxy
        .ask(&format!(
            "GET /echo HTTP/1.1\r\nHost: a.test:8080\r\n{headers}\r\n"
        ))?
        .seen()
}

const FORGED: &str = "X-Forwarded-For: 203.0.113.9, 203.0.113.8\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: evil.test\r\nX-Request-Id: forged\r\nForwarded: for=203.0.113.9\r\n";

#[test]
fn a_client_that_is_not_trusted_says_nothing_about_itself() -> Result<()> {
    let seen = seen_with("", FORGED)?;
    ensure!(seen.all("x-forwarded-for") == ["127.0.0.1"], "{seen:?}");
    ensure!(seen.all("x-forwarded-proto") == ["http"], "{seen:?}");
    ensure!(seen.all("x-forwarded-host") == ["a.test:8080"], "{seen:?}");
    ensure!(seen.all("forwarded").is_empty(), "{seen:?}");
    let ids = seen.all("x-request-id");
    ensure!(ids.len() == 1 && ids[0].len() == 36, "a UUID: {seen:?}");
    ensure!(seen.all("host") == ["a.test:8080"], "{seen:?}");
    Ok(())
}

#[test]
fn a_trusted_hop_is_believed() -> Result<()> {
    let seen = seen_with("forwarded: { trusted_hops: 1, forwarded: true }", FORGED)?;
    let list: Vec<&str> = seen
        .all("x-forwarded-for")
        .iter()
        .flat_map(|value| value.split(", "))
        .collect();
    ensure!(list == ["203.0.113.9", "203.0.113.8", "127.0.0.1"], "{seen:?}");
    ensure!(seen.all("x-forwarded-proto") == ["https"], "{seen:?}");
    ensure!(seen.all("x-forwarded-host") == ["evil.test"], "{seen:?}");
    ensure!(seen.all("x-request-id") == ["forged"], "{seen:?}");
    let forwarded = seen.all("forwarded").join(", ");
    ensure!(
        forwarded.starts_with("for=203.0.113.9, for=127.0.0.1;") && forwarded.contains("proto=http"),
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn headers_about_the_connection_can_be_turned_off() -> Result<()> {
    let off = "forwarded: { x_forwarded: false, request_id: false }\nvia: edge\nserver_header: { set: weir }";
    let seen = seen_with(off, "")?;
    for name in [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
    ] {
        ensure!(seen.header(name).is_none(), "{name}: {seen:?}");
    }
    ensure!(seen.header("via") == Some("1.1 edge"), "{seen:?}");
    let answer = Proxy::start(off)?.get("/echo")?;
    ensure!(answer.header("server") == Some("weir"), "{answer:?}");
    ensure!(answer.header("via") == Some("1.1 edge"), "{answer:?}");
    Ok(())
}

#[test]
fn odd_but_legal_headers_pass() -> Result<()> {
    let proxy = Proxy::start("")?;
    let seen = proxy
        .ask("GET /echo HTTP/1.1\r\nHost: a.test\r\nX-Empty:\r\nX-Spaces: \t a  b \t\r\nX-Twice: 1\r\nX-Twice: 2\r\nX_Under: 1\r\n\r\n")?
        .seen()?;
    ensure!(seen.header("x-empty") == Some(""), "{seen:?}");
    ensure!(seen.header("x-spaces") == Some("a  b"), "{seen:?}");
    ensure!(
        seen.all("x-twice").join(",").replace(' ', "") == "1,2",
        "{seen:?}"
    );
    ensure!(seen.header("x_under") == Some("1"), "{seen:?}");
    // Cookies that HTTP/2 splits are one again for HTTP/1.1 (RFC 9113, 8.2.3).
    let answer = proxy
        .curl("/echo")
        .with("--http2-prior-knowledge")
        .header("cookie: a=1")
        .header("cookie: b=2")
        .answer()?;
    ensure!(answer.seen()?.all("cookie") == ["a=1; b=2"], "{}", answer.text());
    // A response's header of 60 KiB.
    let answer = proxy.get("/header/60000")?;
    ensure!(
        answer.header("x-long").is_some_and(|value| value.len() == 60_000),
        "a long header"
    );
    Ok(())
}
