//! Datagrams that are larger than the MTU, with real clients and servers: every mode, both families, both directions.

use anyhow::{Context, Result, ensure};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};
use weir_tests::lab::{Daemon, DaemonConfig, DirectSite, Family, Host, Topology, distinct_bytes};

const ECHO: u16 = DirectSite::ECHO;

/// Bytes of datagrams: 3 and 14 fragments.
const SIZES: [usize; 2] = [4_000, 20_000];

/// Only a lost datagram takes that long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Times a datagram is sent: the first tells the client what fits through a tunnel.
const TRIES: usize = 3;

/// Who answers datagrams of all sizes, from one socket.
fn answerer(client: &Host, target: SocketAddr) -> Result<String> {
    let socket = client.run(|| -> io::Result<UdpSocket> {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(socket)
    })?;
    let mut names = Vec::new();
    for size in SIZES {
        let sent = distinct_bytes(size);
        let answer = (0..TRIES)
            .find_map(|_| ask(&socket, &sent).ok())
            .with_context(|| format!("{target} doesn't answer {size} bytes"))?;
        let name = answer
            .strip_suffix(sent.as_slice())
            .with_context(|| format!("{} bytes, and not those that were sent", answer.len()))?;
        names.push(String::from_utf8_lossy(name).trim().to_owned());
    }
    names.dedup();
    ensure!(names.len() == 1, "one flow, answered by {names:?}");
    Ok(names.remove(0))
}

fn ask(socket: &UdpSocket, bytes: &[u8]) -> io::Result<Vec<u8>> {
    // An error here is one of the packet before: it was too large.
    if socket.send(bytes).is_err() {
        socket.send(bytes)?;
    }
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[test]
fn nat() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(ECHO)?;
    let config = DaemonConfig::standard()
        .echo(&topology, Family::V4, ECHO)
        .echo(&topology, Family::V6, ECHO);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        let name = answerer(&topology.client, SocketAddr::new(family.vip(1), ECHO))?;
        ensure!(name.starts_with("backend-"), "{name}");
    }
    assert_eq!(daemon.drops("fragment")?, 0);
    Ok(())
}

/// The backend is on the balancer's host, whose own stack makes fragments of what it answers.
#[test]
fn nat_to_the_balancer_itself() -> Result<()> {
    let topology = Topology::new()?;
    let _server = topology.local_echo_server(ECHO)?;
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(1), ECHO);
        let endpoint = SocketAddr::new(family.balancer(), ECHO);
        let config = DaemonConfig::standard().service("here", "udp", vip, &[(endpoint, 1)]);
        let daemon = Daemon::start(&topology.balancer, &config)?;
        assert_eq!(answerer(&topology.client, vip)?, "balancer");
        assert_eq!(daemon.drops("fragment")?, 0);
    }
    Ok(())
}

#[test]
fn a_client_on_the_balancer() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(ECHO)?;
    let config = DaemonConfig::standard()
        .echo(&topology, Family::V4, ECHO)
        .echo(&topology, Family::V6, ECHO);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        let name = answerer(&topology.balancer, SocketAddr::new(family.vip(1), ECHO))?;
        ensure!(name.starts_with("backend-"), "{name}");
    }
    assert_eq!(daemon.drops("fragment")?, 0);
    Ok(())
}

/// The backend's stack puts together what came out of the tunnel in fragments.
#[test]
fn without_nat() -> Result<()> {
    let site = DirectSite::new()?;
    for (mode, vip, backends) in [
        ("ipip", Family::V4, Family::V4),
        ("ipip", Family::V6, Family::V6),
        ("ipip", Family::V6, Family::V4),
        ("gue", Family::V4, Family::V6),
        ("dsr-l2", Family::V4, Family::V4),
        ("dsr-l2", Family::V6, Family::V6),
    ] {
        let _daemon = site.balancer(mode, vip, backends)?;
        let before = site.decapsulated()?;
        let client = &site.topology.client;
        client.execute("ip route flush cache")?;
        let name = answerer(client, SocketAddr::new(vip.vip(1), ECHO))
            .with_context(|| format!("{mode}, {vip:?} by {backends:?}"))?;
        ensure!(name.starts_with("backend-"), "{name}");
        let through_tunnels = site.decapsulated()? - before;
        ensure!(
            (mode == "dsr-l2") == (through_tunnels == 0),
            "{mode}: {through_tunnels} packets came through tunnels"
        );
    }
    Ok(())
}

#[test]
fn none_where_none_is_to_be_followed() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(ECHO)?;
    let mut config = DaemonConfig::standard().echo(&topology, Family::V4, ECHO);
    config.value["kernel"]["max_fragments"] = 0.into();
    let mut daemon = Daemon::start(&topology.balancer, &config)?;
    let vip = SocketAddr::new(Family::V4.vip(1), ECHO);
    ensure!(answerer(&topology.client, vip).is_err(), "they were followed");
    ensure!(daemon.drops("fragment")? >= 3, "{}", daemon.drops("fragment")?);
    // A daemon that is to follow them makes room for them: the old map has none.
    daemon.stop()?;
    config.value["kernel"]["max_fragments"] = 1_000.into();
    daemon.write(&config)?;
    daemon.start_again()?;
    answerer(&topology.client, vip)?;
    Ok(())
}
