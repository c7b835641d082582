//! HTTP/2 by nghttp, h2load and raw frames.

use super::support::Proxy;
use anyhow::{Context, Result, ensure};
use weir_tests::{l7::Site, lab::Finished};

/// Runs a program on the site to its end.
fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a program")?;
    let mut command = Site::shared().host().command(program)?;
    Finished::run(command.args(words), "")?.success()
}

#[test]
fn nghttp_gets_what_it_asks_for() -> Result<()> {
    let proxy = Proxy::with_routes(
        "timeouts: { request: 0s }",
        "      - { match: { path_prefix: /h2/ }, cluster: h2c, rewrite: { prefix: / } }\n      - { cluster: backend }",
    )?;
    let url = format!("http://{}", proxy.address);
    let output = run(&format!(
        "nghttp --no-dep --header=x-a:1 {url}/echo?1 {url}/h2/echo?2"
    ))?;
    ensure!(
        output.contains("\"/echo?1\"") && output.contains("\"/echo?2\""),
        "{output}"
    );
    // Verbose, it shows frames: trailers are a HEADERS frame that ends the stream.
    let output = run(&format!("nghttp --no-dep --verbose {url}/trailers"))?;
    ensure!(
        output.contains("x-sum: 6") && output.contains("END_STREAM"),
        "{output}"
    );
    ensure!(!output.contains("RST_STREAM"), "{output}");
    let output = run(&format!(
        "nghttp --no-dep --null-out --stat {url}/bytes/5000000 {url}/h2/bytes/5000000"
    ))?;
    ensure!(output.matches(" 200 ").count() >= 2, "{output}");
    Ok(())
}

#[test]
fn h2load_sees_no_failure() -> Result<()> {
    let proxy = Proxy::with_routes(
        "timeouts: { request: 0s }",
        "      - { match: { path_prefix: /h2/ }, cluster: h2c, rewrite: { prefix: / } }\n      - { cluster: backend }",
    )?;
    let url = format!("http://{}", proxy.address);
    for line in [
        format!("h2load -n 2000 -c 20 -m 20 {url}/bytes/1024"),
        format!("h2load -n 2000 -c 20 -m 20 {url}/h2/bytes/1024"),
        format!("h2load -n 1000 -c 20 --h1 {url}/bytes/1024"),
        format!("h2load -n 1000 -c 20 --h1 {url}/h2/bytes/1024"),
        // Windows smaller than a body: flow control at work.
        format!("h2load -n 300 -c 10 -m 10 -w 10 -W 12 {url}/h2/bytes/200000"),
    ] {
        let output = run(&line)?;
        ensure!(
            output.contains(", 0 failed, 0 errored, 0 timeout"),
            "{line}\n{output}"
        );
        ensure!(output.contains(" 0 3xx, 0 4xx, 0 5xx"), "{line}\n{output}");
    }
    Ok(())
}
