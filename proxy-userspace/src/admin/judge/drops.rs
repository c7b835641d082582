//! Drops that deserve attention, and what each reason asks for.

use super::{Finding, Health, find};
use crate::{admin::figures::grouped, admin::status::KernelStatus};
use proxy_common::verdict::DropReason;
use std::collections::HashMap;

/// Whose matter it is that packets are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Concern {
    /// The config, the host or the network behind it can be changed so that they aren't.
    Operator,
    /// What was asked for, or what clients send.
    Expected,
}

/// Whose matter a reason is, and where to look; labels of newer daemons are unknown.
pub(crate) fn advice(label: &str) -> (Concern, &'static str) {
    use Concern::{Expected, Operator};
    let known = DropReason::ALL.iter().find(|reason| reason.label() == label);
    match known {
        None => (Operator, "a reason of another version of weir"),
        Some(DropReason::Truncated) => (Expected, "senders cut packets short; `weir monitor` shows them"),
        Some(DropReason::BadHeader) => (
            Expected,
            "senders make impossible headers; `weir monitor` shows them",
        ),
        Some(DropReason::Fragment) => (Expected, "fragments without their first; kernel.max_fragments"),
        Some(DropReason::ExtensionHeaders) => (Expected, "too many IPv6 extension headers"),
        Some(DropReason::TtlExpired) => (Expected, "traceroutes, or a routing loop"),
        Some(DropReason::NoBackend) => (Operator, "a service has no backend that takes flows"),
        Some(DropReason::PortExhausted) => {
            (Operator, "more backends, more nat.ports or shorter idle timeouts")
        }
        Some(DropReason::FlowTableFull) => (Operator, "raise kernel.max_flows, then `weir unload` and start"),
        Some(DropReason::NoRoute) => (Operator, "`ip route get BACKEND`"),
        Some(DropReason::ForwardingDisabled) => (Operator, "`sysctl net.ipv4.conf.IFACE.forwarding`"),
        Some(DropReason::MtuExceeded) => (Operator, "raise the MTU towards backends, or max_segment_size"),
        Some(DropReason::NeighbourUnresolved) => (Operator, "does the backend answer ARP? `ip neigh`"),
        Some(DropReason::NoHeadroom) => (
            Operator,
            "the driver leaves no room for outer headers; xdp: generic",
        ),
        Some(DropReason::Denied) => (Expected, "forward.allow and forward.deny"),
        Some(DropReason::PacketLimit) => (Expected, "forward.limits"),
        Some(DropReason::ConnectionLimit) => (Expected, "forward.limits"),
        Some(DropReason::FlowLimit) => (Operator, "a flood, or kernel.new_flows_per_second is too low"),
    }
}

pub(crate) fn judge(kernel: &KernelStatus, before: Option<&KernelStatus>, findings: &mut Vec<Finding>) {
    let earlier: HashMap<&str, u64> = before
        .iter()
        .flat_map(|before| &before.drops)
        .map(|drop| (drop.reason.as_str(), drop.packets))
        .collect();
    for drop in &kernel.drops {
        let (concern, remedy) = advice(&drop.reason);
        if concern == Concern::Expected {
            continue;
        }
        let reason = &drop.reason;
        match before {
            None if drop.packets > 0 => {
                let what = format!("{} packets were dropped as {reason}", grouped(drop.packets));
                find(findings, Health::Healthy, what, remedy);
            }
            Some(_) => {
                let more = drop
                    .packets
                    .saturating_sub(*earlier.get(reason.as_str()).unwrap_or(&0));
                if more > 0 {
                    let what = format!("packets are dropped as {reason}");
                    find(findings, Health::Degraded, what, remedy);
                }
            }
            None => {}
        }
    }
    steering(kernel, before, findings);
}

/// Connections that no worker got, while the daemon runs.
fn steering(kernel: &KernelStatus, before: Option<&KernelStatus>, findings: &mut Vec<Finding>) {
    let Some(before) = before else { return };
    let count = |kernel: &KernelStatus, outcome: &str| {
        let seen = kernel.steering.iter().find(|one| one.outcome == outcome);
        seen.map_or(0, |one| one.connections)
    };
    for (outcome, what) in [
        ("no_worker", "connections to L7 addresses find no worker"),
        ("refused", "the kernel refuses workers' sockets for connections"),
        ("all_stalled", "every worker is stalled"),
    ] {
        if count(kernel, outcome) > count(before, outcome) {
            let remedy = "the daemon's log says why; `weir top` shows the workers";
            find(findings, Health::Degraded, what, remedy);
        }
    }
}
