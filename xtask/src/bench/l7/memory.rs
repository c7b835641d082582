//! Memory and CPU time of a proxy that does nothing, and memory of one that holds idle TLS connections.

use super::{
    Bench,
    client::{self, Connector},
    job::{Kind, Routes},
    proxy::Proxy,
};
use crate::bench::report;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{net::SocketAddr, thread, time::Duration};
use tokio::net::TcpStream;

/// Idle connections.
const CONNECTIONS: usize = 2_000;

/// Connections that shake hands at the same time.
const AT_A_TIME: usize = 50;

/// How long a proxy that does nothing is watched.
const IDLE: Duration = Duration::from_secs(10);

/// Measures and prints a table.
///
/// # Errors
/// When a proxy doesn't answer, or closes an idle connection.
pub fn measure(bench: &Bench<'_>) -> Result<Value> {
    let mut rows = Vec::new();
    let mut json = json!({ "unit": "bytes (PSS)", "connections": CONNECTIONS });
    for (number, subject) in bench.arguments.subjects().into_iter().enumerate() {
        let Some(mut proxy) = bench.start(subject, Kind::Tls, Routes::ANY, bench.backends.http1, number)?
        else {
            continue;
        };
        // Whatever it does after its start is over by then, most likely.
        thread::sleep(Duration::from_secs(1));
        let before = proxy.cpu_seconds()?;
        thread::sleep(IDLE);
        let busy = (proxy.cpu_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
        let [idle, held] = one(bench, &proxy).with_context(|| subject.name().to_owned())?;
        let each = held.saturating_sub(idle) as f64 / CONNECTIONS as f64;
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        rows.push(vec![
            subject.name().to_owned(),
            mib(idle),
            mib(held),
            format!("{:.1}", each / 1024.0),
            format!("{busy:.2}"),
        ]);
        json[subject.name()] = json!({ "idle": idle, "with_connections": held, "each_connection": each, "idle_cpu_percent": busy });
    }
    println!(
        "Memory (PSS) idle, and with {CONNECTIONS} TLS connections that had a request each; CPU of one that is idle for {IDLE:?}"
    );
    report::table(
        &[
            "proxy",
            "idle MiB",
            "with connections MiB",
            "KiB a connection",
            "idle CPU %",
        ],
        &rows,
    );
    Ok(json)
}

/// Idle after a first request, and with the connections.
fn one(bench: &Bench<'_>, proxy: &Proxy) -> Result<[u64; 2]> {
    bench.generators.block_on(async {
        let connector = Connector::new()?;
        let first = connect(proxy.address, &connector).await?;
        let idle = proxy.memory_bytes()?;
        let mut held = vec![first];
        while held.len() < CONNECTIONS {
            let mut batch = Vec::new();
            for _ in 0..AT_A_TIME.min(CONNECTIONS - held.len()) {
                batch.push(tokio::task::spawn_local({
                    let connector = connector.clone();
                    let address = proxy.address;
                    async move { connect(address, &connector).await }
                }));
            }
            for connection in batch {
                held.push(connection.await??);
            }
        }
        let with_connections = proxy.memory_bytes()?;
        let request = client::request("localhost", "/");
        for connection in &mut held {
            client::exchange(connection, &request, &mut Vec::new()).await?;
        }
        Ok([idle, with_connections])
    })
}

async fn connect(
    to: SocketAddr,
    connector: &Connector,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let mut stream = connector.connect(stream).await?;
    client::exchange(&mut stream, &client::request("localhost", "/"), &mut Vec::new()).await?;
    Ok(stream)
}
