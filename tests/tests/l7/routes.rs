//! What routes do: match, redirect, rewrite, change headers, answer, split; and the one form of a path that all see.

use super::support::Proxy;
use anyhow::{Result, ensure};

const ROUTES: &str = r#"
      - { match: { path_prefix: /old/ }, redirect: { scheme: https, host: new.test, prefix: /new/, status: 308 } }
      - { match: { path: /strip }, redirect: { path: /stripped, strip_query: true } }
      - { match: { path: /direct }, respond: { status: 202, body: "direct\n" }, response_headers: { set: { x-direct: "1" } } }
      - match: { path_segment_prefix: /seg }
        cluster: backend
        rewrite: { prefix: /echo, host: rewritten.test }
        request_headers: { set: { x-set: new }, add: { x-add: more }, remove: [x-remove] }
        response_headers: { set: { x-backend: hidden }, add: { x-more: "1" }, remove: [content-type] }
      - { match: { path_regex: "/v[0-9]+/.*" }, cluster: backend, rewrite: { regex: { pattern: "^/(v[0-9]+)/(.*)", substitution: "/echo/$2/$1" } } }
      - { match: { host: "*.wild.test", methods: [PUT, POST] }, respond: { status: 200, body: "wild" } }
      - { match: { headers: [{ name: x-route, regex: "a+" }] }, respond: { status: 200, body: "header" } }
      - { match: { query: [{ name: route, exact: "a b" }] }, respond: { status: 200, body: "query" } }
      - { match: { path: /split }, clusters: [{ cluster: backend, weight: 75 }, { cluster: h2c, weight: 25 }] }
      - { match: { path_prefix: /echo }, cluster: backend }
"#;

#[test]
fn routes_do_what_they_say() -> Result<()> {
    let proxy = Proxy::with_routes("", ROUTES)?;
    let answer = proxy.get("/old/a%20b?c=d")?.expect(308)?;
    ensure!(
        answer.header("location") == Some("https://new.test/new/a%20b?c=d"),
        "{answer:?}"
    );
    let answer = proxy.get("/strip?c=d")?.expect(301)?;
    let port = proxy.address.port();
    ensure!(
        answer.header("location") == Some(&format!("http://127.0.0.1:{port}/stripped")),
        "{answer:?}"
    );
    let answer = proxy.get("/direct")?.expect(202)?;
    ensure!(
        answer.text() == "direct\n" && answer.header("x-direct") == Some("1"),
        "{answer:?}"
    );
    let answer = proxy.curl("/direct").with("--head").answer()?.expect(202)?;
    ensure!(answer.header("content-length") == Some("7"), "{answer:?}");

    let answer = proxy
        .curl("/seg/a?b")
        .header("x-set: old")
        .header("x-add: first")
        .header("x-remove: 1")
        .answer()?;
    ensure!(
        answer.header("x-backend") == Some("hidden") && answer.header("x-more") == Some("1"),
        "{answer:?}"
    );
    ensure!(answer.header("content-type").is_none(), "{answer:?}");
    let seen = answer.seen()?;
    ensure!(
        seen.text("target") == "/echo/a?b" && seen.header("host") == Some("rewritten.test"),
        "{seen:?}"
    );
    ensure!(
        seen.all("x-set") == ["new"] && seen.header("x-remove").is_none(),
        "{seen:?}"
    );
    ensure!(seen.all("x-add").join(", ") == "first, more", "{seen:?}");
    proxy.get("/segment")?.expect(404)?;
    ensure!(
        proxy.get("/v12/x")?.seen()?.text("target") == "/echo/x/v12",
        "a regex"
    );
    Ok(())
}

#[test]
fn routes_take_what_their_conditions_say() -> Result<()> {
    let proxy = Proxy::with_routes("", ROUTES)?;
    let wild = |method: &str, host: &str| {
        proxy
            .curl("/x")
            .with("--request")
            .arg(method)
            .header(&format!("host: {host}"))
            .answer()
    };
    ensure!(wild("PUT", "a.b.WILD.test:8080")?.text() == "wild", "a host");
    wild("GET", "a.wild.test")?.expect(404)?;
    wild("PUT", "wild.test")?.expect(404)?;
    ensure!(
        proxy.curl("/x").header("x-route: aaa").answer()?.text() == "header",
        "a header"
    );
    proxy.curl("/x").header("x-route: aab").answer()?.expect(404)?;
    ensure!(
        proxy.get("/x?route=a%20b")?.text() == "query",
        "a query parameter"
    );
    ensure!(
        !proxy.get("/nowhere")?.expect(404)?.text().is_empty(),
        "a 404 says why"
    );
    Ok(())
}

#[test]
fn weights_split_requests() -> Result<()> {
    let proxy = Proxy::with_routes("", ROUTES)?;
    let mut raw = proxy.raw()?;
    let mut second = 0;
    let count = 400;
    for _ in 0..count {
        raw.send("GET /split HTTP/1.1\r\nHost: a.test\r\n\r\n");
        second += usize::from(raw.answer()?.seen()?.text("version") == "2.0");
    }
    // 100 are expected; further off than this is one in ten million.
    ensure!(
        (55..=145).contains(&second),
        "{second} of {count} went to a quarter"
    );
    Ok(())
}

#[test]
fn all_see_one_form_of_a_path() -> Result<()> {
    let routes = "
      - { match: { path_prefix: /admin/ }, respond: { status: 403, body: no } }
      - { cluster: backend }";
    let strict = Proxy::with_routes("", routes)?;
    let ask = |proxy: &Proxy, path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    for path in [
        "/admin/x",
        "/a/../admin/x",
        "/./admin/x",
        "/a/%2e%2e/admin/x",
        "/a/.%2E/admin/x",
        "/%61dmin/x",
    ] {
        ensure!(ask(&strict, path)?.status == 403, "{path} is the admin's");
    }
    for path in [
        "/../admin/x",
        "/a/../../admin/x",
        "/%2e%2e/x",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%00b",
        "/a/..%2fadmin/",
    ] {
        ensure!(ask(&strict, path)?.status == 400, "{path} is refused");
    }
    for (path, upstream) in [
        ("/a/./b/../c", "/a/c"),
        ("/a//b", "/a//b"),
        ("/a/b/.", "/a/b/"),
        ("/a?b=/../c", "/a?b=/../c"),
    ] {
        let seen = ask(&strict, path)?.seen()?;
        ensure!(seen.text("target") == upstream, "{path}: {seen:?}");
    }
    let lax = Proxy::with_routes("path: { merge_slashes: true, encoded_slashes: decode }", routes)?;
    for path in [
        "//admin/x",
        "/admin%2fx",
        "/a/..%2fadmin/x",
        "/a%2f..%2fadmin%2fx",
    ] {
        ensure!(ask(&lax, path)?.status == 403, "{path} is the admin's");
    }
    ensure!(
        ask(&lax, "/a//b///c")?.seen()?.text("target") == "/a/b/c",
        "slashes are merged"
    );
    let keep = Proxy::with_routes("path: { encoded_slashes: keep }", routes)?;
    ensure!(ask(&keep, "/a%2Fb")?.seen()?.text("target") == "/a%2Fb", "kept");
    Ok(())
}
