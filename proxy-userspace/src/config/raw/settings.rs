//! What the daemon reads once at start.

use super::{
    AbsolutePath, Duration, FilePath, InterfaceName, Ipv4PrefixText, Ipv4Text, Ipv6PrefixText, Ipv6Text,
    List, ListenAddress, Name, PortRange, ServerAddress, Sha256Text, VipText,
};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// An interface: its name, or a mapping with its name and more.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Interface {
    /// The name alone.
    Name(InterfaceName),
    /// The name and how XDP is attached.
    Settings(InterfaceSettings),
}

/// An interface with settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSettings {
    /// As `ip link` shows it.
    #[schemars(with = "InterfaceName", example = &"eth0")]
    pub(in crate::config) name: Option<InterfaceName>,
    /// How XDP is attached.
    #[schemars(example = &"auto", extend("default" = "auto"))]
    pub(in crate::config) xdp: Option<Xdp>,
}

/// How XDP is attached to an interface.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Xdp {
    /// Native, else generic with a warning.
    Auto,
    /// Native, or the daemon does not start.
    Native,
    /// Generic: works with any driver, slower.
    Generic,
    /// TC programs alone; for `lo`, when clients on this host use a VIP.
    Off,
}

/// Pinned maps and their sizes.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Directory on a bpffs for the maps and links, which outlive the daemon.
    #[schemars(example = &"/sys/fs/bpf/weir", extend("default" = limits::PIN_PATH))]
    pub(in crate::config) pin_path: Option<AbsolutePath>,
    /// Most L4 listeners.
    #[schemars(range(min = 1, max = limits::MAX_SERVICES), example = 1024, extend("default" = limits::SERVICES))]
    pub(in crate::config) max_services: Option<u32>,
    /// Most backends: the endpoints of every listener's cluster, added up.
    #[schemars(range(min = 1, max = limits::MAX_BACKENDS), example = 16384, extend("default" = limits::BACKENDS))]
    pub(in crate::config) max_backends: Option<u32>,
    /// Most NAT flows at a time; each takes about 320 bytes of kernel memory.
    #[schemars(range(min = 1, max = limits::MAX_FLOWS), example = 262_144, extend("default" = limits::FLOWS))]
    pub(in crate::config) max_flows: Option<u32>,
    /// Most flows that are remembered at a time of services in modes other than NAT; each takes about 130 bytes.
    #[schemars(range(min = 1, max = limits::MAX_FLOWS), example = 131_072, extend("default" = limits::TRACKED_FLOWS))]
    pub(in crate::config) max_tracked_flows: Option<u32>,
    /// Most datagrams in fragments that are remembered at a time, about 120 bytes each: their later fragments go where the first went.
    /// 0: fragments for a VIP are dropped.
    #[schemars(range(min = 0, max = limits::MAX_FLOWS), example = 8_192, extend("default" = limits::FRAGMENTS))]
    pub(in crate::config) max_fragments: Option<u32>,
    /// Most clients that are remembered at a time for `affinity`, over all listeners; each takes about 120 bytes. The one that opened no
    /// flow for the longest time makes room.
    #[schemars(range(min = 1, max = limits::MAX_FLOWS), example = 65_536, extend("default" = limits::AFFINITIES))]
    pub(in crate::config) max_affinities: Option<u32>,
    /// Most new flows that are remembered a second, over all listeners, each CPU its part; by default as many as come. Beyond it a new NAT
    /// flow is dropped, and others go where their hash says without being remembered.
    #[schemars(range(min = 1, max = limits::MAX_SOURCE_RATE), example = 50_000)]
    pub(in crate::config) new_flows_per_second: Option<u32>,
}

/// The outer headers of packets in tunnels, modes `ipip` and `gue`.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Outer sources towards IPv4 backends: a prefix, whose free bits vary with the flow so that receivers spread flows over
    /// their queues.
    #[schemars(example = &"172.16.0.0/16", extend("default" = "172.16.0.0/16"))]
    pub(in crate::config) source_ipv4: Option<Ipv4PrefixText>,
    /// Outer sources towards IPv6 backends; of the free bits the last 32 vary.
    #[schemars(example = &"2001:db8:1::/64", extend("default" = "100::/64"))]
    pub(in crate::config) source_ipv6: Option<Ipv6PrefixText>,
    /// UDP port that backends take GUE at.
    #[schemars(range(min = 1, max = 65_535), example = 6_080, extend("default" = limits::GUE_PORT))]
    pub(in crate::config) gue_port: Option<u16>,
}

/// What a host is to the kernel plane.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It balances, and may be a backend too.
    Balancer,
    /// It is a backend alone.
    Backend,
}

/// What a backend of modes other than NAT serves.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Decap {
    /// VIPs, or prefixes of them with up to 1,024 addresses: they become addresses of this host that it tells no neighbour of, and
    /// what tunnels bring for them is delivered.
    #[schemars(with = "Vec<VipText>", length(min = 1), example = json!(["192.0.2.53", "2001:db8::53"]))]
    pub(in crate::config) vips: Option<List<VipText>>,
    /// The largest TCP segment that clients may send to them: a greater MSS is lowered to it in what servers here answer, since
    /// what clients send goes through a tunnel and the answer doesn't. With `auto` what fits into any tunnel by the interfaces' MTU.
    #[schemars(example = &"auto")]
    pub(in crate::config) max_segment_size: Option<SegmentSize>,
}

/// A TCP segment's size: `auto`, or bytes.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(untagged)]
pub enum SegmentSize {
    /// A word.
    Word(SegmentWord),
    /// Bytes.
    Bytes(#[schemars(range(min = limits::MIN_SEGMENT, max = limits::MAX_SEGMENT))] u16),
}

/// A TCP segment's size that follows from others.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum SegmentWord {
    /// What fits.
    Auto,
}

/// What NAT puts into packets for backends.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    /// Source address for IPv4 backends; by default the one that the host's route to each
    /// backend has.
    #[schemars(example = &"192.0.2.1")]
    pub(in crate::config) source_ipv4: Option<Ipv4Text>,
    /// Source address for IPv6 backends; by default the one that the host's route to each
    /// backend has.
    #[schemars(example = &"2001:db8::1")]
    pub(in crate::config) source_ipv6: Option<Ipv6Text>,
    /// First and last source port.
    #[schemars(example = &"1024-32767", extend("default" = limits::nat_ports_text()))]
    pub(in crate::config) ports: Option<PortRange>,
}

/// How names of endpoints are resolved.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// DNS servers, with a port where it is not 53; by default those of /etc/resolv.conf.
    #[schemars(with = "Option<Vec<ServerAddress>>", example = json!(["192.0.2.53", "127.0.0.1:5353"]))]
    pub(in crate::config) servers: Option<List<ServerAddress>>,
}

/// Where metrics are served over TCP, for Prometheus.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Serves GET /metrics, and nothing else, without authentication.
    #[schemars(with = "ListenAddress", example = &"127.0.0.1:9100")]
    pub(in crate::config) address: Option<ListenAddress>,
}

/// The API that `weir status` and `weir endpoint` use.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its UNIX socket; by default /run/weir/admin.sock for root, for others weir/admin.sock in
    /// XDG_RUNTIME_DIR, or /tmp/weir-UID/admin.sock.
    #[schemars(example = &"/run/weir/admin.sock")]
    pub(in crate::config) socket: Option<AbsolutePath>,
    /// Address and port that it listens on by TCP too. Needs `tokens`, or `tls` with `client_ca`.
    #[schemars(example = &"192.0.2.1:9900")]
    pub(in crate::config) address: Option<ServerAddress>,
    /// TLS over TCP; without it `address` is one of this host's own, 127.0.0.1 or ::1.
    #[schemars(example = json!({"cert": "admin.pem", "key": "admin.key"}))]
    pub(in crate::config) tls: Option<AdminTls>,
    /// Tokens that let their holders in over TCP.
    #[schemars(with = "Option<Vec<AdminToken>>", length(min = 1), example = json!([{"name": "ops", "file": "ops.token"}]))]
    pub(in crate::config) tokens: Option<List<AdminToken>>,
    /// File that every change is written to, a JSON object a line. It is opened again on SIGHUP.
    #[schemars(example = &"/var/log/weir/audit.log")]
    pub(in crate::config) audit_log: Option<AbsolutePath>,
}

/// TLS of the API over TCP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminTls {
    /// File with the certificate, and behind it those that it was issued by.
    #[schemars(with = "FilePath", example = &"admin.pem")]
    pub(in crate::config) cert: Option<FilePath>,
    /// File with the certificate's private key.
    #[schemars(with = "FilePath", example = &"admin.key")]
    pub(in crate::config) key: Option<FilePath>,
    /// File with the CAs whose certificates let clients in; beside `tokens` either is enough.
    #[schemars(example = &"operators.pem")]
    pub(in crate::config) client_ca: Option<FilePath>,
}

/// A token: its name, and one of `file` and `sha256`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminToken {
    /// What the audit log calls its holder.
    #[schemars(with = "Name", example = &"ops")]
    pub(in crate::config) name: Option<Name>,
    /// File with the token, which nobody but its owner may read.
    #[schemars(example = &"ops.token")]
    pub(in crate::config) file: Option<FilePath>,
    /// SHA-256 of the token in hexadecimal.
    #[schemars(example = &"fe3dfb7c9bc3998689e29f1a1dbdc21387188fdb31152cf7e5c63242d0dbe382")]
    pub(in crate::config) sha256: Option<Sha256Text>,
    /// Whether its holder may change nothing.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) read_only: Option<bool>,
}

/// What the daemon itself may take.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct OwnLimits {
    /// Bytes of memory from which on new client connections are closed, so that those that are open go on; by default 95 percent of the
    /// control group's limit, where there is one.
    #[schemars(range(min = limits::LEAST_MEMORY, max = limits::MOST_MEMORY), example = 536_870_912)]
    pub(in crate::config) memory_bytes: Option<u64>,
}

/// How long an upgrade, from one process to the next, may take.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Time until the new process serves; then the old one takes back what it handed over.
    #[schemars(example = &"30s", extend("default" = "30s"))]
    pub(in crate::config) ready_timeout: Option<Duration>,
    /// Time for connections of the old process to end; WebSockets and long streams are closed then.
    #[schemars(example = &"10m", extend("default" = "10m"))]
    pub(in crate::config) drain_timeout: Option<Duration>,
}

/// How the daemon is drained, unless `weir drain` is told otherwise.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Time from the moment that `/ready` says no until the listeners close.
    #[schemars(example = &"10s", extend("default" = "10s"))]
    pub(in crate::config) notice: Option<Duration>,
    /// Time after that for connections to end; those left are closed then.
    #[schemars(example = &"10m", extend("default" = "10m"))]
    pub(in crate::config) timeout: Option<Duration>,
}
