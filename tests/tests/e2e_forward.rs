//! Real clients reach real servers through a VIP: both families, both protocols, near and far.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use weir_tests::lab::{
    Daemon, DaemonConfig, EchoServer, Family, Host, Nginx, Protocol, Topology, ask_many, distinct_bytes,
    exchange, expect_datagram, until,
};

/// Where a backend runs.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// On a host of its own.
    Remote,
    /// On the balancer.
    Local,
}

impl Place {
    fn host(self, topology: &Topology) -> &Host {
        if self == Self::Remote {
            &topology.backends[0]
        } else {
            &topology.balancer
        }
    }

    fn address(self, family: Family, port: u16) -> SocketAddr {
        let address = if self == Self::Remote {
            family.backend(0)
        } else {
            family.balancer()
        };
        SocketAddr::new(address, port)
    }
}

/// A daemon whose VIP 1 leads, by TCP and UDP, to one backend at the same port.
fn one_backend(topology: &Topology, family: Family, place: Place, port: u16) -> Result<(Daemon, SocketAddr)> {
    let vip = SocketAddr::new(family.vip(1), port);
    let config = DaemonConfig::standard()
        .service("one", "tcp", vip, &[(place.address(family, port), 1)])
        .listener("one-udp", "udp", vip, "one");
    Ok((Daemon::start(&topology.balancer, &config)?, vip))
}

/// curl gets a page and a file of 8 MB by way of the VIP, and as much is sent and echoed.
fn curl_and_nginx(family: Family, place: Place, client: fn(&Topology) -> &Host) -> Result<()> {
    let topology = Topology::new()?;
    let server = place.host(&topology);
    let nginx = Nginx::start(server, &[place.address(family, 8080)])?;
    let _echo = EchoServer::start(server, server.name(), &[place.address(family, 7)])?;
    let content = distinct_bytes(8 << 20);
    nginx.serve("eight-megabytes", &content)?;
    let [vip, echo] = [8080, 7].map(|port| SocketAddr::new(family.vip(1), port));
    let config = DaemonConfig::standard()
        .service("web", "tcp", vip, &[(place.address(family, 8080), 1)])
        .service("echo", "tcp", echo, &[(place.address(family, 7), 1)]);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    let client = client(&topology);
    let page = client.execute(&format!("curl -sS -m 10 http://{vip}/"))?;
    assert_eq!(page.trim_end(), server.name());
    let received = topology.lab.directory().join("received");
    client.execute(&format!(
        "curl -sS -m 60 -o {} http://{vip}/files/eight-megabytes",
        received.display()
    ))?;
    ensure!(std::fs::read(&received)? == content, "the file arrived changed");
    exchange(client, echo, &content)?;
    let counted = daemon.backend_status("web", place.address(family, 8080))?;
    ensure!(
        counted["counters"]["flows"].as_u64() >= Some(2),
        "not by way of the balancer: {counted}"
    );
    Ok(())
}

#[test]
fn curl_gets_files_from_a_remote_nginx_over_ipv4() -> Result<()> {
    curl_and_nginx(Family::V4, Place::Remote, |topology| &topology.client)
}

#[test]
fn curl_gets_files_from_a_remote_nginx_over_ipv6() -> Result<()> {
    curl_and_nginx(Family::V6, Place::Remote, |topology| &topology.client)
}

#[test]
fn curl_gets_files_from_an_nginx_on_the_balancer_over_ipv4() -> Result<()> {
    curl_and_nginx(Family::V4, Place::Local, |topology| &topology.client)
}

#[test]
fn curl_gets_files_from_an_nginx_on_the_balancer_over_ipv6() -> Result<()> {
    curl_and_nginx(Family::V6, Place::Local, |topology| &topology.client)
}

#[test]
fn curl_on_the_balancer_gets_files_from_a_remote_nginx_over_ipv4() -> Result<()> {
    curl_and_nginx(Family::V4, Place::Remote, |topology| &topology.balancer)
}

#[test]
fn curl_on_the_balancer_gets_files_from_a_remote_nginx_over_ipv6() -> Result<()> {
    curl_and_nginx(Family::V6, Place::Remote, |topology| &topology.balancer)
}

#[test]
fn curl_and_nginx_both_on_the_balancer_over_ipv4() -> Result<()> {
    curl_and_nginx(Family::V4, Place::Local, |topology| &topology.balancer)
}

#[test]
fn curl_and_nginx_both_on_the_balancer_over_ipv6() -> Result<()> {
    curl_and_nginx(Family::V6, Place::Local, |topology| &topology.balancer)
}

#[test]
fn curl_on_a_backend_reaches_itself_by_the_vip_over_ipv4() -> Result<()> {
    curl_and_nginx(Family::V4, Place::Remote, |topology| &topology.backends[0])
}

#[test]
fn curl_on_a_backend_reaches_itself_by_the_vip_over_ipv6() -> Result<()> {
    curl_and_nginx(Family::V6, Place::Remote, |topology| &topology.backends[0])
}

fn socat_and_echo(family: Family, place: Place) -> Result<()> {
    let topology = Topology::new()?;
    let host = place.host(&topology);
    let server = EchoServer::start(host, host.name(), &[place.address(family, 7)])?;
    let (_daemon, vip) = one_backend(&topology, family, place, 7)?;
    for client in [&topology.client, &topology.balancer, &topology.backends[1]] {
        expect_datagram(client, vip, "a datagram", &format!("{}\na datagram", host.name()))?;
    }
    assert_eq!(server.datagrams(), 3);
    Ok(())
}

#[test]
fn socat_and_a_remote_udp_echo_over_ipv4() -> Result<()> {
    socat_and_echo(Family::V4, Place::Remote)
}

#[test]
fn socat_and_a_remote_udp_echo_over_ipv6() -> Result<()> {
    socat_and_echo(Family::V6, Place::Remote)
}

#[test]
fn socat_and_a_udp_echo_on_the_balancer_over_ipv4() -> Result<()> {
    socat_and_echo(Family::V4, Place::Local)
}

#[test]
fn socat_and_a_udp_echo_on_the_balancer_over_ipv6() -> Result<()> {
    socat_and_echo(Family::V6, Place::Local)
}

/// iperf3 opens a connection to steer and one for data; both must get to the same backend.
fn iperf3(family: Family, place: Place) -> Result<()> {
    let topology = Topology::new()?;
    let server = place.host(&topology);
    let address = place.address(family, 5201);
    let mut command = server.command("iperf3")?;
    command.args(["-s", "-B", &address.ip().to_string()]);
    let mut process = server.spawn(&mut command)?;
    until("iperf3", Duration::from_secs(60), || {
        let listening = server
            .execute("ss -Hltn sport = 5201")
            .is_ok_and(|shown| !shown.is_empty());
        (listening || process.ended().is_some()).then_some(())
    })?;
    process.check()?;
    let (_daemon, vip) = one_backend(&topology, family, place, 5201)?;
    let run = |options: &str| -> Result<Value> {
        let line = format!("iperf3 -J --connect-timeout 5000 -c {} {options}", vip.ip());
        // The server may still be busy with the run before.
        let mut refusal = None;
        let output = until("iperf3", Duration::from_secs(90), || {
            let tried = topology.client.execute(&line);
            tried.map_err(|error| refusal = Some(error)).ok()
        });
        let output = output.with_context(|| format!("{line}: {refusal:?}"))?;
        serde_json::from_str(&output).with_context(|| format!("{line} printed {output}"))
    };
    for direction in ["", "-R"] {
        let report = run(&format!("-n 32M {direction}"))?;
        let [sent, received] = ["sum_sent", "sum_received"].map(|sum| report["end"][sum]["bytes"].as_u64());
        // It stops to count at the end of sending: what is in flight then arrives uncounted.
        ensure!(sent >= Some(32 << 20), "TCP {direction}: {}", report["end"]);
        ensure!(received >= Some(16 << 20), "TCP {direction}: {}", report["end"]);
        let report = run(&format!("-u -b 8M -l 1000 -n 1M {direction}"))?;
        let sum = &report["end"]["sum"];
        ensure!(sum["packets"].as_u64() >= Some(1000), "UDP {direction}: {sum}");
        // A full socket buffer on a busy machine loses some; a wrong translation loses all.
        ensure!(
            sum["lost_percent"].as_f64() < Some(20.0),
            "UDP {direction}: {sum}"
        );
    }
    Ok(())
}

#[test]
fn iperf3_both_ways_with_a_remote_server() -> Result<()> {
    Family::BOTH
        .into_iter()
        .try_for_each(|family| iperf3(family, Place::Remote))
}

#[test]
fn iperf3_both_ways_with_a_server_on_the_balancer() -> Result<()> {
    Family::BOTH
        .into_iter()
        .try_for_each(|family| iperf3(family, Place::Local))
}

#[test]
fn several_services_vips_and_interfaces_at_once() -> Result<()> {
    let topology = Topology::new()?;
    let mut config = DaemonConfig::standard();
    let mut servers = Vec::new();
    // VIPs 1 to 3, ports 1001 and 1002, each leading to a backend and port of its own.
    let targets: Vec<_> = Family::BOTH
        .into_iter()
        .flat_map(|family| (0..3).flat_map(move |n| [1001, 1002].map(|port| (family, n, port))))
        .collect();
    for &(family, n, port) in &targets {
        let name = format!("{family}-{n}-{port}");
        let backend = SocketAddr::new(family.backend(n), port + 100);
        servers.push(EchoServer::start(&topology.backends[n], &name, &[backend])?);
        let vip = SocketAddr::new(family.vip(n as u8 + 1), port);
        config = config.service(&name, "tcp", vip, &[(backend, 1)]);
        config = config.listener(&format!("{name}-udp"), "udp", vip, &name);
    }
    let _daemon = Daemon::start(&topology.balancer, &config)?;
    // The client comes in by one interface, the backend as a client by the other.
    for client in [&topology.client, &topology.backends[2]] {
        for &(family, n, port) in &targets {
            let vip = SocketAddr::new(family.vip(n as u8 + 1), port);
            let name = format!("{family}-{n}-{port}");
            let attempts = ask_many(client, Protocol::Echo, vip, 2, 1);
            let names: BTreeSet<_> = attempts.into_iter().map(|attempt| attempt.answer).collect();
            assert_eq!(
                names,
                BTreeSet::from([Ok(name.clone())]),
                "TCP {vip} from {}",
                client.name()
            );
            expect_datagram(client, vip, "x", &format!("{name}\nx"))?;
        }
    }
    Ok(())
}

#[test]
fn a_client_on_the_balancer_whose_route_to_the_vip_is_lo() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(7)?;
    topology
        .balancer
        .ip("route add local 198.18.0.0/24 dev lo\nroute add local 2001:db8:18::/64 dev lo")?;
    // The VIP is one of the host's own addresses here, and comes in from backends as a source.
    topology.balancer.sysctl("net.ipv4.conf.all.accept_local", "1")?;
    let config = DaemonConfig::standard()
        .interface("lo", "off")
        .echo(&topology, Family::V4, 7)
        .echo(&topology, Family::V6, 7);
    let _daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(1), 7);
        for client in [&topology.balancer, &topology.client] {
            exchange(client, vip, &distinct_bytes(1 << 20))
                .with_context(|| format!("{family} from {}", client.name()))?;
        }
    }
    Ok(())
}

#[test]
fn generic_xdp_forwards_too() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(7)?;
    let config = DaemonConfig::standard()
        .xdp("generic")
        .echo(&topology, Family::V4, 7)
        .echo(&topology, Family::V6, 7);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(1), 7);
        let attempts = ask_many(&topology.client, Protocol::Echo, vip, 20, 2);
        let failed: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.answer.is_err())
            .collect();
        ensure!(failed.is_empty(), "{failed:?}");
    }
    let status = daemon.status()?;
    assert_eq!(status["kernel"]["interfaces"][0]["xdp"], "generic", "{status}");
    Ok(())
}

#[test]
fn what_is_not_for_a_vip_passes_untouched() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(7)?;
    let _local = topology.local_echo_server(7)?;
    let config = DaemonConfig::standard()
        .echo(&topology, Family::V4, 7)
        .echo(&topology, Family::V6, 7);
    let daemon = Daemon::start(&topology.balancer, &config)?;
    for family in Family::BOTH {
        for address in [family.backend(0), family.balancer()] {
            let target = SocketAddr::new(address, 7);
            let attempts = ask_many(&topology.client, Protocol::Echo, target, 2, 1);
            ensure!(
                attempts.iter().all(|attempt| attempt.answer.is_ok()),
                "{attempts:?}"
            );
            let long = "x".repeat(4000);
            // Fragments of the datagram and of its answer.
            let name = if address == family.balancer() {
                "balancer"
            } else {
                "backend-1"
            };
            expect_datagram(&topology.client, target, &long, &format!("{name}\n{long}"))?;
            topology
                .client
                .execute(&format!("ping -c 1 -W 5 -s 4000 {address}"))?;
            topology
                .client
                .execute(&format!("ping -c 1 -W 5 -t 5 {address}"))?;
        }
    }
    let status = daemon.status()?;
    let drops = status["kernel"]["drops"].as_array().context("drops")?;
    ensure!(drops.iter().all(|drop| drop["packets"] == 0), "{drops:?}");
    Ok(())
}
