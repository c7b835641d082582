//! Listeners: addresses, and what becomes of what comes in.

use super::{
    AccessLog, Duration, FilePath, Forwarded, HostPattern, HttpLimits, HttpTimeouts, List, ListenAddress,
    Name, PathOptions, PrefixText, Route, ServerHeader, ServerTls, Text,
};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Addresses and ports that traffic is taken for. It has exactly one of `forward` (L4, in the
/// kernel), `routes` (HTTP) and `tcp`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    #[schemars(with = "Name", example = &"dns")]
    pub(in crate::config) name: Option<Name>,
    /// VIP and port. With `routes` or `tcp` also a range of ports, or a list of addresses. No two
    /// listeners overlap, but for TCP and UDP.
    #[schemars(with = "ListenAddresses", example = &"192.0.2.53:53")]
    pub(in crate::config) address: Option<ListenAddresses>,
    /// The transport protocol; `udp` only with `forward`.
    #[schemars(example = &"udp", extend("default" = "tcp"))]
    pub(in crate::config) protocol: Option<Protocol>,
    /// Forwards in the kernel (L4).
    #[schemars(example = json!({"cluster": "dns"}))]
    pub(in crate::config) forward: Option<Forward>,
    /// Terminates HTTP/1.1 and HTTP/2; the first route that matches a request is taken.
    #[schemars(with = "Option<Vec<Route>>", length(min = 1), example = json!([{"cluster": "web"}]))]
    pub(in crate::config) routes: Option<List<Route>>,
    /// Passes byte streams on.
    #[schemars(example = json!({"cluster": "db"}))]
    pub(in crate::config) tcp: Option<TcpProxy>,
    /// Terminates TLS.
    #[schemars(example = json!({"certificates": [{"cert": "web.pem", "key": "web.key"}]}))]
    pub(in crate::config) tls: Option<ServerTls>,
    /// Whether every connection starts with a PROXY protocol header, v1 or v2.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) proxy_protocol: Option<bool>,
    /// Most connections at a time over all workers; more wait to be accepted.
    #[schemars(range(min = 1, max = limits::MAX_CONNECTIONS), example = 65_536, extend("default" = limits::CONNECTIONS))]
    pub(in crate::config) max_connections: Option<u32>,
    /// Bounds on what a client may send.
    #[schemars(example = json!({"body_bytes": 1_048_576}))]
    pub(in crate::config) limits: Option<HttpLimits>,
    /// When waiting ends.
    #[schemars(example = json!({"request": "15s"}))]
    pub(in crate::config) timeouts: Option<HttpTimeouts>,
    /// How paths are made canonical, for routes and endpoints alike.
    #[schemars(example = json!({"merge_slashes": true}))]
    pub(in crate::config) path: Option<PathOptions>,
    /// Headers about the client's connection.
    #[schemars(example = json!({"trusted_hops": 1}))]
    pub(in crate::config) forwarded: Option<Forwarded>,
    /// Protocols that a client may upgrade to; by default `websocket`.
    #[schemars(with = "Option<Vec<Text>>", example = json!(["websocket"]), extend("default" = json!(["websocket"])))]
    pub(in crate::config) upgrades: Option<List<Text>>,
    /// Whether gRPC-Web requests become gRPC.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) grpc_web: Option<bool>,
    /// Name that is added to `Via` in both directions.
    #[schemars(example = &"weir")]
    pub(in crate::config) via: Option<Text>,
    /// What becomes of a response's `Server` header.
    #[schemars(example = &"remove", extend("default" = "keep"))]
    pub(in crate::config) server_header: Option<ServerHeader>,
    /// Whether CONNECT is forwarded and tunnelled; else it is refused.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) connect: Option<bool>,
    /// Where requests or connections are logged.
    #[schemars(example = json!({"path": "/dev/stdout"}))]
    pub(in crate::config) access_log: Option<AccessLog>,
}

/// An address, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ListenAddresses {
    /// The only one.
    One(ListenAddress),
    /// Several.
    Several(#[schemars(with = "Vec<ListenAddress>", length(min = 1))] List<ListenAddress>),
}

/// A transport protocol.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a listener's byte streams go: to `cluster`, or by `sni`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProxy {
    /// Name of the cluster that gets what no name of `sni` takes.
    #[schemars(example = &"db")]
    pub(in crate::config) cluster: Option<Name>,
    /// A connection without a byte in either direction for this long is closed.
    #[schemars(example = &"1h", extend("default" = "1h"))]
    pub(in crate::config) idle_timeout: Option<Duration>,
    /// By the server name that TLS clients ask for; TLS passes through untouched. The first match is taken.
    #[schemars(with = "Option<Vec<SniRoute>>", length(min = 1), example = json!([{"hosts": ["*.example.com"], "cluster": "tls"}]))]
    pub(in crate::config) sni: Option<List<SniRoute>>,
}

/// Connections for these server names go to this cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SniRoute {
    /// Server names: `www.example.com`, or `"*.example.com"` for all below.
    #[schemars(with = "Vec<HostPattern>", length(min = 1), example = json!(["*.example.com"]))]
    pub(in crate::config) hosts: Option<List<HostPattern>>,
    /// Name of the cluster.
    #[schemars(with = "Name", example = &"tls")]
    pub(in crate::config) cluster: Option<Name>,
}

/// How a listener's packets are forwarded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Name of the cluster that gets them; its endpoints are of the VIP's family.
    #[schemars(with = "Name", example = &"dns")]
    pub(in crate::config) cluster: Option<Name>,
    /// How packets get to a backend.
    #[schemars(example = &"nat", extend("default" = "nat"))]
    pub(in crate::config) mode: Option<Mode>,
    /// Slots of the Maglev table: a prime, about 100 times the number of endpoints or more. A
    /// change moves flows.
    #[schemars(range(min = limits::MIN_TABLE_SIZE, max = limits::MAGLEV_SIZE_MAX), example = 65_537, extend("default" = limits::MAGLEV_SIZE))]
    pub(in crate::config) table_size: Option<u32>,
    /// What of a packet picks its backend: with `source` all that a client sends to the service goes to one. A change
    /// is for new flows.
    #[schemars(example = &"source", extend("default" = "five_tuple"))]
    pub(in crate::config) hash: Option<FlowHash>,
    /// Which flows the kernel remembers the backend of. With NAT it is all of them.
    #[schemars(example = &"auto", extend("default" = "auto"))]
    pub(in crate::config) tracking: Option<Tracking>,
    /// A client's new flows go to the endpoint of its last one, however the endpoints' weights change meanwhile.
    #[schemars(example = json!({"timeout": "3h"}))]
    pub(in crate::config) affinity: Option<Affinity>,
    /// Datagrams go to the endpoint that their QUIC connection ID names by its `server_id`, whatever address they come from.
    #[schemars(example = json!({"server_id_length": 2}))]
    pub(in crate::config) quic: Option<Quic>,
    /// The largest TCP segment that either end may send, with NAT: a greater MSS is lowered to it in the handshake. For networks
    /// where path MTU discovery doesn't work.
    #[schemars(range(min = limits::MIN_SEGMENT, max = limits::MAX_SEGMENT), example = 1_360)]
    pub(in crate::config) max_segment_size: Option<u16>,
    /// Sources that may send to the service: if any are listed, no others may. Of `allow` and `deny` the longest prefix decides.
    #[schemars(with = "Option<Vec<PrefixText>>", example = json!(["192.0.2.0/24"]))]
    pub(in crate::config) allow: Option<List<PrefixText>>,
    /// Files of such prefixes, one a line, `#` before comments.
    #[schemars(with = "Option<Vec<FilePath>>", example = json!(["allowed.txt"]))]
    pub(in crate::config) allow_files: Option<List<FilePath>>,
    /// Sources that may not.
    #[schemars(with = "Option<Vec<PrefixText>>", example = json!(["198.51.100.0/24", "2001:db8:bad::/48"]))]
    pub(in crate::config) deny: Option<List<PrefixText>>,
    /// Files of such prefixes.
    #[schemars(with = "Option<Vec<FilePath>>", example = json!(["denied.txt"]))]
    pub(in crate::config) deny_files: Option<List<FilePath>>,
    /// What one source may send: an IPv4 address, or an IPv6 /64.
    #[schemars(example = json!({"connections": {"per_second": 100}}))]
    pub(in crate::config) limits: Option<SourceLimits>,
    /// After how long without a packet a flow ends.
    #[schemars(example = json!({"tcp": "2h30m", "udp": "120s"}))]
    pub(in crate::config) idle_timeouts: Option<IdleTimeouts>,
}

/// Which of a client's flows go to one endpoint. All flows of the service are remembered for it.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// How long after a flow was opened the client's next one follows it; whole seconds.
    #[schemars(example = &"3h", extend("default" = "3h"))]
    pub(in crate::config) timeout: Option<Duration>,
    /// First bits of an IPv4 address that count as one client.
    #[schemars(range(min = 1, max = 32), example = 24, extend("default" = 32))]
    pub(in crate::config) ipv4_prefix: Option<u8>,
    /// First bits of an IPv6 address that count as one client.
    #[schemars(range(min = 1, max = 128), example = 64, extend("default" = 128))]
    pub(in crate::config) ipv6_prefix: Option<u8>,
}

/// Connection IDs that name an endpoint: QUIC-LB (draft-ietf-quic-load-balancers), plaintext. In such an ID's first octet the three
/// high bits are the config ID; the server ID follows it, and then 4 bytes or more that are the server's own.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Quic {
    /// Bytes of the endpoints' server IDs.
    #[schemars(with = "u8", range(min = 1, max = 15), example = 2)]
    pub(in crate::config) server_id_length: Option<u8>,
    /// The config ID of the endpoints' connection IDs; IDs with another one name nobody.
    #[schemars(range(min = 0, max = 6), example = 0, extend("default" = 0))]
    pub(in crate::config) config_id: Option<u8>,
}

/// What one source may send to a service.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct SourceLimits {
    /// Packets.
    #[schemars(example = json!({"per_second": 10_000, "burst": 20_000}))]
    pub(in crate::config) packets: Option<SourceRate>,
    /// TCP connections that it opens.
    #[schemars(example = json!({"per_second": 100}))]
    pub(in crate::config) connections: Option<SourceRate>,
}

/// A token bucket.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct SourceRate {
    /// Tokens a second.
    #[schemars(with = "u32", range(min = 1, max = limits::MAX_SOURCE_RATE), example = 100)]
    pub(in crate::config) per_second: Option<u32>,
    /// Tokens that it holds: how many may come at once. By default as many as come in a second.
    #[schemars(range(min = 1, max = limits::MAX_SOURCE_RATE), example = 200)]
    pub(in crate::config) burst: Option<u32>,
}

/// What of a packet picks its backend.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum FlowHash {
    /// Addresses, ports and protocol: every flow by itself.
    FiveTuple,
    /// The client's address.
    Source,
    /// The client's address and the VIP.
    SourceDestination,
}

/// How packets get to a backend.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Full NAT: addresses and ports of both ends are translated, so that backends need no
    /// change.
    Nat,
    /// Direct server return to backends on the same link: they get the packet as it is, have the VIP themselves, and answer
    /// the client directly.
    #[serde(rename = "dsr-l2")]
    DsrL2,
    /// Direct server return through IP in IP, to backends anywhere.
    Ipip,
    /// Direct server return through Generic UDP Encapsulation.
    Gue,
}

/// Which flows the kernel remembers the backend of, in modes other than NAT.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Tracking {
    /// Those that a change of the endpoints would move otherwise: no running flow moves while its backend lives.
    Auto,
    /// All, as Katran does.
    Always,
    /// None: every packet follows the Maglev table. For stateless protocols.
    Never,
}

/// After how long without a packet in either direction a flow ends; whole seconds.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct IdleTimeouts {
    /// TCP connections, established.
    #[schemars(example = &"2h30m", extend("default" = "2h30m"))]
    pub(in crate::config) tcp: Option<Duration>,
    /// TCP before the backend's first answer.
    #[schemars(example = &"60s", extend("default" = "1m"))]
    pub(in crate::config) tcp_opening: Option<Duration>,
    /// TCP after a FIN or RST from either side.
    #[schemars(example = &"60s", extend("default" = "1m"))]
    pub(in crate::config) tcp_closing: Option<Duration>,
    /// UDP.
    #[schemars(example = &"120s", extend("default" = "2m"))]
    pub(in crate::config) udp: Option<Duration>,
}
