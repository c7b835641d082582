//! Whether two listeners take the same connections.

use super::{Checks, Place};
use crate::{config::suggest::shown, model::l7::PortRange};
use proxy_common::net::Protocol;
use std::{collections::BTreeMap, net::IpAddr};

/// An address that a listener takes.
pub(super) struct Taken<'a> {
    /// The address's own place.
    pub(super) place: Place<'a>,
    /// The listener's name.
    pub(super) name: Option<&'a str>,
    /// Which listener, by its number.
    pub(super) listener: usize,
    pub(super) range: PortRange,
    pub(super) protocol: Protocol,
    /// Whether it is forwarded in the kernel.
    pub(super) in_kernel: bool,
}

/// As a user would type it.
pub(super) fn range_text(range: &PortRange) -> String {
    let address = match range.address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    if range.first == range.last {
        format!("{address}:{}", range.first)
    } else {
        format!("{address}:{}-{}", range.first, range.last)
    }
}

/// Reports each address that an earlier one overlaps with.
pub(super) fn check(taken: &[Taken<'_>], checks: &mut Checks<'_>) {
    // By protocol and address; `0.0.0.0` and `[::]` overlap with all of their family.
    let mut by_address: BTreeMap<(u8, IpAddr), Vec<usize>> = BTreeMap::new();
    let mut wildcards = Vec::new();
    for (index, here) in taken.iter().enumerate() {
        let key = (here.protocol as u8, here.range.address);
        let same = by_address.entry(key).or_default();
        let wildcard = here.range.address.is_unspecified();
        // A wildcard meets every earlier address, any other the earlier ones of its own and the wildcards.
        let other = if wildcard {
            (0..index).find(|other| overlap(&taken[*other], here))
        } else {
            let earlier = same.iter().chain(&wildcards);
            earlier
                .copied()
                .filter(|other| overlap(&taken[*other], here))
                .min()
        };
        if let Some(other) = other {
            report(&taken[other], here, checks);
        }
        if wildcard {
            wildcards.push(index);
        } else {
            same.push(index);
        }
    }
}

fn overlap(a: &Taken<'_>, b: &Taken<'_>) -> bool {
    let family = a.range.address.is_ipv4() == b.range.address.is_ipv4();
    let address = a.range.address == b.range.address
        || a.range.address.is_unspecified()
        || b.range.address.is_unspecified();
    let ports = a.range.first <= b.range.last && b.range.first <= a.range.last;
    a.protocol == b.protocol && family && address && ports
}

fn report(other: &Taken<'_>, here: &Taken<'_>, checks: &mut Checks<'_>) {
    let pointer = checks.pointer(&here.place, &other.place);
    let whose = other.name.map_or_else(
        || "a listener".to_owned(),
        |name| format!("the listener {}", shown(name)),
    );
    if other.listener == here.listener {
        let problem = format!(
            "{} overlaps with {} of this listener",
            range_text(&here.range),
            range_text(&other.range)
        );
        return checks.error(&here.place, problem, "list every address and port once");
    }
    let problem = format!(
        "{whose} {pointer} takes {} over {} already",
        range_text(&other.range),
        here.protocol.name()
    );
    let other_protocol = match here.protocol {
        Protocol::Tcp => "udp",
        Protocol::Udp => "tcp",
    };
    let remedy = if here.in_kernel && other.in_kernel {
        format!("use another port or address, or `protocol: {other_protocol}`")
    } else {
        "use another port or address".to_owned()
    };
    checks.error(&here.place, problem, remedy);
}
