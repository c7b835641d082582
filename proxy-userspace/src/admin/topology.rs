//! What `GET /topology` answers: the page's picture of both planes, as large as listeners and clusters are many, whatever the number
//! of endpoints.

use super::{
    drain::DrainStatus,
    judge::{Finding, Judgement},
    status::{CounterStatus, DropStatus},
    views::{EndpointView, UpstreamView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to `GET /topology`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct TopologyAnswer {
    /// Weir's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started_unix_seconds: u64,
    /// The generation of the snapshot that is wanted.
    pub generation: u64,
    /// Whether the daemon itself takes new connections.
    pub drain: DrainStatus,
    /// Whether all is healthy, as `weir status` says.
    pub verdict: VerdictView,
    /// L4 listeners, then those of the L7 plane, each in config order.
    pub listeners: Vec<ListenerNode>,
    /// By name.
    pub clusters: Vec<ClusterNode>,
    /// Flows that the kernel plane remembered at its last sweep.
    pub flows: u64,
    /// Reasons for which packets were dropped.
    pub drops: Vec<DropStatus>,
    /// Upper bounds of the buckets of durations, inclusive.
    pub latency_bounds_seconds: Vec<f64>,
}

/// Whether all is healthy and, if not, what is wrong.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct VerdictView {
    /// `healthy`, `degraded` or `failing`: the worst of what was found.
    pub health: String,
    /// What there is: services, backends that take flows, listeners.
    pub summary: String,
    /// The worst first.
    pub findings: Vec<FindingView>,
}

/// Something found.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FindingView {
    /// `failing`, `degraded`, or `note` for what is worth knowing and no more.
    pub weight: String,
    /// What is so.
    pub what: String,
    /// What to do about it; empty where `what` says it.
    pub remedy: String,
}

/// A listener of either plane.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ListenerNode {
    /// Its name.
    pub name: String,
    /// `l4` or `l7`.
    pub plane: String,
    /// `tcp` or `udp`; of the L7 plane `http`, `https`, `tcp`, `tls`.
    pub protocol: String,
    /// How the kernel forwards: `nat`, `dsr-l2`, `ipip`, `gue`; null for the L7 plane's.
    pub mode: Option<String>,
    /// Addresses and ports.
    pub addresses: Vec<String>,
    /// `healthy`, `degraded` or `failing`.
    pub health: String,
    /// Where its traffic goes, by name.
    pub targets: Vec<TargetNode>,
    /// Routes that answer themselves: redirects and fixed responses.
    pub answering_routes: usize,
    /// What the kernel plane counts; null for the L7 plane's, and without a kernel plane.
    pub kernel: Option<CounterStatus>,
    /// What the L7 plane counts; null for L4 listeners.
    pub l7: Option<DownstreamView>,
}

/// A cluster that a listener's traffic goes to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct TargetNode {
    /// Its name.
    pub cluster: String,
    /// Routes that forward there, by a part of their requests at least; 0 where no routes lead there.
    pub routes: usize,
}

/// What the L7 plane counts of a listener since the daemon started.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct DownstreamView {
    /// Client connections open now.
    pub connections: u64,
    /// Client connections ever.
    pub accepted: u64,
    /// Requests.
    pub requests: u64,
    /// Responses: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
}

/// A cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// How the L7 plane chooses.
    pub policy: String,
    /// How endpoints are probed, `tcp` or `http`; null where they aren't.
    pub health_check: Option<String>,
    /// Endpoints by what they are; each is in one of these.
    pub endpoints: EndpointCounts,
    /// Sum of the effective weights; with 0 nothing can be forwarded.
    pub effective_weight: u64,
    /// What the kernel plane counts, over all L4 services of the cluster; null where there is none.
    pub kernel: Option<CounterStatus>,
    /// What the L7 plane counts; null where no listener of it forwards here, or none ever did.
    pub l7: Option<UpstreamView>,
    /// All endpoints if they are few, else the first of those that are unhealthy or drain; `GET /clusters/NAME` has all.
    pub shown: Vec<EndpointView>,
}

/// Endpoints by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, Debug)]
pub struct EndpointCounts {
    /// All.
    pub total: usize,
    /// Their check passes.
    pub healthy: usize,
    /// No verdict yet, or no check.
    pub unknown: usize,
    /// Their check fails.
    pub unhealthy: usize,
    /// They keep their flows and get no new ones.
    pub draining: usize,
}

impl From<&Judgement> for VerdictView {
    fn from(judgement: &Judgement) -> Self {
        let view = |finding: &Finding| FindingView {
            weight: finding.word().into(),
            what: finding.what.clone(),
            remedy: finding.remedy.clone(),
        };
        Self {
            health: judgement.health.word().into(),
            summary: judgement.summary.clone(),
            findings: judgement.findings.iter().map(view).collect(),
        }
    }
}
