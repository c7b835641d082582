//! Whether two listeners take the same connections.

use super::{Checks, Place};
use crate::{
    config::{listen::Listen, suggest::shown},
    model::{ListenAddr, Span},
};
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
    pub(super) range: Listen,
    pub(super) protocol: Protocol,
    /// Whether it is forwarded in the kernel.
    pub(super) in_kernel: bool,
}

/// As a user would type it.
pub(super) fn range_text(range: &Listen) -> String {
    let span = Span {
        // 0.0.0.0 and [::] are written without a length.
        prefix_bits: if range.address.is_unspecified() {
            width(range)
        } else {
            range.prefix_bits
        },
        last_port: range.last,
    };
    span.text(ListenAddr((range.address, range.first).into()))
}

/// Reports each address that an earlier one overlaps with.
pub(super) fn check(taken: &[Taken<'_>], checks: &mut Checks<'_>) {
    // By protocol and address; prefixes, `0.0.0.0` and `[::]` overlap with others too.
    let mut by_address: BTreeMap<(u8, IpAddr), Vec<usize>> = BTreeMap::new();
    let mut wide = Vec::new();
    for (index, here) in taken.iter().enumerate() {
        let key = (here.protocol as u8, here.range.address);
        let same = by_address.entry(key).or_default();
        let is_wide = here.range.prefix_bits < width(&here.range);
        // A wide one meets every earlier address, any other the earlier ones of its own and the wide ones.
        let other = if is_wide {
            (0..index).find(|other| overlap(&taken[*other], here))
        } else {
            let earlier = same.iter().chain(&wide);
            earlier
                .copied()
                .filter(|other| overlap(&taken[*other], here))
                .min()
        };
        if let Some(other) = other {
            report(&taken[other], here, checks);
        }
        if is_wide {
            wide.push(index);
        } else {
            same.push(index);
        }
    }
}

/// Bits of an address.
fn width(range: &Listen) -> u8 {
    if range.address.is_ipv4() { 32 } else { 128 }
}

/// Whether one takes what is the other's. In the kernel the longer prefix has what both contain, of two alike the one with fewer
/// ports; so there it does only if that says nothing, or both begin with the same address and port, which a service is known by.
/// What sockets have of one address may lie within what the kernel has.
fn overlap(a: &Taken<'_>, b: &Taken<'_>) -> bool {
    if a.protocol != b.protocol || !share_addresses(&a.range, &b.range) {
        return false;
    }
    let (a_ports, b_ports) = ((a.range.first, a.range.last), (b.range.first, b.range.last));
    if a_ports.0 > b_ports.1 || b_ports.0 > a_ports.1 {
        return false;
    }
    let has = |a: (u16, u16), b: (u16, u16)| a.0 <= b.0 && b.1 <= a.1;
    if a.in_kernel != b.in_kernel {
        // Sockets take what the kernel's programs leave to them.
        let (kernel, sockets) = if a.in_kernel { (a, b) } else { (b, a) };
        let (wide, narrow) = (&kernel.range, &sockets.range);
        let is_within = has((wide.first, wide.last), (narrow.first, narrow.last));
        let is_single = narrow.prefix_bits == width(narrow)
            && (wide.address, wide.first) != (narrow.address, narrow.first);
        let is_narrower = wide.prefix_bits < narrow.prefix_bits || a_ports != b_ports;
        return !(is_within && is_single && is_narrower);
    }
    if !a.in_kernel {
        return true;
    }
    if (a.range.address, a.range.first) == (b.range.address, b.range.first) {
        return true;
    }
    let is_nested = a_ports != b_ports && (has(a_ports, b_ports) || has(b_ports, a_ports));
    a.range.prefix_bits == b.range.prefix_bits && !is_nested
}

fn share_addresses(a: &Listen, b: &Listen) -> bool {
    let differ = match (a.address, b.address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(a.prefix_bits.min(b.prefix_bits))
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
