//! Settings of the host that forwarding needs, and warnings about those that stand against it.

use super::KernelError;
use std::{fs, path::PathBuf};

/// `bpf_fib_lookup` forwards nothing for an interface whose forwarding is off.
pub(super) fn enable_forwarding(name: &str) -> Result<(), KernelError> {
    for family in ["ipv4", "ipv6"] {
        let path = PathBuf::from(format!("/proc/sys/net/{family}/conf/{name}/forwarding"));
        // Absent where the family is disabled.
        let Ok(current) = fs::read_to_string(&path) else {
            continue;
        };
        if current.trim() != "0" {
            continue;
        }
        fs::write(&path, "1").map_err(|error| {
            KernelError::missing(
                format!("forwarding is off on {name} and can't be turned on: {error}"),
                format!("run `sysctl -w net.{family}.conf.{name}.forwarding=1` on the host"),
            )
        })?;
        tracing::info!(interface = name, family, "turned on forwarding");
    }
    Ok(())
}

/// A backend has the VIP and must not tell its neighbours so: they would send clients' packets past the balancer. ARP is
/// answered for addresses of the asked interface alone, and asked from such (Documentation/networking/ip-sysctl.rst). IPv6
/// needs nothing: neighbour discovery answers for addresses of the interface alone.
pub(super) fn keep_quiet_about_vips(name: &str) -> Result<(), KernelError> {
    for (setting, wanted) in [("arp_ignore", 1), ("arp_announce", 2)] {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{name}/{setting}"));
        let current = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        if current.is_none_or(|current| current >= wanted) {
            continue;
        }
        fs::write(&path, wanted.to_string()).map_err(|error| {
            KernelError::missing(
                format!("{setting} of {name} is too low and can't be raised: {error}"),
                format!("run `sysctl -w net.ipv4.conf.{name}.{setting}={wanted}` on the host"),
            )
        })?;
        tracing::info!(interface = name, "set {setting} to {wanted}");
    }
    Ok(())
}

/// Warns where NAT's ports overlap those the host gives its own connections: one of the host's to a
/// backend could then have the same addresses and ports as a flow.
pub(super) fn warn_of_port_overlap((first, last): (u16, u16)) {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let mut range = text
        .split_whitespace()
        .filter_map(|word| word.parse::<u16>().ok());
    let (Some(low), Some(high)) = (range.next(), range.next()) else {
        return;
    };
    if first <= high && low <= last {
        tracing::warn!(
            "NAT ports {first}-{last} overlap the host's own {low}-{high}: set nat.ports, or \
             net.ipv4.ip_local_port_range, so that they don't"
        );
    }
}
