//! Just what was typed: the shape of a config, from which the JSON Schema is generated too.
//!
//! Every value is optional here, required or not: a mistake takes its value away, so that all the
//! others can still be checked. What is required is said by the schema (`schemars(with = …)` without
//! an `Option`), which `structure` holds every file against before these types see it.

use super::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// A list; an element that could not be used is none, so that positions stay as they were typed.
pub(super) type List<T> = Vec<Option<T>>;

/// A config of Weir: what to listen on, and where it goes.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interfaces the kernel programs are attached to: those that clients and backends are
    /// reached by. Changes need a restart.
    #[schemars(with = "Option<Vec<Interface>>", example = json!(["eth0"]))]
    pub(super) interfaces: Option<List<Interface>>,
    /// Where the kernel's maps are kept and how many entries they hold. Changes need a restart.
    #[schemars(example = json!({"max_flows": 262_144}))]
    pub(super) kernel: Option<Kernel>,
    /// The addresses and ports that NAT gives to packets for backends. Changes need a restart.
    #[schemars(example = json!({"source_ipv4": "192.0.2.1"}))]
    pub(super) nat: Option<Nat>,
    /// The local API. Changes need a restart.
    #[schemars(example = json!({"socket": "/run/weir/admin.sock"}))]
    pub(super) admin: Option<Admin>,
    /// What traffic is taken, and where it goes.
    #[schemars(with = "Option<Vec<Listener>>", example = json!([{"name": "dns", "address": "192.0.2.53:53", "forward": {"cluster": "dns"}}]))]
    pub(super) listeners: Option<List<Listener>>,
    /// Named sets of endpoints.
    #[schemars(with = "Option<Vec<Cluster>>", example = json!([{"name": "dns", "endpoints": ["192.0.2.11:53"]}]))]
    pub(super) clusters: Option<List<Cluster>>,
}

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
    pub(super) name: Option<InterfaceName>,
    /// How XDP is attached.
    #[schemars(example = &"auto", extend("default" = "auto"))]
    pub(super) xdp: Option<Xdp>,
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
    pub(super) pin_path: Option<AbsolutePath>,
    /// Most L4 listeners.
    #[schemars(range(min = 1, max = limits::MAX_SERVICES), example = 1024, extend("default" = limits::SERVICES))]
    pub(super) max_services: Option<u32>,
    /// Most backends: the endpoints of every listener's cluster, added up.
    #[schemars(range(min = 1, max = limits::MAX_BACKENDS), example = 16384, extend("default" = limits::BACKENDS))]
    pub(super) max_backends: Option<u32>,
    /// Most NAT flows at a time; each takes about 320 bytes of kernel memory.
    #[schemars(range(min = 1, max = limits::MAX_FLOWS), example = 262_144, extend("default" = limits::FLOWS))]
    pub(super) max_flows: Option<u32>,
}

/// What NAT puts into packets for backends.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    /// Source address for IPv4 backends; by default the one that the host's route to each
    /// backend has.
    #[schemars(example = &"192.0.2.1")]
    pub(super) source_ipv4: Option<Ipv4Text>,
    /// Source address for IPv6 backends; by default the one that the host's route to each
    /// backend has.
    #[schemars(example = &"2001:db8::1")]
    pub(super) source_ipv6: Option<Ipv6Text>,
    /// First and last source port.
    #[schemars(example = &"1024-32767", extend("default" = limits::nat_ports_text()))]
    pub(super) ports: Option<PortRange>,
}

/// The local API that `weir status` and `weir endpoint` use.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its UNIX socket.
    #[schemars(example = &"/run/weir/admin.sock", extend("default" = limits::ADMIN_SOCKET))]
    pub(super) socket: Option<AbsolutePath>,
}

/// A VIP, port and protocol that traffic is taken for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    #[schemars(with = "Name", example = &"dns")]
    pub(super) name: Option<Name>,
    /// VIP and port; with the protocol it is unique.
    #[schemars(with = "SocketAddress", example = &"192.0.2.53:53")]
    pub(super) address: Option<SocketAddress>,
    /// The transport protocol.
    #[schemars(example = &"udp", extend("default" = "tcp"))]
    pub(super) protocol: Option<Protocol>,
    /// Forwards in the kernel (L4).
    #[schemars(with = "Forward", example = json!({"cluster": "dns"}))]
    pub(super) forward: Option<Forward>,
}

/// A transport protocol.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How a listener's packets are forwarded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Name of the cluster that gets them; its endpoints are of the VIP's family.
    #[schemars(with = "Name", example = &"dns")]
    pub(super) cluster: Option<Name>,
    /// How packets get to a backend.
    #[schemars(example = &"nat", extend("default" = "nat"))]
    pub(super) mode: Option<Mode>,
    /// Slots of the Maglev table: a prime, about 100 times the number of endpoints or more. A
    /// change moves flows.
    #[schemars(range(min = limits::MIN_TABLE_SIZE, max = limits::MAGLEV_SIZE_MAX), example = 65_537, extend("default" = limits::MAGLEV_SIZE))]
    pub(super) table_size: Option<u32>,
    /// After how long without a packet a flow ends.
    #[schemars(example = json!({"tcp": "2h30m", "udp": "120s"}))]
    pub(super) idle_timeouts: Option<IdleTimeouts>,
}

/// How packets get to a backend.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Full NAT: addresses and ports of both ends are translated, so that backends need no
    /// change.
    Nat,
}

/// After how long without a packet in either direction a flow ends; whole seconds.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct IdleTimeouts {
    /// TCP connections, established.
    #[schemars(example = &"2h30m", extend("default" = "2h30m"))]
    pub(super) tcp: Option<Duration>,
    /// TCP before the backend's first answer.
    #[schemars(example = &"60s", extend("default" = "1m"))]
    pub(super) tcp_opening: Option<Duration>,
    /// TCP after a FIN or RST from either side.
    #[schemars(example = &"60s", extend("default" = "1m"))]
    pub(super) tcp_closing: Option<Duration>,
    /// UDP.
    #[schemars(example = &"120s", extend("default" = "2m"))]
    pub(super) udp: Option<Duration>,
}

/// A named set of endpoints that serve the same thing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Unique among clusters.
    #[schemars(with = "Name", example = &"dns")]
    pub(super) name: Option<Name>,
    /// Where it is served; each address once.
    #[schemars(with = "Vec<Endpoint>", length(min = 1), example = json!(["192.0.2.11:53"]))]
    pub(super) endpoints: Option<List<Endpoint>>,
    /// How endpoints are probed; without it all are taken for healthy.
    #[schemars(example = json!({"tcp": {}, "interval": "2s"}))]
    pub(super) health_check: Option<HealthCheck>,
}

/// An endpoint: its address, or a mapping with its address and more.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoint {
    /// The address alone, with weight 1.
    Address(SocketAddress),
    /// The address and more.
    Settings(EndpointSettings),
}

/// An endpoint with settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// IP address and port.
    #[schemars(with = "SocketAddress", example = &"192.0.2.11:53")]
    pub(super) address: Option<SocketAddress>,
    /// Relative share of new flows; 0 for none.
    #[schemars(range(min = 0, max = limits::MAX_WEIGHT), example = 2, extend("default" = 1))]
    pub(super) weight: Option<u32>,
    /// Whether it keeps the flows it has and gets no new ones.
    #[schemars(example = true, extend("default" = false))]
    pub(super) drain: Option<bool>,
}

/// How a cluster's endpoints are probed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Connects by TCP and closes.
    #[schemars(with = "TcpCheck", example = json!({}))]
    pub(super) tcp: Option<TcpCheck>,
    /// Time between two probes of an endpoint.
    #[schemars(example = &"2s", extend("default" = "2s"))]
    pub(super) interval: Option<Duration>,
    /// Time a probe may take; no longer than the interval.
    #[schemars(example = &"1s", extend("default" = "1s"))]
    pub(super) timeout: Option<Duration>,
    /// Passes in a row until an endpoint is healthy.
    #[schemars(range(min = 1, max = limits::MAX_PROBES), example = 2, extend("default" = limits::RISE))]
    pub(super) rise: Option<u32>,
    /// Failures in a row until an endpoint is unhealthy: it then gets no new flows and loses
    /// those it has.
    #[schemars(range(min = 1, max = limits::MAX_PROBES), example = 3, extend("default" = limits::FALL))]
    pub(super) fall: Option<u32>,
}

/// A probe that connects by TCP and closes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// Port to probe; by default the endpoint's own.
    #[schemars(range(min = 1, max = 65535), example = 8080)]
    pub(super) port: Option<u16>,
}

macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $pattern:expr) => {
        $(#[$meta])*
        #[derive(Deserialize, JsonSchema, Clone)]
        #[serde(transparent)]
        pub struct $name(#[schemars(regex(pattern = $pattern))] pub(super) String);
    };
}

text!(
    /// A name: letters, digits, `-`, `_` and `.`, up to 64, a letter or digit first.
    Name,
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
);
text!(
    /// The name of a network interface, up to 15 bytes.
    InterfaceName,
    "^[^/:\\s]{1,15}$"
);
text!(
    /// An IP address and port: `192.0.2.11:53`, or `"[2001:db8::11]:53"` with brackets and quotes.
    SocketAddress,
    "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"
);
text!(
    /// An IPv4 address: `192.0.2.1`.
    Ipv4Text,
    "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$"
);
text!(
    /// An IPv6 address: `2001:db8::1`.
    Ipv6Text,
    "^[0-9A-Fa-f:.]+$"
);
text!(
    /// Whole numbers with units `h`, `m`, `s` and `ms`, the greater unit first: `2s`, `500ms`, `2h30m`.
    Duration,
    "^([0-9]+(h|m|s|ms))+$"
);
text!(
    /// First and last port: `1024-32767`.
    PortRange,
    "^[0-9]{1,5} *- *[0-9]{1,5}$"
);
text!(
    /// A path that starts with `/`.
    AbsolutePath,
    "^/"
);
