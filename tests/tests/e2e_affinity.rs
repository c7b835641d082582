//! Affinity with real clients: they stay where they are while endpoints change, and leave one that drains.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use weir_tests::lab::{Daemon, DaemonConfig, DirectSite, Family, Host, Nginx, Topology};

const WEB: u16 = DirectSite::WEB;

/// The client's addresses: each is a client of its own.
const CLIENTS: [&str; 2] = ["192.0.2.10", "192.0.2.11"];

/// Backends by their numbers, with weights.
fn config(mode: &str, backends: &[(usize, u32)]) -> DaemonConfig {
    let endpoint = |(n, weight): &(usize, u32)| (SocketAddr::new(Family::V4.backend(*n), WEB), *weight);
    let endpoints: Vec<_> = backends.iter().map(endpoint).collect();
    let vip = SocketAddr::new(Family::V4.vip(1), WEB);
    let mut config = DaemonConfig::standard().service("web", "tcp", vip, &endpoints);
    config.value["listeners"][0]["forward"]["mode"] = json!(mode);
    config.value["listeners"][0]["forward"]["affinity"] = json!({"timeout": "1h"});
    config
}

/// The number of the backend that serves this client, each time of some.
fn served_by(client: &Host, address: &str) -> Result<usize> {
    let url = format!("http://{}/", SocketAddr::new(Family::V4.vip(1), WEB));
    let mut found = None;
    for _ in 0..8 {
        let page = client.execute(&format!("curl -sS -m 10 --interface {address} {url}"))?;
        let number: usize = page.trim().trim_start_matches("backend-").parse().context(page)?;
        ensure!(
            found.is_none_or(|found| found == number),
            "{address} went from {found:?} to {number}"
        );
        found = Some(number);
    }
    found.map(|number| number - 1).context("never served")
}

/// What `weir flow` says of a new flow of this client.
fn told(daemon: &Daemon, address: &str) -> Result<Value> {
    let socket = daemon.admin().socket().to_string_lossy().into_owned();
    let vip = SocketAddr::new(Family::V4.vip(1), WEB).to_string();
    let client = format!("{address}:9");
    let shown = daemon.weir(&["flow", &client, &vip, "--json", "--socket", &socket])?;
    Ok(serde_json::from_str(&shown.success()?)?)
}

fn clients_stay(topology: &Topology, mode: &str) -> Result<()> {
    let client = &topology.client;
    let mut daemon = Daemon::start(&topology.balancer, &config(mode, &[(0, 1), (1, 1)]))?;
    let first = CLIENTS.map(|address| served_by(client, address));
    let [a, b] = first;
    let first = [a?, b?];
    // Nearly all new flows would go to the third by their hash.
    daemon.reload(&config(mode, &[(0, 1), (1, 1), (2, 1000)]))?;
    for (address, backend) in CLIENTS.iter().zip(first) {
        ensure!(
            served_by(client, address)? == backend,
            "{mode}: {address} left backend {backend} for one that came"
        );
        let told = told(&daemon, address)?;
        let address = SocketAddr::new(Family::V4.backend(backend), WEB);
        ensure!(
            told["goes_to"] == json!(address)
                && told["reason"]
                    .as_str()
                    .is_some_and(|text| text.contains("affinity"))
                && told["affinity"]["backend"]["address"] == json!(address),
            "{told}"
        );
    }
    daemon.kill();
    daemon.start_again()?;
    ensure!(
        served_by(client, CLIENTS[0])? == first[0],
        "{mode}: a restart moved a client"
    );
    daemon.drain("web", SocketAddr::new(Family::V4.backend(first[0]), WEB))?;
    daemon.wait_in_force()?;
    let second = served_by(client, CLIENTS[0])?;
    ensure!(second != first[0], "{mode}: a new flow to a backend that drains");
    if first[1] != first[0] {
        ensure!(
            served_by(client, CLIENTS[1])? == first[1],
            "{mode}: another backend's drain moved a client"
        );
    }
    Ok(())
}

#[test]
fn clients_stay_with_nat() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.ip("address add 192.0.2.11/24 dev eth0")?;
    let mut servers = Vec::new();
    for (n, host) in topology.backends.iter().enumerate() {
        servers.push(Nginx::start(
            host,
            &[SocketAddr::new(Family::V4.backend(n), WEB)],
        )?);
    }
    clients_stay(&topology, "nat")
}

#[test]
fn clients_stay_through_tunnels() -> Result<()> {
    let site = DirectSite::new()?;
    site.topology.client.ip("address add 192.0.2.11/24 dev eth0")?;
    clients_stay(&site.topology, "ipip")
}
