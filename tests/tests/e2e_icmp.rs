//! ICMP by way of a VIP: pings, errors that must find the right end, path MTU; and neighbours.

use anyhow::{Context, Result, ensure};
use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};
use weir_tests::lab::{
    Daemon, DaemonConfig, EchoServer, Family, Host, Nginx, Protocol, Topology, ask_many, distinct_bytes,
    exchange,
};

/// More than any answer takes here.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_vip_answers_pings() -> Result<()> {
    let topology = Topology::new()?;
    let config = DaemonConfig::standard()
        .echo(&topology, Family::V4, 7)
        .echo(&topology, Family::V6, 7);
    let _daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        for host in [&topology.client, &topology.backends[0]] {
            for size in [0, 56, 1400] {
                host.execute(&format!("ping -c 2 -i 0.01 -W 5 -s {size} {}", family.vip(1)))?;
            }
        }
        let other = topology
            .client
            .try_execute(&format!("ping -c 1 -W 1 {}", family.vip(9)))?;
        ensure!(!other.status.success(), "an address that is no VIP answers");
    }
    Ok(())
}

/// What a connected UDP socket reads after it has sent to a port.
fn udp_answer(client: &Host, target: SocketAddr) -> io::Result<usize> {
    client.run(|| {
        let any: IpAddr = if target.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect(target)?;
        socket.send(b"anyone?")?;
        socket.recv(&mut [0; 64])
    })
}

#[test]
fn a_closed_backend_port_refuses_the_client() -> Result<()> {
    let topology = Topology::new()?;
    let mut config = DaemonConfig::standard();
    for family in Family::BOTH {
        for (n, backend) in [(1, family.backend(0)), (2, family.balancer())] {
            let vip = SocketAddr::new(family.vip(n), 9);
            let name = format!("{family}-{n}");
            config = config.service(&name, "tcp", vip, &[(SocketAddr::new(backend, 9), 1)]);
            config = config.listener(&format!("{name}-udp"), "udp", vip, &name);
        }
    }
    let _daemon = Daemon::start(&topology.balancer, &config)?;
    for client in [&topology.client, &topology.balancer] {
        for family in Family::BOTH {
            for n in [1, 2] {
                let vip = SocketAddr::new(family.vip(n), 9);
                let refused = udp_answer(client, vip).map_err(|error| error.kind());
                assert_eq!(
                    refused,
                    Err(io::ErrorKind::ConnectionRefused),
                    "UDP {vip} from {}",
                    client.name()
                );
                let refused = client.run(|| TcpStream::connect_timeout(&vip, LIMIT).map(drop));
                let refused = refused.map_err(|error| error.kind());
                assert_eq!(
                    refused,
                    Err(io::ErrorKind::ConnectionRefused),
                    "TCP {vip} from {}",
                    client.name()
                );
            }
        }
    }
    Ok(())
}

/// The path MTU that a host has learned towards an address.
fn learned_mtu(host: &Host, address: IpAddr) -> Result<Option<u32>> {
    let shown = host.execute(&format!("ip route get {address}"))?;
    let words: Vec<_> = shown.split_whitespace().collect();
    let mtu = words
        .windows(2)
        .find(|pair| pair[0] == "mtu")
        .map(|pair| pair[1].parse());
    mtu.transpose().with_context(|| shown.clone())
}

#[test]
fn a_small_link_near_the_client_reaches_the_backends_stack() -> Result<()> {
    for family in Family::BOTH {
        for is_local in [false, true] {
            let topology = Topology::new()?;
            let host = if is_local {
                &topology.balancer
            } else {
                &topology.backends[0]
            };
            let address = if is_local {
                family.balancer()
            } else {
                family.backend(0)
            };
            let backend = SocketAddr::new(address, 8080);
            let nginx = Nginx::start(host, &[backend])?;
            nginx.serve("megabyte", &vec![b'x'; 1 << 20])?;
            let vip = SocketAddr::new(family.vip(1), 80);
            let config = DaemonConfig::standard().service("web", "tcp", vip, &[(backend, 1)]);
            let _daemon = Daemon::start(&topology.balancer, &config)?;
            // The client's own end stays at 1500, so that the backend hears of an MSS that is too large.
            topology.router.ip("link set dev clients mtu 1400")?;
            let line =
                format!("curl -sS -m 30 -o /dev/null -w %{{size_download}} http://{vip}/files/megabyte");
            assert_eq!(
                topology.client.execute(&line)?,
                (1 << 20).to_string(),
                "{family} {is_local}"
            );
            // NAT towards a backend on this host keeps the client's address.
            let peer = if is_local {
                family.client()
            } else {
                family.balancer()
            };
            assert_eq!(learned_mtu(host, peer)?, Some(1400), "{family} {is_local}");
        }
    }
    Ok(())
}

#[test]
fn a_small_link_near_the_backend_reaches_the_clients_stack() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        // backend-1 routes to a backend farther away over a link that is smaller than that one knows.
        let hop = &topology.backends[0];
        let far = topology.lab.host("far")?;
        hop.connect("far", &far, "eth0")?;
        hop.forward()?;
        hop.ip("address add 198.19.0.1/24 dev far
            address add 2001:db8:19::1/64 dev far nodad
            link set dev far mtu 1300")?;
        // What it sends fits, but it asks for segments that don't.
        far.ip("address add 198.19.0.2/24 dev eth0
            address add 2001:db8:19::2/64 dev eth0 nodad
            route add default via 198.19.0.1 mtu 1300 advmss 1460
            route add default via 2001:db8:19::1 mtu 1300 advmss 1440")?;
        topology.balancer.ip("route add 198.19.0.0/24 via 203.0.113.11
            route add 2001:db8:19::/64 via 2001:db8:113::b")?;
        let backend: SocketAddr = if family == Family::V4 {
            "198.19.0.2:7"
        } else {
            "[2001:db8:19::2]:7"
        }
        .parse()?;
        let _server = EchoServer::start(&far, "far", &[backend])?;
        let vip = SocketAddr::new(family.vip(1), 7);
        let config = DaemonConfig::standard().service("far", "tcp", vip, &[(backend, 1)]);
        let _daemon = Daemon::start(&topology.balancer, &config)?;
        exchange(&topology.client, vip, &distinct_bytes(1 << 20)).with_context(|| family.to_string())?;
        assert_eq!(
            learned_mtu(&topology.client, family.vip(1))?,
            Some(1300),
            "{family}"
        );
    }
    Ok(())
}

/// How many SYNs the host has sent again.
fn repeated_syns(host: &Host) -> Result<u64> {
    // Not /proc/net: that is the main thread's.
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/netstat"))?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let [names, values] = lines.get(..2).context("netstat begins with TcpExt")? else {
        unreachable!("two lines were asked for")
    };
    let mut pairs = names.iter().zip(values);
    let (_, value) = pairs
        .find(|(name, _)| **name == "TCPSynRetrans")
        .context("no TCPSynRetrans")?;
    Ok(value.parse()?)
}

#[test]
fn an_unresolved_neighbour_loses_nothing() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(7)?;
    let config = DaemonConfig::standard()
        .echo(&topology, Family::V4, 7)
        .echo(&topology, Family::V6, 7);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(1), 7);
        for round in 0..5 {
            topology.balancer.ip("neighbour flush all")?;
            let attempts = ask_many(&topology.client, Protocol::Echo, vip, 1, 1);
            ensure!(attempts[0].answer.is_ok(), "{family} round {round}: {attempts:?}");
            topology.balancer.ip("neighbour flush all")?;
            let answered = udp_answer(&topology.client, vip);
            ensure!(answered.is_ok(), "{family} round {round}: {answered:?}");
        }
    }
    assert_eq!(repeated_syns(&topology.client)?, 0);
    assert_eq!(daemon.drops("neighbour_unresolved")?, 0);
    Ok(())
}
