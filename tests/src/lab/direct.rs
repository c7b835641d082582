//! A site with direct server return: backends that take tunnelled packets and answer clients past the balancer.

use super::{Daemon, DaemonConfig, EchoServer, Family, Host, Nginx, Process, Topology, until};
use anyhow::Result;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// The standard topology with a way from the backends to the router that doesn't lead through the balancer, and every
/// backend a `role: backend` that serves both VIPs.
pub struct DirectSite {
    _servers: Vec<(Nginx, EchoServer, Process)>,
    /// The daemons on the backends.
    pub backends: Vec<Daemon>,
    /// Where it all runs.
    pub topology: Topology,
}

impl DirectSite {
    /// Port of the backends' nginx, and of the service in front of them.
    pub const WEB: u16 = 8080;
    /// The same of the echo servers, by TCP and UDP.
    pub const ECHO: u16 = 7;
    /// The same of servers that tell a client its address.
    pub const WHO: u16 = 79;

    /// The first balancer, as the router knows it, and [`DirectSite::second_balancer`].
    pub const FIRST: &str = "198.51.100.2";
    /// See there.
    pub const SECOND: &str = "198.18.51.2";

    /// IPv4 addresses of each backend, at all of which tunnels end: so many endpoints may be one host.
    pub const ALIASES: u8 = 4;

    /// IPv4 address number `alias` of backend number `n`, both from 0: the first is the topology's.
    pub const fn address(n: usize, alias: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, 11 + n as u8 + 10 * alias)
    }

    /// Builds it; the balancer has no daemon yet.
    pub fn new() -> Result<Self> {
        let topology = Topology::new()?;
        let (router, segment) = (&topology.router, &topology.segment);
        router.connect("direct", segment, "router")?;
        segment.ip("link set dev router master br0")?;
        router.ip("route del 203.0.113.0/24
            route del 2001:db8:113::/64
            address add 203.0.113.2/24 dev direct
            address add 2001:db8:113::2/64 dev direct nodad")?;
        let mut site = Self {
            _servers: Vec::new(),
            backends: Vec::new(),
            topology,
        };
        for (n, host) in site.topology.backends.iter().enumerate() {
            host.ip("route replace default via 203.0.113.2
                route replace default via 2001:db8:113::2")?;
            for alias in 1..Self::ALIASES {
                host.ip(&format!("address add {}/24 dev eth0", Self::address(n, alias)))?;
            }
            let vips = Family::BOTH.map(|family| family.vip(1));
            site.backends.push(Daemon::start(host, &Self::backend_config())?);
            let at = |port| vips.map(|vip| SocketAddr::new(vip, port));
            let nginx = Nginx::start(host, &at(Self::WEB))?;
            let echo = EchoServer::start(host, host.name(), &at(Self::ECHO))?;
            site._servers.push((nginx, echo, who(host)?));
        }
        Ok(site)
    }

    /// The config of a backend.
    pub fn backend_config() -> DaemonConfig {
        let mut config = DaemonConfig::new(&["eth0"]);
        config.value["role"] = json!("backend");
        config.value["decap"] = json!({ "vips": Family::BOTH.map(|family| family.vip(1)) });
        config
    }

    /// A balancer whose services on this family's VIP go to the backends' addresses of the other family or the same.
    pub fn balancer(&self, mode: &str, vip: Family, backends: Family) -> Result<Daemon> {
        Daemon::start(&self.topology.balancer, &self.config(mode, vip, backends))
    }

    /// A second balancer beside the first, over IPv4: the router gives each half of the flows, as one does by ECMP.
    pub fn second_balancer(&self) -> Result<Host> {
        let (router, segment) = (&self.topology.router, &self.topology.segment);
        let second = self.topology.lab.host("balancer-2")?;
        router.connect("balancer-2", &second, "front")?;
        router.take_xdp_tx("balancer-2")?;
        second.connect("back", segment, "balancer-2")?;
        segment.take_xdp_tx("balancer-2")?;
        segment.ip("link set dev balancer-2 master br0")?;
        router.ip("address add 198.18.51.1/24 dev balancer-2")?;
        second.ip("address add 198.18.51.2/24 dev front
            address add 203.0.113.3/24 dev back
            route add default via 198.18.51.1")?;
        second.forward()?;
        // By ports too: by addresses alone one client would have one balancer.
        router.sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
        self.route_by(&[Self::FIRST, Self::SECOND])?;
        Ok(second)
    }

    /// Has the router send what is for VIPs by these balancers, as BFD and a routing protocol would.
    pub fn route_by(&self, balancers: &[&str]) -> Result<()> {
        let hops: String = balancers
            .iter()
            .map(|hop| format!(" nexthop via {hop}"))
            .collect();
        self.topology
            .router
            .ip(&format!("route replace 198.18.0.0/24{hops}"))
    }

    /// Packets that all backends took out of tunnels.
    pub fn decapsulated(&self) -> Result<u64> {
        let mut sum = 0;
        for backend in &self.backends {
            let status = backend.status()?;
            let outcomes = status["kernel"]["decap"].as_array().cloned().unwrap_or_default();
            let delivered = |one: &&Value| one["outcome"] == "ipip" || one["outcome"] == "gue";
            sum += outcomes
                .iter()
                .filter(delivered)
                .filter_map(|one| one["packets"].as_u64())
                .sum::<u64>();
        }
        Ok(sum)
    }

    /// Its config.
    pub fn config(&self, mode: &str, vip: Family, backends: Family) -> DaemonConfig {
        let mut config = DaemonConfig::standard();
        for (name, protocol, port) in [
            ("web", "tcp", Self::WEB),
            ("echo", "tcp", Self::ECHO),
            ("datagrams", "udp", Self::ECHO),
            ("who", "tcp", Self::WHO),
        ] {
            let endpoint = |n| (SocketAddr::new(backends.backend(n), port), 1);
            let endpoints: Vec<_> = (0..self.topology.backends.len()).map(endpoint).collect();
            config = config.service(name, protocol, SocketAddr::new(vip.vip(1), port), &endpoints);
        }
        for listener in config.value["listeners"].as_array_mut().into_iter().flatten() {
            listener["forward"]["mode"] = json!(mode);
        }
        config
    }
}

/// A server that tells each client the address it sees.
fn who(host: &Host) -> Result<Process> {
    let port = DirectSite::WHO;
    let mut command = host.command("socat")?;
    command.args([
        &format!("TCP6-LISTEN:{port},ipv6only=0,fork,reuseaddr"),
        "SYSTEM:echo $SOCAT_PEERADDR",
    ]);
    let mut process = host.spawn(&mut command)?;
    until("socat", Duration::from_secs(60), || {
        let shown = host.execute(&format!("ss -Hltn sport = {port}"));
        (shown.is_ok_and(|shown| !shown.is_empty()) || process.ended().is_some()).then_some(())
    })?;
    process.check()?;
    Ok(process)
}
