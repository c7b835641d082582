//! What `GET /status` answers: the types shared by the daemon, the command line and the tests.

use super::drain::DrainStatus;
use crate::model::Endpoint;
use proxy_common::counters::Counters;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, ops::Add};

/// Everything `weir status` shows.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct Status {
    /// Weir's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started_unix_seconds: u64,
    /// The generation of the snapshot that is wanted.
    pub generation: u64,
    /// Whether traffic should be sent here.
    pub drain: DrainStatus,
    /// What the kernel plane runs.
    pub kernel: KernelStatus,
    /// Why the last change was refused; null once a later one of its kind went through.
    pub last_error: Option<ErrorStatus>,
    /// What deserves attention but stops nothing.
    pub warnings: Vec<String>,
    /// In config order.
    pub services: Vec<ServiceStatus>,
    /// What the L7 plane runs.
    pub l7: L7Status,
}

/// The L7 plane.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct L7Status {
    /// The generation that was published last.
    pub generation: Option<u64>,
    /// How connections reach workers: `sk_lookup` or `reuseport`.
    pub steering: String,
    /// In order.
    pub workers: Vec<WorkerStatus>,
    /// In config order.
    pub listeners: Vec<ListenerStatus>,
    /// Memory, which connections take most of.
    #[serde(default)]
    pub memory: MemoryStatus,
}

/// The daemon's memory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, Debug)]
pub struct MemoryStatus {
    /// What it has.
    pub resident_bytes: u64,
    /// What it may have: by `limits.memory_bytes`, else by its control group.
    pub limit_bytes: Option<u64>,
    /// `none`; `near` the limit, where idle connections are closed sooner; `full`, where new ones are closed.
    pub shortage: String,
}

/// One worker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct WorkerStatus {
    /// The generation it serves.
    pub generation: u64,
    /// Client connections open now.
    pub connections: u64,
    /// Client connections ever.
    pub accepted: u64,
    /// HTTP requests, and TCP connections forwarded.
    pub requests: u64,
    /// Responses: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
    /// TLS handshakes that failed, by reason, those that happened.
    pub handshakes_failed: BTreeMap<String, u64>,
    /// Failures to accept, for want of file descriptors or memory.
    pub accept_errors: u64,
    /// Client connections closed at once, for want of memory.
    #[serde(default)]
    pub refused: u64,
    /// Panics, each a bug of weir that ended a connection, a stream or the worker itself.
    #[serde(default)]
    pub panics: u64,
    /// How often another thread took the place of one that had ended.
    #[serde(default)]
    pub replaced: u64,
    /// Its thread has ended and another one takes its place in a moment: connections wait for it.
    #[serde(default)]
    pub missing: bool,
}

/// An L7 listener.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Addresses and ports.
    pub addresses: Vec<String>,
    /// `http`, `https`, `tcp`, `tls` (TCP inside TLS).
    pub protocol: String,
    /// How many routes it has.
    pub routes: usize,
    /// Names and the seconds since 1970 at which their certificates end.
    pub certificates: BTreeMap<String, i64>,
    /// Why its access log can't be written now.
    #[serde(default)]
    pub log_error: Option<String>,
    /// Lines of its access log's file that were dropped, since the file was opened.
    #[serde(default)]
    pub log_lines_dropped: u64,
}

/// The kernel plane.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct KernelStatus {
    /// The generation its maps hold; null without a kernel plane.
    pub generation: Option<u64>,
    /// Why there is no kernel plane.
    pub absent: Option<String>,
    /// Where its maps and links are pinned.
    pub pin_path: String,
    /// In config order.
    pub interfaces: Vec<InterfaceStatus>,
    /// NAT flows in the table at the last sweep.
    pub flows: u64,
    /// Flows remembered then of services in other modes.
    pub tracked_flows: u64,
    /// Every drop reason, in the order of their codes.
    pub drops: Vec<DropStatus>,
    /// What became of lookups for L7 addresses, about one a connection: every outcome, in the order of their codes.
    pub steering: Vec<SteeringStatus>,
    /// What became of packets that came through tunnels: every outcome, in the order of their codes.
    pub decap: Vec<DecapStatus>,
}

/// Packets that came through tunnels with this outcome.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct DecapStatus {
    /// The outcome's label.
    pub outcome: String,
    /// Since the maps were made.
    pub packets: u64,
}

/// Lookups for L7 addresses with this outcome.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct SteeringStatus {
    /// The outcome's label.
    pub outcome: String,
    /// Since the maps were made.
    pub connections: u64,
}

/// A configured interface.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `off`; `absent` where there is no such interface, `refused` where another XDP program is on it.
    pub xdp: String,
    /// Why it is generic when native was wanted, absent or refused.
    pub warning: Option<String>,
}

/// Packets dropped for one reason.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct DropStatus {
    /// The reason's label.
    pub reason: String,
    /// Since the maps were made.
    pub packets: u64,
}

/// Something that went wrong.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ErrorStatus {
    /// What, and what to do.
    pub error: String,
    /// When, seconds since 1970.
    pub at_unix_seconds: u64,
}

/// An L4 service.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ServiceStatus {
    /// The listener's name.
    pub name: String,
    /// VIP and port.
    pub address: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `nat`, `dsr-l2`, `ipip` or `gue`.
    pub mode: String,
    /// Where its flows go.
    pub cluster: String,
    /// Null when no kernel plane counts.
    pub counters: Option<CounterStatus>,
    /// In config order.
    pub backends: Vec<BackendStatus>,
}

/// An endpoint as a backend of one service.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct BackendStatus {
    /// Where it listens.
    pub address: String,
    /// The weight wanted: the config's, or an override.
    pub weight: u32,
    /// The weight in force: 0 while draining or unhealthy.
    pub effective_weight: u32,
    /// Its part of the service's slots, in percent: exact to one slot of the table.
    pub share_percent: f64,
    /// Health and drain in one word.
    pub state: BackendState,
    /// Keeps its flows, gets no new ones.
    pub drain: bool,
    /// What the config says, where `weir endpoint set` said otherwise.
    pub overridden: Option<ConfiguredStatus>,
    /// Null when its cluster has no health check.
    pub health: Option<HealthStatus>,
    /// Null when no kernel plane counts.
    pub counters: Option<CounterStatus>,
}

/// Health and drain in one word; unhealthy goes before draining.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// Its check passes.
    Healthy,
    /// Its check fails: no new flows, and the old ones have ended.
    Unhealthy,
    /// No verdict yet, or no check: gets flows.
    Unknown,
    /// Keeps its flows, gets no new ones.
    Draining,
}

/// What the config says about an endpoint that is overridden.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ConfiguredStatus {
    /// Its weight.
    pub weight: u32,
    /// Whether it drains.
    pub drain: bool,
}

/// A health check's history in short.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct HealthStatus {
    /// What the last probe that failed met.
    pub last_error: Option<String>,
    /// When the verdict last changed, seconds since 1970; null before the first one.
    pub changed_unix_seconds: Option<u64>,
}

/// A service's or backend's counters, summed over CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, Debug)]
pub struct CounterStatus {
    /// Packets from clients that were forwarded.
    pub packets: u64,
    /// Their frame bytes.
    pub bytes: u64,
    /// Packets from backends that were forwarded.
    pub reply_packets: u64,
    /// Their frame bytes.
    pub reply_bytes: u64,
    /// Flows opened.
    pub flows: u64,
    /// Packets from clients that were dropped after the service was known.
    pub drops: u64,
    /// Without NAT: packets whose flow was to be remembered and was not, since the table was full or too many came.
    #[serde(default)]
    pub untracked: u64,
}

impl Add for CounterStatus {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            bytes: self.bytes + more.bytes,
            reply_packets: self.reply_packets + more.reply_packets,
            reply_bytes: self.reply_bytes + more.reply_bytes,
            flows: self.flows + more.flows,
            drops: self.drops + more.drops,
            untracked: self.untracked + more.untracked,
        }
    }
}

impl From<Counters> for CounterStatus {
    fn from(counters: Counters) -> Self {
        Self {
            packets: counters.packets,
            bytes: counters.bytes,
            reply_packets: counters.reply_packets,
            reply_bytes: counters.reply_bytes,
            flows: counters.flows,
            drops: counters.drops,
            untracked: counters.untracked,
        }
    }
}

/// The answer to `POST /reload` and to a change of an endpoint.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ChangeAnswer {
    /// The generation now wanted.
    pub generation: u64,
    /// What changed, in the order it was applied; empty when nothing did.
    pub changes: Vec<String>,
    /// What deserves attention but stops nothing.
    pub warnings: Vec<String>,
}

/// The body of `PATCH /clusters/NAME/endpoints/ADDR`; at least one of weight and drain.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, Debug)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["weight"]}, {"required": ["drain"]}]))]
pub struct EndpointPatch {
    /// Relative share of new flows; 0 means none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schemars(with = "u32", range(min = 0, max = Endpoint::MAX_WEIGHT))]
    pub weight: Option<u32>,
    /// Whether it keeps its flows and gets no new ones.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schemars(with = "bool")]
    pub drain: Option<bool>,
    /// Whether it outlives the daemon; without it the change is gone with the next start.
    #[serde(default)]
    pub durable: bool,
}

/// What is there: null is no way to leave a key out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(typed: D) -> Result<Option<T>, D::Error> {
    T::deserialize(typed).map(Some)
}

/// The answer to anything that did not work.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}
