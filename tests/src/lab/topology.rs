//! The standard topology: client, router, balancer, and three backends on a segment of their own.

use super::{EchoServer, Host, Lab};
use anyhow::Result;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Names of the balancer's interfaces: towards the router and clients, and towards the backends.
pub const INTERFACES: [&str; 2] = ["front", "back"];

/// How many backends there are.
pub const BACKENDS: usize = 3;

/// IPv4 or IPv6, for tests that run in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn pick(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from(v4)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(v6)),
        }
    }

    /// VIP number `n`: on no interface; the router sends it to the balancer.
    pub fn vip(self, n: u8) -> IpAddr {
        self.pick([198, 18, 0, n], [0x2001, 0xdb8, 0x18, 0, 0, 0, 0, n.into()])
    }

    /// The client's address.
    pub fn client(self) -> IpAddr {
        self.pick([192, 0, 2, 10], [0x2001, 0xdb8, 0x2, 0, 0, 0, 0, 0x10])
    }

    /// The balancer's address on the segment with the backends: what NAT gives as the source.
    pub fn balancer(self) -> IpAddr {
        self.pick([203, 0, 113, 1], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1])
    }

    /// Backend number `n`'s address, from 0.
    pub fn backend(self, n: usize) -> IpAddr {
        let last = 11 + n as u8;
        self.pick(
            [203, 0, 113, last],
            [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, last.into()],
        )
    }
}

/// The standard topology; plain routing works in it, with or without a daemon.
///
/// ```text
/// client ── router ── balancer ── segment (a bridge) ─┬ backend-1
///  192.0.2.0/24   198.51.100.0/24   203.0.113.0/24    ├ backend-2
///  2001:db8:2::   2001:db8:51::     2001:db8:113::    └ backend-3
/// ```
pub struct Topology {
    /// `eth0` towards the router.
    pub client: Host,
    /// `clients` and `balancer`; has the route to the VIPs.
    pub router: Host,
    /// `front` and `back`; the router is its default gateway.
    pub balancer: Host,
    /// A bridge with the ports `balancer`, `backend-1`, `backend-2`, `backend-3`.
    pub segment: Host,
    /// `eth0` towards the balancer, their default gateway.
    pub backends: [Host; BACKENDS],
    /// Its folder; the last field, so that it goes last.
    pub lab: Lab,
}

impl Topology {
    /// Builds it.
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let client = lab.host("client")?;
        let router = lab.host("router")?;
        let balancer = lab.host("balancer")?;
        let segment = lab.host("segment")?;
        client.connect("eth0", &router, "clients")?;
        client.ip("address add 192.0.2.10/24 dev eth0
            address add 2001:db8:2::10/64 dev eth0 nodad
            route add default via 192.0.2.1
            route add default via 2001:db8:2::1")?;
        router.ip("address add 192.0.2.1/24 dev clients
            address add 2001:db8:2::1/64 dev clients nodad")?;
        router.forward()?;
        balancer.forward()?;
        // Snooping would hold back neighbour solicitations until it has seen the hosts' reports.
        segment.ip("link add br0 type bridge mcast_snooping 0
            link set dev br0 up")?;
        Self::front(&router, &balancer)?;
        Self::back(&balancer, &segment)?;
        let backends = [0, 1, 2].map(|n| Self::backend(&lab, &segment, n));
        let [a, b, c] = backends;
        Ok(Self {
            lab,
            client,
            router,
            balancer,
            segment,
            backends: [a?, b?, c?],
        })
    }

    /// Joins the balancer and the router anew after one of the ends was deleted.
    pub fn make_front(&self) -> Result<()> {
        Self::front(&self.router, &self.balancer)
    }

    /// Joins the balancer and the segment anew.
    pub fn make_back(&self) -> Result<()> {
        Self::back(&self.balancer, &self.segment)
    }

    fn front(router: &Host, balancer: &Host) -> Result<()> {
        router.connect("balancer", balancer, "front")?;
        router.take_xdp_tx("balancer")?;
        Self::address_front(router, balancer)
    }

    /// Addresses and routes of `front` and of the router's end.
    pub fn address_front(router: &Host, balancer: &Host) -> Result<()> {
        router.ip("address add 198.51.100.1/24 dev balancer
            address add 2001:db8:51::1/64 dev balancer nodad
            route add 198.18.0.0/24 via 198.51.100.2
            route add 2001:db8:18::/64 via 2001:db8:51::2
            route add 203.0.113.0/24 via 198.51.100.2
            route add 2001:db8:113::/64 via 2001:db8:51::2")?;
        balancer.ip("address add 198.51.100.2/24 dev front
            address add 2001:db8:51::2/64 dev front nodad
            route add default via 198.51.100.1
            route add default via 2001:db8:51::1")?;
        send_late_checksums(balancer, "front")
    }

    fn back(balancer: &Host, segment: &Host) -> Result<()> {
        balancer.connect("back", segment, "balancer")?;
        segment.take_xdp_tx("balancer")?;
        segment.ip("link set dev balancer master br0")?;
        balancer.ip("address add 203.0.113.1/24 dev back
            address add 2001:db8:113::1/64 dev back nodad")?;
        send_late_checksums(balancer, "back")
    }

    fn backend(lab: &Lab, segment: &Host, n: usize) -> Result<Host> {
        let name = format!("backend-{}", n + 1);
        let host = lab.host(&name)?;
        host.connect("eth0", segment, &name)?;
        segment.ip(&format!("link set dev {name} master br0"))?;
        let [v4, v6] = Family::BOTH.map(|family| family.backend(n));
        host.ip(&format!(
            "address add {v4}/24 dev eth0
            address add {v6}/64 dev eth0 nodad
            route add default via 203.0.113.1
            route add default via 2001:db8:113::1"
        ))?;
        Ok(host)
    }

    /// An echo server on every backend, in both families, answering with the host's name.
    pub fn echo_servers(&self, port: u16) -> Result<Vec<EchoServer>> {
        let start = |(n, host): (usize, &Host)| {
            let addresses = Family::BOTH.map(|family| SocketAddr::new(family.backend(n), port));
            EchoServer::start(host, host.name(), &addresses)
        };
        self.backends.iter().enumerate().map(start).collect()
    }

    /// An echo server on the balancer itself, on the addresses of its segment, named `balancer`.
    pub fn local_echo_server(&self, port: u16) -> Result<EchoServer> {
        let addresses = Family::BOTH.map(|family| SocketAddr::new(family.balancer(), port));
        EchoServer::start(&self.balancer, self.balancer.name(), &addresses)
    }
}

/// As on a real network card: what this host sends has its checksums filled in late.
fn send_late_checksums(host: &Host, interface: &str) -> Result<()> {
    host.execute(&format!("ethtool -K {interface} tx on")).map(drop)
}
