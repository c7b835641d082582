//! What the fuzzer runs against: services with backends of every kind, and clients everywhere.

use super::{
    Bench,
    snapshot::{Plan, PlannedService},
    topology::{LOCAL, NAT_SOURCE},
};
use crate::model::generate::{Pools, quic};
use anyhow::{Result, bail};
use proxy_common::{fragments::FRAGMENTS, limits::GUE_PORT, net::Protocol};
use std::{net::IpAddr, time::Duration};
use weir::model::{Affinity, FlowHash, ForwardMode, ListenAddr, Quic, Rate, Role, ServerId, Span, Tracking};

/// Backends of every kind of next hop: on the arriving interface, on another, behind a router, behind a
/// small MTU, unresolved, on this host, and nowhere.
const BACKENDS_IPV4: [&str; 13] = [
    "192.0.2.20:8080",
    "192.0.2.21:8080",
    "198.51.100.20:8080",
    "198.51.100.21:8080",
    "203.0.113.5:8080",
    "203.0.113.70:8080",
    "192.0.2.66:8080",
    "198.51.100.66:8080",
    "198.51.100.1:8081",
    "203.0.113.130:8080",
    "203.0.113.195:8080",
    "203.0.113.230:8080",
    "198.18.200.9:8080",
];

/// The same for IPv6.
const BACKENDS_IPV6: [&str; 13] = [
    "[2001:db8:1::20]:8080",
    "[2001:db8:1::21]:8080",
    "[2001:db8:2::20]:8080",
    "[2001:db8:2::21]:8080",
    "[2001:db8:3::5]:8080",
    "[2001:db8:4::70]:8080",
    "[2001:db8:1::66]:8080",
    "[2001:db8:2::66]:8080",
    "[2001:db8:2::1]:8081",
    "[2001:db8:5::1]:8080",
    "[2001:db8:6::1]:8080",
    "[2001:db8:7::1]:8080",
    "[2001:db8:99::9]:8080",
];

/// A service without NAT.
fn direct(
    address: &str,
    protocol: Protocol,
    mode: ForwardMode,
    tracking: Tracking,
    backends: &[&str],
) -> Result<PlannedService> {
    let mut service = PlannedService::new(address, protocol, backends)?;
    service.mode = mode;
    service.tracking = tracking;
    Ok(service)
}

/// Every mode in this family, and tunnels through the other.
fn direct_services(
    vip: &dyn Fn(u8, u16) -> String,
    all: &[&str; 13],
    other: &[&str; 13],
) -> Result<Vec<PlannedService>> {
    use ForwardMode::{DsrL2, Gue, Ipip};
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let mixed = [&all[..6], &other[..6]].concat();
    let mut services = vec![
        direct(&vip(5, 80), tcp, Ipip, Tracking::Auto, all)?,
        direct(&vip(5, 53), udp, Ipip, Tracking::Auto, &other[..8])?,
        direct(&vip(5, 81), tcp, Gue, Tracking::Auto, &mixed)?,
        direct(&vip(5, 54), udp, Gue, Tracking::Never, other)?,
        direct(&vip(6, 80), tcp, DsrL2, Tracking::Auto, all)?,
        direct(&vip(6, 53), udp, DsrL2, Tracking::Always, &all[..5])?,
        direct(&vip(6, 81), tcp, Ipip, Tracking::Always, &mixed)?,
        direct(&vip(6, 1051), tcp, Ipip, Tracking::Auto, &all[1..3])?,
    ];
    services[0].hash = FlowHash::FiveTuple;
    services[5].hash = FlowHash::Source;
    services[7].hash = FlowHash::SourceDestination;
    Ok(services)
}

/// Services with affinity, in every mode.
fn affine_services(vip: &dyn Fn(u8, u16) -> String, all: &[&str; 13]) -> Result<Vec<PlannedService>> {
    use ForwardMode::{DsrL2, Gue, Ipip, Nat};
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let mut services = vec![
        direct(&vip(8, 80), tcp, Ipip, Tracking::Always, &all[..6])?,
        direct(&vip(8, 53), udp, Gue, Tracking::Always, &all[..6])?,
        direct(&vip(8, 81), tcp, DsrL2, Tracking::Always, &all[..4])?,
        direct(&vip(8, 82), tcp, Nat, Tracking::Auto, &all[..6])?,
        direct(&vip(8, 54), udp, Nat, Tracking::Auto, &all[..6])?,
    ];
    for (at, service) in services.iter_mut().enumerate() {
        service.affinity = Some(Affinity {
            timeout: Duration::from_secs([60, 10_800][at % 2]),
            ipv4_prefix: [32, 24, 15][at % 3],
            ipv6_prefix: [128, 63, 32][at % 3],
        });
    }
    Ok(services)
}

/// Services whose datagrams name their backend, in every mode: server IDs of 1 to 15 bytes, of which the last ones tell them apart.
fn quic_services(vip: &dyn Fn(u8, u16) -> String, all: &[&str; 13]) -> Result<Vec<PlannedService>> {
    use ForwardMode::{DsrL2, Gue, Ipip, Nat};
    let udp = Protocol::Udp;
    let mut services = vec![
        direct(&vip(10, quic::FIRST_PORT), udp, Ipip, Tracking::Auto, all)?,
        direct(
            &vip(10, quic::FIRST_PORT + 1),
            udp,
            Gue,
            Tracking::Always,
            &all[..6],
        )?,
        direct(
            &vip(10, quic::FIRST_PORT + 2),
            udp,
            DsrL2,
            Tracking::Never,
            &all[..6],
        )?,
        direct(
            &vip(10, quic::FIRST_PORT + 3),
            udp,
            Nat,
            Tracking::Auto,
            &all[..9],
        )?,
        direct(
            &vip(10, quic::FIRST_PORT + 4),
            udp,
            Ipip,
            Tracking::Auto,
            &all[..3],
        )?,
    ];
    services[3].guard.connections = Some(Rate {
        per_second: 0,
        burst: 40,
    });
    services[4].guard = services[3].guard.clone();
    for (at, service) in services.iter_mut().enumerate() {
        let server_id_length = quic::LENGTHS[at];
        service.quic = Some(Quic {
            config_id: at as u8,
            server_id_length,
        });
        for (backend, number) in service.backends.iter_mut().zip(1..) {
            backend.server_id = ServerId::new(&quic::server_id(number, server_id_length));
        }
    }
    Ok(services)
}

/// Services with rules and limits. Limits that are never refilled: what is left follows from the packets alone.
fn guarded_services(vip: &dyn Fn(u8, u16) -> String, all: &[&str; 13]) -> Result<Vec<PlannedService>> {
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let prefixes = |texts: &[&str]| -> Result<std::sync::Arc<[ipnet::IpNet]>> {
        texts.iter().map(|text| Ok(text.parse()?)).collect()
    };
    let rate = |burst| Some(Rate { per_second: 0, burst });
    let mut services = vec![
        direct(&vip(7, 80), tcp, ForwardMode::Ipip, Tracking::Auto, &all[..4])?,
        direct(&vip(7, 53), udp, ForwardMode::Gue, Tracking::Auto, &all[..4])?,
        PlannedService::new(&vip(7, 81), tcp, &all[..4])?,
        PlannedService::new(&vip(7, 54), udp, &all[..4])?,
    ];
    services[0].guard.deny = prefixes(&["192.0.2.0/28", "2001:db8:1::/124", "198.19.3.4/32"])?;
    services[0].guard.allow = prefixes(&["192.0.2.0/24", "192.0.2.11/32", "2001:db8::/32"])?;
    services[0].guard.connections = rate(40);
    services[1].guard.packets = rate(150);
    services[2].guard.deny = prefixes(&["198.19.0.0/16", "2001:db8:f::/64"])?;
    services[2].guard.connections = rate(20);
    services[3].guard.packets = rate(100);
    Ok(services)
}

/// Services of several ports and addresses, and such as lie within them.
fn ranges(
    vip: &dyn Fn(u8, u16) -> String,
    all: &[&str; 13],
    (network, bits): (&str, u8),
) -> Result<Vec<PlannedService>> {
    use ForwardMode::{DsrL2, Gue, Ipip};
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let portless: Vec<String> = all[..9]
        .iter()
        .filter_map(|backend| Some(format!("{}:0", backend.rsplit_once(':')?.0)))
        .collect();
    let portless: Vec<&str> = portless.iter().map(String::as_str).collect();
    let mut services = vec![
        PlannedService::new(&vip(8, 5000), tcp, &portless)?,
        direct(&vip(9, 0), tcp, Ipip, Tracking::Auto, &portless[..4])?,
        direct(&vip(9, 700), tcp, Gue, Tracking::Always, &all[..4])?,
        PlannedService::new(&vip(9, 710), tcp, &all[..4])?,
        direct(&format!("{network}:53"), udp, Gue, Tracking::Auto, &all[..4])?,
        direct(
            &format!("{network}:0"),
            udp,
            DsrL2,
            Tracking::Auto,
            &portless[..2],
        )?,
    ];
    services[0].span.last_port = 5009;
    services[1].span.last_port = u16::MAX;
    services[2].span.last_port = 720;
    services[4].span.prefix_bits = bits;
    services[5].span = Span {
        prefix_bits: bits + 2,
        last_port: u16::MAX,
    };
    Ok(services)
}

/// Services over these backends, in both families: all kinds, good ones, one at a port that NAT gives
/// out, single ones (whose NAT ports run out), and one with nobody.
pub(super) fn plan() -> Result<Plan> {
    let mut services = Vec::new();
    for (prefix, all, other, network) in [
        ("198.18.0.", &BACKENDS_IPV4, &BACKENDS_IPV6, ("198.18.1.0", 28)),
        (
            "[2001:db8:a::",
            &BACKENDS_IPV6,
            &BACKENDS_IPV4,
            ("[2001:db8:a:1::]", 64),
        ),
    ] {
        let vip = |number: u8, port: u16| {
            let close = if prefix.starts_with('[') { "]" } else { "" };
            format!("{prefix}{number}{close}:{port}")
        };
        services.push(PlannedService::new(&vip(1, 80), Protocol::Tcp, all)?);
        services.push(PlannedService::new(&vip(1, 53), Protocol::Udp, all)?);
        services.push(PlannedService::new(&vip(2, 443), Protocol::Tcp, &all[1..4])?);
        services.push(PlannedService::new(&vip(2, 1050), Protocol::Udp, &all[0..5])?);
        services.push(PlannedService::new(&vip(3, 25), Protocol::Tcp, &all[2..3])?);
        services.push(PlannedService::new(&vip(3, 26), Protocol::Tcp, &all[4..5])?);
        services.push(PlannedService::new(&vip(3, 27), Protocol::Udp, &all[8..9])?);
        services.push(PlannedService::new(&vip(4, 123), Protocol::Udp, &all[0..1])?);
        let [.., dns, web, _, _, _, _, _] = &mut services[..] else {
            bail!("eight services a family");
        };
        dns.hash = FlowHash::Source;
        web.max_segment_size = Some(536);
        web.hash = FlowHash::SourceDestination;
        if let Some(nobody) = services.last_mut() {
            nobody.backends[0].weight = 0;
        }
        services.extend(direct_services(&vip, all, other)?);
        services.extend(guarded_services(&vip, all)?);
        services.extend(ranges(&vip, all, network)?);
        services.extend(affine_services(&vip, all)?);
        services.extend(quic_services(&vip, all)?);
    }
    Ok(Plan {
        services,
        ports: (1040, 1055),
        max_flows: 250,
        max_tracked_flows: 60,
        max_fragments: FRAGMENTS,
        role: Role::Balancer,
        decap_vips: decap_vips()?,
        max_services_backends: (96, 1024),
    })
}

/// VIPs of services elsewhere, which this host serves as a backend.
fn decap_vips() -> Result<Vec<IpAddr>> {
    let addresses = [
        "198.18.200.40",
        "198.18.200.41",
        "2001:db8:99::40",
        "2001:db8:99::41",
    ];
    addresses.iter().map(|address| Ok(address.parse()?)).collect()
}

/// A backend's host: nothing but the end of tunnels.
pub(super) fn backend_plan() -> Result<Plan> {
    Ok(Plan {
        services: Vec::new(),
        role: Role::Backend,
        ..plan()?
    })
}

/// Addresses, interfaces and services that frames are made of.
pub(super) fn pools(plan: &Plan, bench: &Bench) -> Result<Pools> {
    let topology = &bench.topology;
    let parse =
        |texts: &[&str]| -> Result<Vec<IpAddr>> { texts.iter().map(|text| Ok(text.parse()?)).collect() };
    Ok(Pools {
        interfaces: vec![
            topology.arriving,
            topology.leaving,
            topology.leaving,
            topology.closed,
        ],
        clients: parse(&[
            "192.0.2.10",
            "192.0.2.11",
            "192.0.2.12",
            "198.51.100.30",
            "198.19.3.4",
            "198.19.77.8",
            "192.0.2.67",
            "198.18.200.1",
            "2001:db8:1::10",
            "2001:db8:1::11",
            "2001:db8:1::12",
            "2001:db8:2::30",
            "2001:db8:f::3:4",
            "2001:db8:f::77:8",
            "2001:db8:1::67",
            "2001:db8:99::1",
        ])?,
        services: plan
            .services
            .iter()
            .flat_map(|service| {
                let protocol = service.protocol as u8;
                ends(service).into_iter().map(move |end| (end, protocol))
            })
            .collect(),
        translators: parse(&[NAT_SOURCE.0, NAT_SOURCE.1])?,
        ends: parse(&[NAT_SOURCE.0, NAT_SOURCE.1, LOCAL.0, LOCAL.1])?,
        tunnel_vips: plan.decap_vips.clone(),
        gue_port: GUE_PORT,
        tunnels: 5,
        strangers: parse(&[
            "192.0.2.254",
            "198.51.100.254",
            "2001:db8:1::fe",
            "2001:db8:2::fe",
        ])?,
    })
}

/// Addresses and ports of a service: the first, and of a range the last, some within, and the next one, which is outside.
fn ends(service: &PlannedService) -> Vec<(IpAddr, u16)> {
    let (address, first) = (service.address.ip(), service.address.port());
    let last = service.span.last_port;
    let mut ports = vec![first, last, last.saturating_add(1), first.midpoint(last)];
    ports.dedup();
    if !service.span.is_range(ListenAddr(service.address)) {
        ports.truncate(1);
    }
    let mut ends: Vec<(IpAddr, u16)> = ports.iter().map(|port| (address, *port)).collect();
    for low_bits in [3, 4, 15, 16, 64] {
        let other = match address {
            IpAddr::V4(v4) if service.span.prefix_bits < 32 => {
                IpAddr::from(std::net::Ipv4Addr::from_bits(v4.to_bits() | low_bits))
            }
            IpAddr::V6(v6) if service.span.prefix_bits < 128 => {
                // The last ones are beyond a /64.
                let bits = if low_bits == 64 {
                    1 << 64
                } else {
                    u128::from(low_bits) << 58
                };
                IpAddr::from(std::net::Ipv6Addr::from_bits(v6.to_bits() | bits))
            }
            _ => continue,
        };
        ends.push((other, first.max(7)));
    }
    ends
}
