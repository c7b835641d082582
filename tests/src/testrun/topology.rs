//! The surroundings of the program under test: interfaces, routes and neighbours, written once and
//! given to both the kernel and the model.

use crate::model::network::{Interface, Mac, Network, Route, Target};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
};

/// Interfaces by name: the one that clients come in by, the one to most backends, and one that
/// forwarding is disabled on. Each is one end of a veth pair.
pub const ARRIVING: &str = "win";
/// See [`ARRIVING`].
pub const LEAVING: &str = "wout";
/// See [`ARRIVING`].
pub const CLOSED: &str = "woff";

/// MTU of every interface.
pub const MTU: usize = 1500;
/// MTU of the small routes, IPv4 and IPv6 (which allows no less than 1280).
pub const SMALL_MTU: (usize, usize) = (600, 1300);

/// NAT's sources.
pub const NAT_SOURCE: (&str, &str) = ("192.0.2.1", "2001:db8:1::1");
/// Addresses of this host that backends listen on.
pub const LOCAL: (&str, &str) = ("198.51.100.1", "2001:db8:2::1");

/// Own addresses: interface, address, prefix length.
const ADDRESSES: [(&str, &str, u8); 4] = [
    (ARRIVING, NAT_SOURCE.0, 24),
    (ARRIVING, NAT_SOURCE.1, 64),
    (LEAVING, LOCAL.0, 24),
    (LEAVING, LOCAL.1, 64),
];

/// Neighbours whose MAC address is known: interface, address.
const NEIGHBOURS: [(&str, &str); 24] = [
    (ARRIVING, "192.0.2.10"),
    (ARRIVING, "192.0.2.11"),
    (ARRIVING, "192.0.2.12"),
    (ARRIVING, "192.0.2.20"),
    (ARRIVING, "192.0.2.21"),
    (ARRIVING, "192.0.2.254"),
    (LEAVING, "198.51.100.20"),
    (LEAVING, "198.51.100.21"),
    (LEAVING, "198.51.100.22"),
    (LEAVING, "198.51.100.23"),
    (LEAVING, "198.51.100.30"),
    (LEAVING, "198.51.100.254"),
    (ARRIVING, "2001:db8:1::10"),
    (ARRIVING, "2001:db8:1::11"),
    (ARRIVING, "2001:db8:1::12"),
    (ARRIVING, "2001:db8:1::20"),
    (ARRIVING, "2001:db8:1::21"),
    (ARRIVING, "2001:db8:1::fe"),
    (LEAVING, "2001:db8:2::20"),
    (LEAVING, "2001:db8:2::21"),
    (LEAVING, "2001:db8:2::22"),
    (LEAVING, "2001:db8:2::23"),
    (LEAVING, "2001:db8:2::30"),
    (LEAVING, "2001:db8:2::fe"),
];

/// Routes through a router: prefix, length, interface, router, own MTU.
const ROUTED: [(&str, u8, &str, &str, Option<usize>); 6] = [
    ("198.19.0.0", 16, ARRIVING, "192.0.2.254", None),
    ("203.0.113.0", 26, LEAVING, "198.51.100.254", None),
    ("203.0.113.64", 26, LEAVING, "198.51.100.254", Some(SMALL_MTU.0)),
    ("2001:db8:f::", 48, ARRIVING, "2001:db8:1::fe", None),
    ("2001:db8:3::", 64, LEAVING, "2001:db8:2::fe", None),
    ("2001:db8:4::", 64, LEAVING, "2001:db8:2::fe", Some(SMALL_MTU.1)),
];

/// Routes that lead nowhere: kind, prefix, length.
const NOWHERE: [(&str, &str, u8); 6] = [
    ("blackhole", "203.0.113.128", 26),
    ("prohibit", "203.0.113.192", 27),
    ("unreachable", "203.0.113.224", 27),
    ("blackhole", "2001:db8:5::", 64),
    ("prohibit", "2001:db8:6::", 64),
    ("unreachable", "2001:db8:7::", 64),
];

/// What the kernel adds by itself and does not forward to: broadcast, multicast, subnet-router
/// anycast (RFC 4291 section 2.6.1).
const NOT_UNICAST: [(&str, u8); 5] = [
    ("192.0.2.255", 32),
    ("198.51.100.255", 32),
    ("ff00::", 8),
    ("2001:db8:1::", 128),
    ("2001:db8:2::", 128),
];

/// Indices of the interfaces, and the model's view of all of it.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Index of [`ARRIVING`].
    pub arriving: u32,
    /// Index of [`LEAVING`].
    pub leaving: u32,
    /// Index of [`CLOSED`].
    pub closed: u32,
    /// What the model forwards by.
    pub network: Network,
}

impl Topology {
    /// Makes interfaces, routes and neighbours in this thread's network namespace, which must be
    /// new and its own.
    ///
    /// # Errors
    /// `ip` is missing or refused something.
    pub fn create() -> Result<Self> {
        make_interfaces()?;
        ip(&addresses_and_routes()?)?;
        let index = |name| rustix_index(name);
        let (arriving, leaving, closed) = (index(ARRIVING)?, index(LEAVING)?, index(CLOSED)?);
        let indices = HashMap::from([(ARRIVING, arriving), (LEAVING, leaving), (CLOSED, closed)]);
        Ok(Self {
            arriving,
            leaving,
            closed,
            network: network(&indices)?,
        })
    }
}

/// This host's own addresses.
///
/// # Errors
/// None: they are constants.
pub(super) fn own_addresses() -> Result<HashSet<IpAddr>> {
    let addresses = ADDRESSES.iter();
    addresses.map(|(_, address, _)| Ok(address.parse()?)).collect()
}

/// Turns forwarding off on [`CLOSED`]; the daemon turns it on where it attaches.
///
/// # Errors
/// The kernel refused it.
pub fn close() -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{CLOSED}/forwarding");
        fs::write(&path, "0").with_context(|| format!("write {path}"))?;
    }
    Ok(())
}

/// The MAC of an interface of ours.
fn own_mac(name: &str) -> Mac {
    let last = match name {
        ARRIVING => 1,
        LEAVING => 2,
        _ => 3,
    };
    [0x02, 0, 0, 0, 0xaa, last]
}

/// The MAC of the neighbour at this place in [`NEIGHBOURS`].
fn neighbour_mac(place: usize) -> Mac {
    [0x02, 0, 0, 0, 0xbb, place as u8]
}

fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn make_interfaces() -> Result<()> {
    let mut script = String::from("link set lo up\n");
    for name in [ARRIVING, LEAVING, CLOSED] {
        let mac = mac_text(own_mac(name));
        writeln!(
            script,
            "link add {name} address {mac} mtu {MTU} type veth peer name {name}-peer mtu {MTU}"
        )?;
        // No link-local addresses: their routes would make fe80::/10 reachable by luck of the order.
        writeln!(script, "link set {name} addrgenmode none")?;
        writeln!(script, "link set {name}-peer addrgenmode none")?;
    }
    ip(&script)
}

fn addresses_and_routes() -> Result<String> {
    let mut script = String::new();
    for name in [ARRIVING, LEAVING, CLOSED] {
        writeln!(script, "link set {name} up\nlink set {name}-peer up")?;
    }
    for (name, address, length) in ADDRESSES {
        let detection = if address.contains(':') { "nodad" } else { "" };
        writeln!(script, "address add {address}/{length} dev {name} {detection}")?;
    }
    for (place, (name, address)) in NEIGHBOURS.iter().enumerate() {
        let mac = mac_text(neighbour_mac(place));
        writeln!(
            script,
            "neighbour add {address} lladdr {mac} dev {name} nud permanent"
        )?;
    }
    for (prefix, length, name, router, mtu) in ROUTED {
        // The lock makes IPv4's lookup honour the MTU without net.ipv4.ip_forward_use_pmtu.
        let mtu = mtu.map_or(String::new(), |mtu| format!("mtu lock {mtu}"));
        writeln!(
            script,
            "route add {prefix}/{length} via {router} dev {name} {mtu}"
        )?;
    }
    for (kind, prefix, length) in NOWHERE {
        writeln!(script, "route add {kind} {prefix}/{length}")?;
    }
    Ok(script)
}

/// The same as [`addresses_and_routes`], for the model.
fn network(indices: &HashMap<&str, u32>) -> Result<Network> {
    let mut network = Network::default();
    for (name, ifindex) in indices {
        let forwarding = *name != CLOSED;
        network.interfaces.insert(
            *ifindex,
            Interface {
                mac: own_mac(name),
                mtu: MTU,
                forwarding_ipv4: forwarding,
                forwarding_ipv6: forwarding,
            },
        );
    }
    let mut route = |prefix: &str, length, target| -> Result<()> {
        let prefix: IpAddr = prefix.parse()?;
        network.routes.push(Route {
            prefix,
            length,
            target,
        });
        Ok(())
    };
    for (name, address, length) in ADDRESSES {
        let link = Target::Link {
            ifindex: indices[name],
            gateway: None,
            mtu: None,
        };
        let full = if address.contains(':') { 128 } else { 32 };
        route(address, length, link)?;
        route(address, full, Target::Nowhere)?;
    }
    for (prefix, length, name, router, mtu) in ROUTED {
        let link = Target::Link {
            ifindex: indices[name],
            gateway: Some(router.parse()?),
            mtu,
        };
        route(prefix, length, link)?;
    }
    for (_, prefix, length) in NOWHERE {
        route(prefix, length, Target::Nowhere)?;
    }
    for (prefix, length) in NOT_UNICAST {
        route(prefix, length, Target::Nowhere)?;
    }
    for (place, (name, address)) in NEIGHBOURS.iter().enumerate() {
        let key = (indices[name], address.parse()?);
        network.neighbours.insert(key, neighbour_mac(place));
    }
    Ok(network)
}

fn rustix_index(name: &str) -> Result<u32> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    rustix::net::netdevice::name_to_index(&socket, name).with_context(|| format!("index of {name}"))
}

/// Runs a batch of `ip` commands.
fn ip(script: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip (install iproute2)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip -batch: {}in\n{script}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
