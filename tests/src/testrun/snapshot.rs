//! What the program under test is told: services and their backends, in a form that tests change easily.

use super::topology::{ARRIVING, CLOSED, LEAVING, NAT_SOURCE};
use anyhow::Result;
use proxy_common::net::Protocol;
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};
use weir::model::{
    Affinity, BackendAddr, Cluster, ClusterName, DaemonSettings, Endpoint, FlowHash, ForwardMode, Guard,
    Health, IdleTimeouts, Interface, ListenAddr, NatSettings, Quic, Role, SegmentSize, ServerId, Service,
    Snapshot, Span, Tracking, TunnelSettings, XdpMode, l7::L7Settings,
};

/// Slots of a table unless a service says otherwise: a prime small enough to be read back after each change.
pub const TABLE_SIZE: u32 = 251;

/// What clients may send to [`Plan::decap`] in a TCP segment.
pub const DECAP_SEGMENT: u16 = 1_300;

/// Sources that affinity remembers: far more than tests have, since the model never forgets one.
const AFFINITIES: u32 = 65_536;

/// A backend of a [`PlannedService`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedBackend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new flows.
    pub weight: u32,
    /// Keeps its flows, gets no new ones.
    pub drain: bool,
    /// Has lost its flows.
    pub dead: bool,
    /// How connection IDs name it.
    pub server_id: Option<ServerId>,
}

/// A service with a cluster of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedService {
    /// VIP and port.
    pub address: SocketAddr,
    /// Its other addresses and ports.
    pub span: Span,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// How packets get to a backend.
    pub mode: ForwardMode,
    /// Which flows are stored, without NAT.
    pub tracking: Tracking,
    /// Whether a source's flows go to one backend.
    pub affinity: Option<Affinity>,
    /// How its datagrams' connection IDs are read.
    pub quic: Option<Quic>,
    /// The largest TCP segment, with NAT.
    pub max_segment_size: Option<u16>,
    /// Who may send to it, and how much.
    pub guard: Guard,
    /// What picks the backend.
    pub hash: FlowHash,
    /// Slots of its table: a prime.
    pub table_size: u32,
    /// In config order.
    pub backends: Vec<PlannedBackend>,
}

/// Services and NAT's bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// In config order.
    pub services: Vec<PlannedService>,
    /// First and last NAT source port.
    pub ports: (u16, u16),
    /// NAT flows that fit.
    pub max_flows: u32,
    /// Flows that fit into `tracked_flows`.
    pub max_tracked_flows: u32,
    /// Datagrams in fragments that fit into `fragments`.
    pub max_fragments: u32,
    /// What the host is.
    pub role: Role,
    /// VIPs that tunnels bring packets for.
    pub decap_vips: Vec<IpAddr>,
    /// Services and backends that fit.
    pub max_services_backends: (u32, u32),
}

impl PlannedService {
    /// A service whose backends all have weight 1.
    ///
    /// # Errors
    /// Something is not an address with a port.
    pub fn new(address: &str, protocol: Protocol, backends: &[&str]) -> Result<Self> {
        let backends = backends.iter().map(|address| PlannedBackend::new(address));
        let address = address.parse()?;
        Ok(Self {
            address,
            span: Span::single(ListenAddr(address)),
            protocol,
            mode: ForwardMode::Nat,
            tracking: Tracking::Auto,
            affinity: None,
            quic: None,
            max_segment_size: None,
            guard: Guard::default(),
            hash: FlowHash::FiveTuple,
            table_size: TABLE_SIZE,
            backends: backends.collect::<Result<_>>()?,
        })
    }
}

impl PlannedService {
    /// The same at another port.
    pub fn move_to(&mut self, port: u16) {
        self.address.set_port(port);
        self.span = Span::single(ListenAddr(self.address));
    }
}

impl PlannedBackend {
    /// A backend with weight 1.
    ///
    /// # Errors
    /// Not an address with a port.
    pub fn new(address: &str) -> Result<Self> {
        Ok(Self {
            address: address.parse()?,
            weight: 1,
            drain: false,
            dead: false,
            server_id: None,
        })
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: BackendAddr(self.address),
            name: None,
            weight: self.weight,
            drain: self.drain,
            server_id: self.server_id,
            health: if self.dead {
                Health::Unhealthy
            } else {
                Health::Unknown
            },
        }
    }
}

impl Plan {
    /// The snapshot of generation 1, pinned at `pins`.
    ///
    /// # Errors
    /// None today: the addresses are parsed already.
    pub fn snapshot(&self, pins: &Path) -> Result<Snapshot> {
        let name = |at: usize| ClusterName(format!("cluster-{at}").into());
        let service = |(at, planned): (usize, &PlannedService)| Service {
            name: Arc::from(format!("service-{at}")),
            address: ListenAddr(planned.address),
            span: planned.span,
            protocol: planned.protocol,
            cluster: name(at),
            mode: planned.mode,
            tracking: planned.tracking,
            affinity: planned.affinity,
            quic: planned.quic,
            max_segment_size: planned.max_segment_size,
            guard: planned.guard.clone(),
            table_size: planned.table_size,
            hash: planned.hash,
            idle_timeouts: IdleTimeouts::default(),
        };
        let cluster = |(at, planned): (usize, &PlannedService)| {
            let cluster = Cluster {
                name: name(at),
                endpoints: planned.backends.iter().map(PlannedBackend::endpoint).collect(),
                health_check: None,
                dns: Vec::new(),
                l7: L7Settings::default(),
            };
            (name(at), Arc::new(cluster))
        };
        Ok(Snapshot {
            generation: 1,
            listeners: Arc::default(),
            services: Arc::new(self.services.iter().enumerate().map(service).collect()),
            clusters: Arc::new(self.services.iter().enumerate().map(cluster).collect()),
            settings: Arc::new(self.settings(pins)?),
        })
    }

    fn settings(&self, pins: &Path) -> Result<DaemonSettings> {
        let interface = |name: &str| Interface {
            name: name.to_owned(),
            xdp: XdpMode::Native,
        };
        Ok(DaemonSettings {
            interfaces: vec![interface(ARRIVING), interface(LEAVING), interface(CLOSED)],
            pin_path: pins.to_owned(),
            admin_socket: Path::new("/run/weir-test-unused.sock").to_owned(),
            admin: Default::default(),
            metrics_address: None,
            nat: NatSettings {
                source_ipv4: Some(NAT_SOURCE.0.parse()?),
                source_ipv6: Some(NAT_SOURCE.1.parse()?),
                ports: self.ports,
            },
            max_services: self.max_services_backends.0,
            max_backends: self.max_services_backends.1,
            max_flows: self.max_flows,
            max_tracked_flows: self.max_tracked_flows,
            max_fragments: self.max_fragments,
            max_affinities: AFFINITIES,
            new_flows_per_second: None,
            upgrade: Default::default(),
            drain: Default::default(),
            memory_limit: None,
            tracing: None,
            tunnel: TunnelSettings::default(),
            role: self.role,
            decap_vips: self.decap_vips.clone(),
            decap_segment: (!self.decap_vips.is_empty()).then_some(SegmentSize::Bytes(DECAP_SEGMENT)),
            workers: None,
            pin_workers: false,
            dns_servers: Vec::new(),
        })
    }
}
