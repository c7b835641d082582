//! The Snapshot: everything the planes need, at one generation.

use super::{
    AdminSettings, Cluster, ClusterName, Service, Tracing,
    l7::{Listener, PortRange},
};
use ipnet::{Ipv4Net, Ipv6Net};
use proxy_common::{limits, net::Protocol};
use std::{
    collections::BTreeMap,
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Clusters by name. Two Snapshots share those that are the same in both.
pub type Clusters = BTreeMap<ClusterName, Arc<Cluster>>;

/// Immutable; only `control` builds one. A clone is cheap, and what the next one leaves as it was it shares: so a change of one
/// endpoint costs no look at 100,000 others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Counts the snapshots of this daemon, from 1.
    pub generation: u64,
    /// L4 services in config order.
    pub services: Arc<Vec<Service>>,
    /// L7 listeners in config order.
    pub listeners: Arc<Vec<Listener>>,
    /// By name.
    pub clusters: Arc<Clusters>,
    /// What is read once at start; a change asks for a restart.
    pub settings: Arc<DaemonSettings>,
}

impl Snapshot {
    /// The clusters that are not shared with another Snapshot: all that differ are among them. Costs a look at each name.
    pub fn clusters_besides<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Arc<Cluster>> {
        let are_all = !Arc::ptr_eq(&self.clusters, &other.clusters);
        let mut others = other.clusters.iter().peekable();
        let ours = self.clusters.iter().take(if are_all { usize::MAX } else { 0 });
        ours.filter(move |(name, cluster)| {
            while others.next_if(|(other, _)| other < name).is_some() {}
            let other = others.next_if(|(other, _)| other == name);
            other.is_none_or(|(_, other)| !Arc::ptr_eq(other, cluster))
        })
        .map(|(_, cluster)| cluster)
    }
}

impl Snapshot {
    /// The service that packets to this address and port are for, as the programs find it: the one that begins there; else by
    /// the longest prefix of the address, of two alike the one with fewer ports.
    pub fn service_of(&self, address: SocketAddr, protocol: Protocol) -> Option<&Service> {
        let of_protocol = || {
            self.services
                .iter()
                .filter(move |service| service.protocol == protocol)
        };
        let begins = |service: &&Service| service.address.0 == address;
        let rank = |service: &&Service| {
            let ports = service.span.last_port - service.address.0.port();
            (service.span.prefix_bits, u16::MAX - ports)
        };
        let sockets = self.listeners.iter().flat_map(|listener| &listener.addresses);
        let is_of_sockets =
            |range: &PortRange| range.address == address.ip() && range.contains(address.ip(), address.port());
        of_protocol().find(begins).or_else(|| {
            if protocol == Protocol::Tcp && sockets.clone().any(is_of_sockets) {
                return None;
            }
            let has = |service: &&Service| service.span.contains(service.address, address);
            of_protocol().filter(has).max_by_key(rank)
        })
    }
}

/// Settings of the daemon itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSettings {
    /// Interfaces the kernel programs are attached to.
    pub interfaces: Vec<Interface>,
    /// Directory on a bpffs for maps and links.
    pub pin_path: PathBuf,
    /// UNIX socket of the admin API.
    pub admin_socket: PathBuf,
    /// The admin API beside it.
    pub admin: AdminSettings,
    /// Where metrics are served over TCP.
    pub metrics_address: Option<SocketAddr>,
    /// Worker threads of the L7 plane; none for one a core.
    pub workers: Option<u16>,
    /// Whether worker N is pinned to the N-th CPU it may run on.
    pub pin_workers: bool,
    /// DNS servers to ask; empty for those of /etc/resolv.conf.
    pub dns_servers: Vec<SocketAddr>,
    /// NAT sources and ports.
    pub nat: NatSettings,
    /// What this host is to the kernel plane.
    pub role: Role,
    /// VIPs that tunnels from balancers bring packets for.
    pub decap_vips: Vec<IpAddr>,
    /// The largest TCP segment that clients may send to these; none for what servers say.
    pub decap_segment: Option<SegmentSize>,
    /// Outer sources and ports.
    pub tunnel: TunnelSettings,
    /// Most services, a map size.
    pub max_services: u32,
    /// Most backends over all services, a map size.
    pub max_backends: u32,
    /// Most NAT flows, a map size (two entries each).
    pub max_flows: u32,
    /// Most flows stored of services without NAT, a map size.
    pub max_tracked_flows: u32,
    /// Most datagrams in fragments that are remembered, a map size; 0 for none, whose fragments are dropped.
    pub max_fragments: u32,
    /// Most sources remembered for affinity, a map size.
    pub max_affinities: u32,
    /// New flows that the kernel plane stores a second; none for as many as come.
    pub new_flows_per_second: Option<u32>,
    /// How long an upgrade may take.
    pub upgrade: UpgradeTimeouts,
    /// How the daemon is drained.
    pub drain: DrainTimes,
    /// Bytes of memory from which on new client connections are closed; none for what the control group says.
    pub memory_limit: Option<u64>,
    /// How requests are traced; none for not at all.
    pub tracing: Option<Arc<Tracing>>,
}

/// How the daemon is drained, unless who asks for it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainTimes {
    /// From the moment that it isn't ready any more until its listeners close.
    pub notice: Duration,
    /// From then until connections that are left are closed.
    pub timeout: Duration,
}

impl Default for DrainTimes {
    fn default() -> Self {
        Self {
            // Two looks of a health check that comes every 5 s.
            notice: Duration::from_secs(10),
            timeout: UpgradeTimeouts::default().drain,
        }
    }
}

/// How long an upgrade may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpgradeTimeouts {
    /// Until then the new process has to serve, or the old one takes back.
    pub ready: Duration,
    /// Connections of the old process end by then.
    pub drain: Duration,
}

impl Default for UpgradeTimeouts {
    fn default() -> Self {
        Self {
            // Programs and certificates are loaded within a few.
            ready: Duration::from_secs(30),
            // Envoy's --drain-time-s.
            drain: Duration::from_secs(600),
        }
    }
}

/// The largest TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentSize {
    /// What fits into every tunnel over this host's interfaces.
    Fitting,
    /// Bytes.
    Bytes(u16),
}

impl DaemonSettings {
    /// Where maps and links are pinned unless configured.
    pub const PIN_PATH: &str = "/sys/fs/bpf/weir";
    /// The admin API's socket unless configured, of a daemon that root runs.
    pub const ADMIN_SOCKET: &str = "/run/weir/admin.sock";

    /// Where what outlives the daemon is kept unless configured, of a daemon with that socket.
    pub const STATE_DIRECTORY: &str = "/var/lib/weir";

    /// Where what outlives the daemon is kept unless configured: [`Self::STATE_DIRECTORY`] where the socket is root's default, whose
    /// directory doesn't outlive the host's next boot; else beside the socket, so that daemons beside each other have one each.
    pub fn default_state_directory(socket: &Path) -> PathBuf {
        if socket == Path::new(Self::ADMIN_SOCKET) {
            return PathBuf::from(Self::STATE_DIRECTORY);
        }
        socket.parent().unwrap_or(Path::new("/")).into()
    }

    /// The admin API's socket unless configured: [`Self::ADMIN_SOCKET`] for root; for others, who can't write there,
    /// `weir/admin.sock` in `XDG_RUNTIME_DIR`, or in `/tmp/weir-UID` where that is not set.
    pub fn default_admin_socket() -> PathBuf {
        let user = rustix::process::geteuid();
        if user.is_root() {
            return PathBuf::from(Self::ADMIN_SOCKET);
        }
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match runtime.filter(|directory| directory.is_absolute()) {
            Some(directory) => directory.join("weir/admin.sock"),
            None => PathBuf::from(format!("/tmp/weir-{}/admin.sock", user.as_raw())),
        }
    }
}

/// What a host is to the kernel plane.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Role {
    /// It balances, and may be a backend too.
    #[default]
    Balancer,
    /// It is a backend, and nothing else.
    Backend,
}

/// An interface by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// As `ip link` shows it.
    pub name: String,
    /// How XDP is attached.
    pub xdp: XdpMode,
}

/// How XDP is attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// Native, else generic with a warning.
    Auto,
    /// Native or fail.
    Native,
    /// Generic: any driver, slower.
    Generic,
    /// TC programs alone; for `lo`, when clients on this host use a VIP routed there.
    Off,
}

/// Addresses and ports that NAT gives to packets on their way to a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatSettings {
    /// Source address for IPv4 backends; by default the one the kernel's route to each backend has.
    pub source_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source_ipv6: Option<Ipv6Addr>,
    /// First and last source port.
    pub ports: (u16, u16),
}

/// What tunnels' outer headers hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSettings {
    /// Outer IPv4 sources: the bits behind the prefix vary with the flow.
    pub source_ipv4: Ipv4Net,
    /// The same for IPv6, in the last 32 bits at most.
    pub source_ipv6: Ipv6Net,
    /// UDP port that GUE packets are sent to.
    pub gue_port: u16,
}

impl Default for TunnelSettings {
    /// Katran's IPv4 source, and the prefix that IPv6 has for what leads nowhere (RFC 6666): nobody answers an outer header.
    fn default() -> Self {
        Self {
            source_ipv4: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16),
            source_ipv6: Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
            gue_port: limits::GUE_PORT,
        }
    }
}
