//! From the model's types to the maps'.

use crate::model::{
    BackendAddr, Endpoint, FlowHash, ForwardMode, Health, ListenAddr, NatSettings, Service, Tracking,
    TunnelSettings,
};
use proxy_common::{
    affinity::ServiceOptions,
    guard::SourceKey,
    keys::ServiceKey,
    net::{Address, Protocol},
    quic,
    values::{ServiceValue, backend_flags, mode, service_flags},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The key of a service.
pub(super) fn service_key(service: &Service) -> ServiceKey {
    ServiceKey {
        address: service.address.0.ip().into(),
        port: service.address.0.port(),
        protocol: service.protocol as u8,
        pad: 0,
    }
}

/// The listen address and protocol of a key that a daemon wrote.
pub(super) fn listener(key: &ServiceKey) -> (ListenAddr, Protocol) {
    let address = SocketAddr::new(key.address.into(), key.port);
    (
        ListenAddr(address),
        Protocol::from_number(key.protocol).unwrap_or(Protocol::Tcp),
    )
}

/// An endpoint's address from a map's fields.
pub(super) fn backend_addr(address: Address, port: u16) -> BackendAddr {
    BackendAddr(SocketAddr::new(address.into(), port))
}

/// A forwarding mode's number.
fn mode(mode: ForwardMode) -> u16 {
    match mode {
        ForwardMode::Nat => mode::NAT,
        ForwardMode::DsrL2 => mode::DSR_L2,
        ForwardMode::Ipip => mode::IPIP,
        ForwardMode::Gue => mode::GUE,
    }
}

/// A service's flags.
fn flags_of(service: &Service) -> u32 {
    let hash = match service.hash {
        FlowHash::FiveTuple => 0,
        FlowHash::Source => service_flags::HASH_SOURCE,
        FlowHash::SourceDestination => service_flags::HASH_ADDRESSES,
    };
    let tracking = match service.tracking {
        _ if service.mode == ForwardMode::Nat => 0,
        Tracking::Auto => 0,
        Tracking::Always => service_flags::TRACK_ALWAYS,
        Tracking::Never => service_flags::TRACK_NEVER,
    };
    let guard = &service.guard;
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    hash | tracking
        | flag(
            !guard.deny.is_empty() && guard.allow.is_empty(),
            service_flags::RULES,
        )
        | flag(service.affinity.is_some(), service_flags::AFFINITY)
        | (service.quic).map_or(0, |it| {
            service_flags::QUIC | quic::flags::of(it.config_id, it.server_id_length)
        })
        | flag(!guard.allow.is_empty(), service_flags::RULES_ALLOW)
        | flag(guard.packets.is_some(), service_flags::PACKET_LIMIT)
        | flag(guard.connections.is_some(), service_flags::CONNECTION_LIMIT)
}

/// What of a service is looked at only when a flow is opened.
pub(super) fn options(service: &Service) -> ServiceOptions {
    let max_segment_size = service.max_segment_size.map_or(0, u32::from);
    let Some(affinity) = service.affinity else {
        return ServiceOptions {
            max_segment_size,
            ..ServiceOptions::default()
        };
    };
    // Bits from the left, as addresses lie in memory.
    let ipv4 = !u32::MAX.checked_shr(affinity.ipv4_prefix.into()).unwrap_or(0);
    let ipv6 = !u128::MAX.checked_shr(affinity.ipv6_prefix.into()).unwrap_or(0);
    ServiceOptions {
        affinity_ns: affinity.timeout.as_nanos() as u64,
        ipv4_mask: ipv4.to_be(),
        max_segment_size,
        ipv6_mask: Address::from_ipv6(ipv6.to_be_bytes()).words(),
    }
}

/// The key of a source in `affinities`.
pub(super) fn affine_source(service: u32, source: &Address, options: &ServiceOptions) -> SourceKey {
    let [a, b, c, d] = source.words();
    let network = if source.is_ipv4() {
        [a, b, c, d & options.ipv4_mask]
    } else {
        let [e, f, g, h] = options.ipv6_mask;
        [a & e, b & f, c & g, d & h]
    };
    SourceKey { service, network }
}

/// A service at an index.
pub(super) fn service_value(service: &Service, index: u32, tunnel: &TunnelSettings) -> ServiceValue {
    ServiceValue {
        index,
        table_size: service.table_size,
        mode: mode(service.mode),
        gue_port: tunnel.gue_port,
        flags: flags_of(service),
    }
}

/// The outer source for packets to a backend, and which of its last 32 bits vary.
pub(super) fn outer_source(backend: BackendAddr, tunnel: &TunnelSettings) -> (Address, u32) {
    let (address, free) = match backend.0.ip() {
        IpAddr::V4(_) => {
            let prefix = tunnel.source_ipv4;
            (IpAddr::V4(prefix.network()), 32 - prefix.prefix_len())
        }
        IpAddr::V6(_) => {
            let prefix = tunnel.source_ipv6;
            (IpAddr::V6(prefix.network()), 128 - prefix.prefix_len())
        }
    };
    let bits = 1u32.checked_shl(free.into()).map_or(u32::MAX, |bit| bit - 1);
    (address.into(), bits)
}

/// An endpoint's flags, but for LOCAL.
pub(super) fn flags(endpoint: &Endpoint) -> u16 {
    let dead = if endpoint.health == Health::Unhealthy {
        backend_flags::DEAD
    } else {
        0
    };
    let draining = if endpoint.drain || endpoint.weight == 0 {
        backend_flags::DRAINING
    } else {
        0
    };
    dead | draining
}

/// The source address for packets to a backend, and whether the backend is on this host.
///
/// Asked of the kernel: the source it would choose, which for a local address is that address.
/// Without a route it is the unspecified address, and packets are dropped as `no_route`.
pub(super) fn source(backend: BackendAddr, nat: &NatSettings) -> (Address, bool) {
    let ip = backend.0.ip();
    let routed = routed_source(backend.0);
    let is_local = routed == Some(ip);
    let configured: Option<IpAddr> = match ip {
        IpAddr::V4(_) => nat.source_ipv4.map(IpAddr::V4),
        IpAddr::V6(_) => nat.source_ipv6.map(IpAddr::V6),
    };
    let source = configured.or(routed).unwrap_or(match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    (source.into(), is_local)
}

/// Connecting a UDP socket sends nothing: it only resolves the route.
fn routed_source(destination: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(destination).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
