//! A real client and a real server over tagged frames, balanced on one interface.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use weir_tests::lab::{Daemon, DaemonConfig, EchoServer, Host, Lab, Nginx, VlanTags, Wire, expect_datagram};

/// Client, balancer and backend on one bridge; the client's and the backend's frames are tagged
/// on it, and the balancer, which has one untagged interface there, must keep the tags.
struct Tagged {
    client_wire: Wire,
    backend_wire: Wire,
    client: Host,
    backend: Host,
    balancer: Host,
    /// Keeps the hosts.
    _lab: Lab,
}

impl Tagged {
    fn new(tags: &VlanTags) -> Result<Self> {
        let lab = Lab::new()?;
        let segment = lab.host("segment")?;
        segment.ip("link add br0 type bridge mcast_snooping 0\nlink set dev br0 up")?;
        let [client, backend, balancer] = [lab.host("client")?, lab.host("backend")?, lab.host("balancer")?];
        balancer.connect("eth0", &segment, "balancer")?;
        segment.take_xdp_tx("balancer")?;
        let client_wire = Wire::connect(&client, "eth0", &segment, "client", tags)?;
        let backend_wire = Wire::connect(&backend, "eth0", &segment, "backend", tags)?;
        for port in ["balancer", "client", "backend"] {
            segment.ip(&format!("link set dev {port} master br0"))?;
        }
        // The bridge's other links have room for one tag beyond 1500 bytes.
        for host in [&client, &backend] {
            host.ip("link set dev eth0 mtu 1496")?;
        }
        let all = [(&balancer, 1), (&client, 10), (&backend, 11)];
        for (host, last) in all {
            host.ip(&format!(
                "address add 192.0.2.{last}/24 dev eth0\naddress add 2001:db8:2::{last}/64 dev eth0"
            ))?;
            // The balancer's stack knows no tags, so nobody can ask or answer for addresses.
            for (other, last) in all.into_iter().filter(|(_, other)| *other != last) {
                let mac = other.mac("eth0")?;
                host.ip(&format!(
                    "neighbour add 192.0.2.{last} lladdr {mac} dev eth0
                    neighbour add 2001:db8:2::{last} lladdr {mac} dev eth0"
                ))?;
            }
        }
        client.ip("route add 198.18.0.0/24 via 192.0.2.1\nroute add 2001:db8:18::/64 via 2001:db8:2::1")?;
        balancer.forward()?;
        Ok(Self {
            client_wire,
            backend_wire,
            client,
            backend,
            balancer,
            _lab: lab,
        })
    }

    fn curl_and_socat(&self) -> Result<()> {
        let pairs = [
            ("192.0.2.11", "198.18.0.1", "UDP4"),
            ("[2001:db8:2::11]", "[2001:db8:18::1]", "UDP6"),
        ];
        let mut config = DaemonConfig::new(&["eth0"]);
        let mut servers = Vec::new();
        for (backend, vip, kind) in pairs {
            let [web, echo]: [SocketAddr; 2] =
                [format!("{backend}:80").parse()?, format!("{backend}:7").parse()?];
            let nginx = Nginx::start(&self.backend, &[web])?;
            nginx.serve("megabyte", &vec![b'x'; 1 << 20])?;
            servers.push((nginx, EchoServer::start(&self.backend, "backend", &[echo])?));
            config = config.service(
                &format!("web-{kind}"),
                "tcp",
                format!("{vip}:80").parse()?,
                &[(web, 1)],
            );
            config = config.service(
                &format!("echo-{kind}"),
                "udp",
                format!("{vip}:7").parse()?,
                &[(echo, 1)],
            );
        }
        let _daemon = Daemon::start(&self.balancer, &config)?;
        for (_, vip, _) in pairs {
            let file = self
                .client
                .execute(&format!("curl -sS -m 30 http://{vip}/files/megabyte"))?;
            assert_eq!(file.len(), 1 << 20);
            expect_datagram(&self.client, format!("{vip}:7").parse()?, "x", "backend\nx")?;
            self.client
                .execute(&format!("ping -c 1 -W 5 {}", vip.trim_matches(['[', ']'])))?;
        }
        // Two files of a megabyte are 1,400 frames; the way back has acknowledgements, not one a frame.
        ensure!(
            self.client_wire.tagged() > 1000,
            "{} tagged to the client",
            self.client_wire.tagged()
        );
        ensure!(
            self.backend_wire.tagged() > 50,
            "{} tagged to the backend",
            self.backend_wire.tagged()
        );
        Ok(())
    }
}

#[test]
fn frames_keep_a_tag() -> Result<()> {
    Tagged::new(&vec![(0x8100, 100)])?.curl_and_socat()
}

#[test]
fn frames_keep_two_tags() -> Result<()> {
    Tagged::new(&vec![(0x88a8, 100), (0x8100, 200)])?.curl_and_socat()
}
