//! Direct server return with real clients and servers: every mode, every mix of families, and what doesn't fit.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    io::Read,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};
use weir_tests::lab::{
    Daemon, DirectSite, EchoServer, Family, Host, distinct_bytes, exchange, expect_any_backend, until,
};

/// Where the backends' servers listen, and the balancer's services are.
const WEB: u16 = DirectSite::WEB;
const ECHO: u16 = DirectSite::ECHO;
const WHO: u16 = DirectSite::WHO;

/// The address that a server at [`WHO`] sees.
fn seen_by_server(client: &Host, vip: IpAddr) -> Result<String> {
    let text = client.run(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, WHO), Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    // socat shows IPv4 as mapped, and IPv6 in full and in brackets.
    let address: IpAddr = text
        .trim()
        .trim_matches(['[', ']'])
        .parse()
        .context(text.clone())?;
    Ok(match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
    .to_string())
}

/// Pages, files both ways, datagrams, and the client's own address at the server.
fn everything_arrives(mode: &str, vip: Family, backends: Family) -> Result<()> {
    let site = DirectSite::new()?;
    let daemon = site.balancer(mode, vip, backends)?;
    let client = &site.topology.client;
    let address = vip.vip(1);
    for _ in 0..8 {
        let url = format!("http://{}/", SocketAddr::new(address, WEB));
        let page = client.execute(&format!("curl -sS -m 10 {url}"))?;
        ensure!(page.starts_with("backend-"), "{page}");
    }
    // Up, where the tunnel is: full-sized segments, which the path's MTU makes smaller; and down, past the balancer.
    exchange(client, SocketAddr::new(address, ECHO), &distinct_bytes(4 << 20))?;
    ensure!(
        seen_by_server(client, address)? == vip.client().to_string(),
        "the server sees {}",
        seen_by_server(client, address)?
    );
    expect_any_backend(client, SocketAddr::new(address, ECHO), "a datagram")?;
    let status = daemon.status()?;
    let counters = &status["services"][0]["counters"];
    ensure!(
        counters["flows"].as_u64() >= Some(8),
        "not by way of the balancer: {status}"
    );
    ensure!(
        counters["reply_packets"].as_u64() == Some(0),
        "answers came by way of the balancer: {status}"
    );
    let through_tunnels = site.decapsulated()?;
    ensure!(
        (mode == "dsr-l2") == (through_tunnels == 0),
        "{through_tunnels} packets came through tunnels"
    );
    Ok(())
}

#[test]
fn ipip_4in4() -> Result<()> {
    everything_arrives("ipip", Family::V4, Family::V4)
}

#[test]
fn ipip_6in6() -> Result<()> {
    everything_arrives("ipip", Family::V6, Family::V6)
}

#[test]
fn ipip_4in6() -> Result<()> {
    everything_arrives("ipip", Family::V4, Family::V6)
}

#[test]
fn ipip_6in4() -> Result<()> {
    everything_arrives("ipip", Family::V6, Family::V4)
}

#[test]
fn gue_over_ipv4() -> Result<()> {
    everything_arrives("gue", Family::V4, Family::V4)?;
    everything_arrives("gue", Family::V6, Family::V4)
}

#[test]
fn gue_over_ipv6() -> Result<()> {
    everything_arrives("gue", Family::V6, Family::V6)?;
    everything_arrives("gue", Family::V4, Family::V6)
}

#[test]
fn dsr_l2_over_ipv4() -> Result<()> {
    everything_arrives("dsr-l2", Family::V4, Family::V4)
}

#[test]
fn dsr_l2_over_ipv6() -> Result<()> {
    everything_arrives("dsr-l2", Family::V6, Family::V6)
}

/// The route's MTU that the client has learned.
fn path_mtu(client: &Host, vip: IpAddr) -> Result<Option<u32>> {
    let shown = client.execute(&format!("ip route get {vip}"))?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).and_then(|mtu| mtu.parse().ok()))
}

/// 1,500 bytes don't fit through a tunnel in 1,500: the client is told, and learns what does.
#[test]
fn a_client_learns_what_fits_through_the_tunnel() -> Result<()> {
    let site = DirectSite::new()?;
    for (mode, vip, backends, expected) in [
        ("ipip", Family::V4, Family::V4, 1480),
        ("gue", Family::V4, Family::V6, 1452),
        ("ipip", Family::V6, Family::V6, 1460),
    ] {
        let daemon = site.balancer(mode, vip, backends)?;
        let client = &site.topology.client;
        client.execute("ip route flush cache")?;
        let address = vip.vip(1);
        exchange(client, SocketAddr::new(address, ECHO), &distinct_bytes(1 << 20))?;
        assert_eq!(path_mtu(client, address)?, Some(expected), "{mode}");
        ensure!(daemon.drops("mtu_exceeded")? > 0, "{mode}: nothing was too large");
    }
    Ok(())
}

/// On a network with room for the outer headers clients' full-sized packets pass whole.
#[test]
fn with_room_on_the_segment_1500_bytes_pass() -> Result<()> {
    let site = DirectSite::new()?;
    let topology = &site.topology;
    for port in ["balancer", "router", "backend-1", "backend-2", "backend-3", "br0"] {
        topology.segment.ip(&format!("link set dev {port} mtu 1600"))?;
    }
    topology.balancer.ip("link set dev back mtu 1600")?;
    for host in &topology.backends {
        host.ip("link set dev eth0 mtu 1600")?;
        // What goes to clients is as large as they can take.
        host.ip("route replace default via 203.0.113.2 mtu 1500
            route replace default via 2001:db8:113::2 mtu 1500")?;
    }
    for (mode, vip, backends) in [
        ("ipip", Family::V4, Family::V4),
        ("gue", Family::V6, Family::V6),
        ("ipip", Family::V4, Family::V6),
    ] {
        let daemon = site.balancer(mode, vip, backends)?;
        let client = &topology.client;
        client.execute("ip route flush cache")?;
        let address = vip.vip(1);
        exchange(client, SocketAddr::new(address, ECHO), &distinct_bytes(1 << 20))?;
        assert_eq!(path_mtu(client, address)?, None, "{mode}");
        assert_eq!(daemon.drops("mtu_exceeded")?, 0, "{mode}");
    }
    Ok(())
}

/// traceroute's way to the balancer and behind it: a packet whose TTL ends there is answered.
#[test]
fn a_ttl_that_ends_at_the_balancer_is_answered() -> Result<()> {
    let site = DirectSite::new()?;
    let _daemon = site.balancer("ipip", Family::V4, Family::V4)?;
    let client = &site.topology.client;
    let vip = Family::V4.vip(1);
    // Router, then balancer.
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)\n\
         s.setsockopt(socket.IPPROTO_IP, 11, 1)\n\
         s.settimeout(10)\n\
         s.connect(('{vip}', {ECHO}))\n\
         s.send(b'x')\n\
         import select\n\
         select.select([], [], [s], 10)\n\
         try:\n    s.recv(10)\nexcept OSError as e:\n    print(e.errno)\n"
    );
    let file = site.topology.lab.directory().join("ttl.py");
    std::fs::write(&file, script)?;
    let shown = client.execute(&format!("python3 {}", file.display()))?;
    // EHOSTUNREACH: what Linux makes of "time exceeded".
    ensure!(shown.trim() == "113", "{shown}");
    Ok(())
}

/// A client on the balancer itself: what it sends to the VIP leaves in a tunnel, or with the backend's MAC address.
#[test]
fn a_client_on_the_balancer_reaches_backends_in_every_mode() -> Result<()> {
    let site = DirectSite::new()?;
    for (mode, vip, backends) in [
        ("ipip", Family::V4, Family::V4),
        ("ipip", Family::V6, Family::V4),
        ("gue", Family::V4, Family::V6),
        ("gue", Family::V6, Family::V6),
        ("dsr-l2", Family::V4, Family::V4),
        ("dsr-l2", Family::V6, Family::V6),
    ] {
        let daemon = site.balancer(mode, vip, backends)?;
        let client = &site.topology.balancer;
        let address = vip.vip(1);
        for _ in 0..4 {
            let url = format!("http://{}/", SocketAddr::new(address, WEB));
            let page = client.execute(&format!("curl -sS -m 10 {url}"));
            let page = page.with_context(|| format!("{mode} {vip} {backends}"))?;
            ensure!(page.starts_with("backend-"), "{page}");
        }
        let status = daemon.status()?;
        let counters = &status["services"][0]["counters"];
        // The first packet to a backend whose MAC address isn't known yet may pass the program twice.
        let flows = counters["flows"].as_u64().unwrap_or_default();
        ensure!((4..=4 + 3).contains(&flows), "{mode}: {status}");
    }
    Ok(())
}

/// A backend's server is well, and the end of its tunnel is not: only a probe that goes the way of clients' packets sees it.
#[test]
fn health_checks_go_the_way_of_clients_packets() -> Result<()> {
    for (mode, vip, backends) in [
        ("ipip", Family::V4, Family::V6),
        ("gue", Family::V6, Family::V4),
        ("dsr-l2", Family::V4, Family::V4),
    ] {
        let mut site = DirectSite::new()?;
        // The same port at the backend's own address, which a direct probe would ask.
        let own = SocketAddr::new(backends.backend(1), WEB);
        let _direct = EchoServer::start(&site.topology.backends[1], "direct", &[own])?;
        let config = site.config(mode, vip, backends).health_check("web", "100ms");
        let daemon = Daemon::start(&site.topology.balancer, &config)?;
        let state = |n: usize, wanted: &str| {
            let address = SocketAddr::new(backends.backend(n), WEB);
            until(
                &format!("{mode}: backend {n} {wanted}"),
                Duration::from_secs(20),
                || {
                    let status = daemon.backend_status("web", address).ok()?;
                    (status["state"] == wanted).then_some(())
                },
            )
        };
        for n in 0..3 {
            state(n, "healthy")?;
        }
        // Its VIP goes, and with it what tunnels brought.
        site.backends[1].kill();
        site.backends[1].unload()?;
        state(1, "unhealthy")?;
        state(0, "healthy")?;
        let address = SocketAddr::new(backends.backend(1), WEB);
        let status = daemon.backend_status("web", address)?;
        let error = status["health"]["last_error"].as_str().unwrap_or_default();
        ensure!(error.contains(&vip.vip(1).to_string()), "{error}");
        // And comes back.
        site.backends[1].start_again()?;
        state(1, "healthy")?;
    }
    Ok(())
}

/// `weir flow` before and after a drain: the slot moves, and says from whom.
#[test]
fn weir_flow_tells_of_moving_slots() -> Result<()> {
    let site = DirectSite::new()?;
    let daemon = site.balancer("ipip", Family::V4, Family::V4)?;
    let vip = SocketAddr::new(Family::V4.vip(1), WEB).to_string();
    let socket = daemon.admin().socket().to_string_lossy().into_owned();
    let client = format!("{}:40000", Family::V4.client());
    let ask = || -> Result<Value> {
        let shown = daemon
            .weir(&["flow", &client, &vip, "--json", "--socket", &socket])?
            .success()?;
        Ok(serde_json::from_str(&shown)?)
    };
    let before = ask()?;
    ensure!(
        before["slot"]["state"] == "plain" && before["entry"].is_null(),
        "{before}"
    );
    let backend: SocketAddr = before["goes_to"].as_str().context("nowhere")?.parse()?;
    daemon.drain("web", backend)?;
    let after = ask()?;
    ensure!(
        after["slot"]["state"] == "moving" && after["slot"]["previous"]["address"] == before["goes_to"],
        "{after}"
    );
    ensure!(
        after["goes_to"] == before["goes_to"],
        "a flow that runs has moved: {after}"
    );
    ensure!(
        after["slot"]["backend"]["address"] != before["goes_to"],
        "{after}"
    );
    Ok(())
}
