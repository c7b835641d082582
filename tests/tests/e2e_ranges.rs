//! Services of several ports and addresses, with real clients and servers.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use weir_tests::lab::{
    Daemon, DaemonConfig, DirectSite, EchoServer, Family, Host, Nginx, Topology, exchange, expect_datagram,
};

/// What curl gets: the server's name, or its mistake.
fn get(client: &Host, address: SocketAddr) -> Result<String> {
    let page = client.execute(&format!("curl -sS -m 10 http://{address}/"))?;
    Ok(page.trim_end().to_owned())
}

/// An address and ports, as they stand in a config.
fn text(address: IpAddr, prefix: &str, ports: &str) -> String {
    match address {
        IpAddr::V4(v4) => format!("{v4}{prefix}:{ports}"),
        IpAddr::V6(v6) => format!("[{v6}{prefix}]:{ports}"),
    }
}

fn forward(name: &str, address: &str, protocol: &str, cluster: &str, mode: &str) -> Value {
    let forward = json!({ "cluster": cluster, "mode": mode, "table_size": 251 });
    json!({ "name": name, "address": address, "protocol": protocol, "forward": forward })
}

fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    json!({ "name": name, "endpoints": endpoints })
}

/// The ports a range has lead to the same ports of the backend, or to one; what is next to it leads nowhere.
#[test]
fn a_range_of_ports_leads_to_the_same_ports_or_to_one() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let (client, [first, second, ..]) = (&topology.client, &topology.backends[..]) else {
            anyhow::bail!("two backends");
        };
        let at = |n: usize, port| SocketAddr::new(family.backend(n), port);
        let _first = Nginx::start(first, &[at(0, 8000), at(0, 8007)])?;
        let _second = Nginx::start(second, &[at(1, 80)])?;
        let vip = family.vip(1);
        let mut config = DaemonConfig::standard();
        config.value["listeners"] = json!([
            forward("same", &text(vip, "", "8000-8009"), "tcp", "same", "nat"),
            forward("one", &text(vip, "", "9000-9999"), "tcp", "one", "nat"),
            forward("within", &text(vip, "", "9500"), "tcp", "same-first", "nat"),
        ]);
        config.value["clusters"] = json!([
            cluster("same", &[at(0, 0)]),
            cluster("one", &[at(1, 80)]),
            cluster("same-first", &[at(0, 8000)]),
        ]);
        let daemon = Daemon::start(&topology.balancer, &config)?;
        for (port, server) in [
            (8000, first),
            (8007, first),
            (9000, second),
            (9499, second),
            (9500, first),
            (9999, second),
        ] {
            let got = get(client, SocketAddr::new(vip, port))?;
            ensure!(got == server.name(), "port {port}: {got}");
        }
        let status = daemon.status()?;
        let shown = status["services"][0]["address"].as_str().unwrap_or_default();
        ensure!(shown == text(vip, "", "8000-8009"), "{status:#}");
        ensure!(status["services"][0]["counters"]["flows"] == 2, "{status:#}");
        let socket = daemon.admin().socket().to_string_lossy().into_owned();
        let (from, to) = (SocketAddr::new(family.client(), 4000), SocketAddr::new(vip, 9001));
        let arguments = [
            "flow",
            &from.to_string(),
            &to.to_string(),
            "--json",
            "--socket",
            &socket,
        ];
        let flow: Value = serde_json::from_str(&daemon.weir(&arguments)?.success()?)?;
        ensure!(flow["service"] == "one", "{flow:#}");
        // Nobody listens there, and nothing answers in its place.
        let beyond = SocketAddr::new(vip, 8010);
        ensure!(get(client, beyond).is_err(), "{beyond} answers");
        // The range shrinks under the daemon.
        config.value["listeners"][0]["address"] = json!(text(vip, "", "8000-8003"));
        daemon.reload(&config)?;
        ensure!(get(client, SocketAddr::new(vip, 8007)).is_err(), "still there");
        ensure!(get(client, SocketAddr::new(vip, 8000))? == first.name());
    }
    Ok(())
}

/// All ports of a VIP are forwarded but the one that a listener with routes has.
#[test]
fn a_whole_vip_leaves_the_ports_of_l7_listeners_to_them() -> Result<()> {
    let topology = Topology::new()?;
    let family = Family::V4;
    let backend = &topology.backends[0];
    let at = |port| SocketAddr::new(family.backend(0), port);
    let _nginx = Nginx::start(backend, &[at(8080), at(8443)])?;
    let _echo = EchoServer::start(backend, backend.name(), &[at(7)])?;
    let vip = family.vip(1);
    let mut config = DaemonConfig::standard();
    config.value["listeners"] = json!([
        forward("all", &text(vip, "", "0"), "tcp", "same", "nat"),
        { "name": "web", "address": text(vip, "", "8443"), "routes": [{ "respond": { "status": 200, "body": "from the daemon\n" } }] },
    ]);
    config.value["clusters"] = json!([cluster("same", &[at(0)])]);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    let client = &topology.client;
    ensure!(get(client, SocketAddr::new(vip, 8080))? == backend.name());
    ensure!(get(client, SocketAddr::new(vip, 8443))? == "from the daemon");
    exchange(client, SocketAddr::new(vip, 7), b"to a third port")?;
    // Without the listener the port is one of all.
    config.value["listeners"].as_array_mut().map(Vec::pop);
    daemon.reload(&config)?;
    ensure!(get(client, SocketAddr::new(vip, 8443))? == backend.name());
    Ok(())
}

/// Every address of a prefix is a VIP: TCP and UDP through a tunnel, and ping.
#[test]
fn a_prefix_of_vips_by_direct_server_return() -> Result<()> {
    let site = DirectSite::new()?;
    let family = Family::V4;
    let vip = family.vip(1);
    let IpAddr::V4(first) = vip else {
        anyhow::bail!("an IPv4 address");
    };
    let network = IpAddr::V4((first.to_bits() & !7).into());
    let endpoints = [0, 1].map(|n| SocketAddr::new(DirectSite::address(n, 0).into(), 0));
    let mut config = DaemonConfig::standard();
    config.value["listeners"] = json!([
        forward("all-tcp", &text(network, "/29", "0"), "tcp", "backends", "ipip"),
        forward("echo-udp", &text(network, "/29", "7"), "udp", "backends", "gue"),
    ]);
    config.value["clusters"] = json!([cluster("backends", &endpoints)]);
    let daemon = Daemon::start(&site.topology.balancer, &config)?;
    let client = &site.topology.client;
    let names: Vec<&str> = site.topology.backends.iter().map(Host::name).collect();
    let got = get(client, SocketAddr::new(vip, DirectSite::WEB))?;
    ensure!(names.contains(&got.as_str()), "{got}");
    exchange(client, SocketAddr::new(vip, DirectSite::ECHO), b"hello")?;
    let counted = |service: usize| -> Result<u64> {
        Ok(daemon.status()?["services"][service]["counters"]["packets"]
            .as_u64()
            .unwrap_or(0))
    };
    let before = counted(1)?;
    exchange_datagram(client, SocketAddr::new(vip, DirectSite::ECHO), &names)?;
    ensure!(counted(1)? > before, "UDP went another way");
    // No server needs to have the address: the balancer answers for all of the prefix.
    let other = IpAddr::V4((first.to_bits() ^ 6).into());
    client.execute(&format!("ping -c 1 -W 5 {other}"))?;
    Ok(())
}

/// A backend has all addresses of a prefix too, as it is written.
#[test]
fn a_backend_serves_a_prefix_of_vips() -> Result<()> {
    let mut site = DirectSite::new()?;
    let IpAddr::V4(first) = Family::V4.vip(1) else {
        anyhow::bail!("an IPv4 address");
    };
    let prefix = format!("{}/29", std::net::Ipv4Addr::from_bits(first.to_bits() & !7));
    let other = IpAddr::V4((first.to_bits() ^ 6).into());
    let mut config = DirectSite::backend_config();
    config.value["decap"]["vips"] = json!([prefix]);
    site.backends[0].stop()?;
    site.backends[0].write(&config)?;
    site.backends[0].start_again()?;
    let host = &site.topology.backends[0];
    let server = SocketAddr::new(other, 8081);
    let _nginx = Nginx::start(host, &[server])?;
    let endpoint = SocketAddr::new(DirectSite::address(0, 0).into(), 0);
    let mut config = DaemonConfig::standard();
    let address = format!("{prefix}:0");
    config.value["listeners"] = json!([forward("all-tcp", &address, "tcp", "backend", "ipip")]);
    config.value["clusters"] = json!([cluster("backend", &[endpoint])]);
    let _daemon = Daemon::start(&site.topology.balancer, &config)?;
    ensure!(get(&site.topology.client, server)? == host.name());
    // What is not in the config any more goes with the next start.
    site.backends[0].stop()?;
    site.backends[0].write(&DirectSite::backend_config())?;
    site.backends[0].start_again()?;
    let left = site.topology.backends[0].execute("ip -o address show dev lo")?;
    ensure!(!left.contains(&format!("{other}/")), "{left}");
    Ok(())
}

/// A datagram is answered by one of the servers. Each attempt is a flow of its own, to a backend that nobody knows beforehand: one
/// of many gets the answer that is expected of it.
fn exchange_datagram(client: &Host, vip: SocketAddr, names: &[&str]) -> Result<()> {
    const ATTEMPTS: usize = 40;
    let mut attempts = names.iter().cycle().take(ATTEMPTS);
    let answered = |name: &&str| expect_datagram(client, vip, "hello", &format!("{name}\nhello")).is_ok();
    ensure!(attempts.any(answered), "no answer from {vip}");
    Ok(())
}
