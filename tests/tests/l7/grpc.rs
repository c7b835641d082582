//! gRPC by Python's grpcio, through the daemon to grpcio; and gRPC-Web.

use super::support::Proxy;
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};
use weir_tests::{
    l7::{Site, python},
    lab::Finished,
};

/// A daemon in front of the gRPC server.
fn proxy(listener: &str) -> Result<Proxy> {
    let grpc = format!(
        "  - {{ name: grpc, protocol: h2, endpoints: [\"{}\"] }}",
        Site::shared().grpc().address
    );
    Proxy::with_clusters(listener, "      - { cluster: grpc }", &grpc)
}

fn client(proxy: &Proxy, test: &str) -> Result<Command> {
    let mut command = python(Site::shared(), "grpc_client.py")?;
    command.arg(test).arg(proxy.address.to_string());
    Ok(command)
}

/// Runs one test of grpc_client.py.
fn run(proxy: &Proxy, test: &str) -> Result<()> {
    Finished::run(&mut client(proxy, test)?, "")?.success()?;
    Ok(())
}

/// Unary, all streamings, deadlines, cancellation, 16 MiB, metadata: on one connection, without and with TLS.
#[test]
fn grpcio_calls_work() -> Result<()> {
    run(&proxy("")?, "all")?;
    let site = Site::shared();
    let identity = site
        .authority()
        .issue("grpc", "localhost", &["DNS:localhost", "IP:127.0.0.1"])?;
    let tls = format!(
        "tls: {{ certificates: [{{ cert: {}, key: {} }}] }}",
        identity.cert.display(),
        identity.key.display()
    );
    let proxy = proxy(&tls)?;
    Finished::run(client(&proxy, "all")?.arg(&site.authority().cert), "")?.success()?;
    Ok(())
}

#[test]
fn errors_of_the_proxy_are_grpc_errors() -> Result<()> {
    let site = Site::shared();
    let down = format!(
        "  - {{ name: down, protocol: h2, endpoints: [\"{}\"] }}",
        site.port()
    );
    run(
        &Proxy::with_clusters("", "      - { cluster: down }", &down)?,
        "unavailable",
    )?;
    let nothing = "      - { match: { host: nobody.test }, cluster: backend }";
    run(&Proxy::with_routes("", nothing)?, "unimplemented")
}

#[test]
fn routes_by_service_and_method() -> Result<()> {
    let grpc = format!(
        "  - {{ name: grpc, protocol: h2, endpoints: [\"{}\"] }}",
        Site::shared().grpc().address
    );
    let routes = "      - { match: { grpc: { service: weir.test.Echo, method: Unary } }, cluster: grpc }";
    let proxy = Proxy::with_clusters("", routes, &grpc)?;
    run(&proxy, "unary")?;
    let other = "      - { match: { grpc: { service: weir.test.Echo, method: Bidi } }, cluster: grpc }";
    run(&Proxy::with_clusters("", other, &grpc)?, "unimplemented")
}

#[test]
fn grpc_web_becomes_grpc() -> Result<()> {
    let proxy = proxy("grpc_web: true")?;
    let mut command = python(Site::shared(), "grpc_web.py")?;
    Finished::run(command.arg(format!("http://{}", proxy.address)), "")?.success()?;
    Ok(())
}

#[test]
fn ten_thousand_streams_are_open_at_a_time() -> Result<()> {
    let proxy = proxy("")?;
    run(&proxy, "many")?;
    let peak = proxy.weir.peak_memory()?;
    ensure!(peak < 512 << 20, "at most {peak} bytes of memory");
    Ok(())
}

#[test]
fn a_slow_reader_stalls_its_own_stream_alone() -> Result<()> {
    let proxy = proxy("")?;
    run(&proxy, "unary")?;
    let before = proxy.weir.memory()?;
    let mut child = client(&proxy, "slow_reader")?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    // It has had 200 answers beside the stream that it doesn't read.
    ensure!(
        lines.next().transpose()?.as_deref() == Some("stalled"),
        "the calls beside were answered"
    );
    let peak = proxy.weir.peak_memory()?;
    child.stdin.take().context("its input")?.write_all(b"go on\n")?;
    ensure!(child.wait()?.success(), "the rest came");
    let grown = peak.saturating_sub(before);
    ensure!(grown < 16 << 20, "64 MiB that nobody reads took {grown} bytes");
    Ok(())
}
