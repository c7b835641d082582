//! The balancer as the bench's subject: opened through the daemon's own kernel plane.

use super::{
    network::{self, PREFIX},
    programs,
};
use anyhow::{Context, Result, bail};
use aya::{
    maps::{HashMap, Map, MapData},
    programs::ProgramFd,
};
use proxy_common::{
    fragments::FRAGMENTS,
    keys::FlowKey,
    limits,
    net::Protocol,
    values::{FlowValue, flow_flags},
};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use weir::{
    kernel::{KernelCounters, KernelPlane},
    model::{
        BackendAddr, Cluster, ClusterName, DaemonSettings, Endpoint, FlowHash, ForwardMode, Guard, Health,
        IdleTimeouts, Interface, ListenAddr, NatSettings, Role, Service, Snapshot, Span, Tracking,
        TunnelSettings, XdpMode, l7::L7Settings,
    },
};

/// Where maps and links are pinned.
const BPF_FILESYSTEM: &str = "/sys/fs/bpf";

/// Where clients send to, of either family.
pub const VIPS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53)), 53),
];

/// Where backends listen: another port than the VIP's, so that it is rewritten too.
pub const BACKEND_PORT: u16 = 7_000;

/// The source of packets to backends.
pub const NAT_SOURCES: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
);

/// A backend's address of either family: the NAT source's neighbours.
pub fn backend(index: usize) -> [IpAddr; 2] {
    let number = 100 + index as u16;
    [
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, number as u8)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number)),
    ]
}

/// How the balancer serves.
#[derive(Clone, Copy)]
pub struct Serving {
    /// Backends of every service.
    pub backends: usize,
    /// How packets get to them.
    pub mode: ForwardMode,
    /// Which flows are stored.
    pub tracking: Tracking,
    /// Room for flows.
    pub max_flows: u32,
}

impl Serving {
    /// Full NAT.
    pub const fn nat(backends: usize, max_flows: u32) -> Self {
        Self {
            backends,
            mode: ForwardMode::Nat,
            tracking: Tracking::Auto,
            max_flows,
        }
    }
}

/// The running balancer; unloaded when dropped.
pub struct Balancer {
    plane: Option<KernelPlane>,
    pin_path: PathBuf,
}

impl Balancer {
    /// Loads it, attaches it to interfaces of this namespace, and gives it one service per family
    /// and protocol with `backends` backends.
    ///
    /// # Errors
    /// What the kernel plane says.
    pub fn open(role: &str, interfaces: &[&str], serving: &Serving) -> Result<Self> {
        let pin_path = PathBuf::from(format!("{BPF_FILESYSTEM}/{PREFIX}{}-{role}", std::process::id()));
        let settings = settings(&pin_path, interfaces, serving.max_flows);
        let mut this = Self {
            plane: None,
            pin_path,
        };
        let mut plane = KernelPlane::open(&settings)?;
        plane.apply(&snapshot(settings, serving))?;
        this.plane = Some(plane);
        Ok(this)
    }

    /// Where it is pinned.
    pub fn pin_path(&self) -> &std::path::Path {
        &self.pin_path
    }

    /// The balancer's XDP program.
    ///
    /// # Errors
    /// When it isn't pinned where the kernel plane says.
    pub fn program(&self) -> Result<ProgramFd> {
        programs::pinned(&self.pin_path.join("programs/xdp_balancer"))
    }

    /// All counters.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn counters(&self) -> Result<KernelCounters> {
        Ok(self.plane.as_ref().context("no kernel plane")?.counters()?)
    }

    /// Packets forwarded to backends, replies forwarded to clients, flows opened, packets dropped.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn totals(&self) -> Result<[u64; 4]> {
        let counters = self.counters()?;
        let sum = |field: fn(&proxy_common::counters::Counters) -> u64| {
            counters
                .services
                .iter()
                .map(|service| field(&service.counters))
                .sum()
        };
        let drops = counters.drops.iter().map(|(_, count)| count).sum();
        Ok([
            sum(|counters| counters.packets),
            sum(|counters| counters.reply_packets),
            sum(|counters| counters.flows),
            drops,
        ])
    }

    /// From whom and to whom a backend's reply of some flow goes: the backend and NAT's source.
    ///
    /// # Errors
    /// The kernel refused a read, or there is no flow.
    pub fn reply(&self) -> Result<[SocketAddr; 2]> {
        for flow in self.flows()?.iter() {
            let (key, value) = flow?;
            if value.flags & flow_flags::REPLY != 0 {
                let from = SocketAddr::new(key.source.into(), key.source_port);
                return Ok([
                    from,
                    SocketAddr::new(key.destination.into(), key.destination_port),
                ]);
            }
        }
        bail!("no flow is open")
    }

    fn flows(&self) -> Result<HashMap<MapData, FlowKey, FlowValue>> {
        let data = MapData::from_pin(self.pin_path.join("flows"))?;
        Ok(Map::HashMap(data).try_into()?)
    }

    /// Forgets every flow.
    ///
    /// # Errors
    /// The kernel refused a read or a delete.
    pub fn clear_flows(&self) -> Result<()> {
        let mut flows = self.flows()?;
        let keys = flows.keys().collect::<Result<Vec<_>, _>>()?;
        for key in &keys {
            flows.remove(key)?;
        }
        if let Some(left) = flows.keys().next() {
            bail!("a flow is left: {:?}", left?);
        }
        Ok(())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.plane = None;
        if let Err(error) = KernelPlane::unload(&self.pin_path) {
            eprintln!("{}: {error}", self.pin_path.display());
        }
    }
}

/// Unloads what a bench that was killed has left.
///
/// # Errors
/// When a folder can't be read, or what is in it can't be unloaded.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(BPF_FILESYSTEM).into_iter().flatten() {
        let entry = entry?;
        if network::is_orphan(&entry.file_name().to_string_lossy()) {
            KernelPlane::unload(&entry.path())?;
        }
    }
    Ok(())
}

fn settings(pin_path: &std::path::Path, interfaces: &[&str], max_flows: u32) -> DaemonSettings {
    let interface = |name: &&str| Interface {
        name: (*name).into(),
        xdp: XdpMode::Native,
    };
    DaemonSettings {
        interfaces: interfaces.iter().map(interface).collect(),
        pin_path: pin_path.into(),
        admin_socket: PathBuf::from("/nonexistent"),
        admin: Default::default(),
        metrics_address: None,
        nat: NatSettings {
            source_ipv4: Some(NAT_SOURCES.0),
            source_ipv6: Some(NAT_SOURCES.1),
            // All that a namespace of its own has, so that a million flows find one.
            ports: (1_024, 65_535),
        },
        max_services: limits::SERVICES,
        max_backends: limits::BACKENDS,
        max_flows,
        max_tracked_flows: max_flows,
        max_fragments: FRAGMENTS,
        max_affinities: 1_024,
        new_flows_per_second: None,
        upgrade: Default::default(),
        drain: Default::default(),
        memory_limit: None,
        tracing: None,
        tunnel: TunnelSettings::default(),
        role: Role::Balancer,
        decap_vips: Vec::new(),
        decap_segment: None,
        workers: None,
        pin_workers: false,
        dns_servers: Vec::new(),
    }
}

/// One service per family and protocol.
fn snapshot(settings: DaemonSettings, serving: &Serving) -> Snapshot {
    let mut clusters = BTreeMap::new();
    let mut services = Vec::new();
    for (family, vip) in VIPS.into_iter().enumerate() {
        let name = ClusterName(format!("backends-{family}").into());
        let endpoint = |index| Endpoint {
            address: BackendAddr(SocketAddr::new(backend(index)[family], BACKEND_PORT)),
            name: None,
            weight: 1,
            drain: false,
            server_id: None,
            health: Health::Unknown,
        };
        let cluster = Cluster {
            name: name.clone(),
            endpoints: (0..serving.backends).map(endpoint).collect(),
            health_check: None,
            dns: Vec::new(),
            l7: L7Settings::default(),
        };
        clusters.insert(name.clone(), Arc::new(cluster));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            services.push(Service {
                name: format!("service-{family}-{protocol:?}").into(),
                address: ListenAddr(vip),
                span: Span::single(ListenAddr(vip)),
                protocol,
                cluster: name.clone(),
                mode: serving.mode,
                tracking: serving.tracking,
                affinity: None,
                quic: None,
                max_segment_size: None,
                guard: Guard::default(),
                table_size: limits::MAGLEV_SIZE,
                hash: FlowHash::FiveTuple,
                idle_timeouts: IdleTimeouts::default(),
            });
        }
    }
    Snapshot {
        generation: 1,
        listeners: Arc::default(),
        services: Arc::new(services),
        clusters: Arc::new(clusters),
        settings: Arc::new(settings),
    }
}
