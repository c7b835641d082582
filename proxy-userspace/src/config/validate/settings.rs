//! What the daemon reads once at start: interfaces, map sizes, NAT addresses, the admin socket.

use super::{Checks, Document, Place, admin, elements, tracing};
use crate::{
    config::{address, error::Mistake, limits, listen, name, raw, suggest::shown},
    model::{
        AdminSettings, DaemonSettings, DrainTimes, Interface, NatSettings, Role, SegmentSize, TunnelSettings,
        UpgradeTimeouts, XdpMode,
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub(super) fn read(documents: &[Document], checks: &mut Checks<'_>) -> DaemonSettings {
    let interfaces = interfaces(documents, checks);
    let (decap_vips, decap_segment) = decap(documents, checks);
    let mut settings = DaemonSettings {
        interfaces,
        pin_path: PathBuf::from(limits::PIN_PATH),
        admin_socket: DaemonSettings::default_admin_socket(),
        admin: AdminSettings::default(),
        metrics_address: metrics_address(documents, checks),
        nat: NatSettings {
            source_ipv4: None,
            source_ipv6: None,
            ports: limits::NAT_PORTS,
        },
        max_services: limits::SERVICES,
        max_backends: limits::BACKENDS,
        max_flows: limits::FLOWS,
        max_tracked_flows: limits::TRACKED_FLOWS,
        max_fragments: limits::FRAGMENTS,
        max_affinities: limits::AFFINITIES,
        new_flows_per_second: None,
        tunnel: TunnelSettings::default(),
        role: match only_one(documents, "role", |raw| raw.role.as_ref(), checks) {
            Some((_, raw::Role::Backend)) => Role::Backend,
            _ => Role::Balancer,
        },
        decap_vips,
        decap_segment,
        workers: only_one(documents, "workers", |raw| raw.workers.as_ref(), checks).map(|(_, count)| *count),
        pin_workers: only_one(documents, "pin_workers", |raw| raw.pin_workers.as_ref(), checks)
            .is_some_and(|(_, pin)| *pin),
        dns_servers: dns_servers(documents, checks),
        upgrade: upgrade(documents, checks),
        drain: drain(documents, checks),
        memory_limit: only_one(documents, "limits", |raw| raw.limits.as_ref(), checks)
            .and_then(|(_, limits)| limits.memory_bytes),
        tracing: tracing::read(documents, checks),
    };
    if let Some((place, kernel)) = only_one(documents, "kernel", |raw| raw.kernel.as_ref(), checks) {
        if let Some(path) = &kernel.pin_path
            && let Some(path) =
                checks.parsed(&place.key("pin_path"), absolute_path(&path.0, limits::PIN_PATH))
        {
            settings.pin_path = path;
        }
        settings.max_services = kernel.max_services.unwrap_or(settings.max_services);
        settings.max_backends = kernel.max_backends.unwrap_or(settings.max_backends);
        settings.max_flows = kernel.max_flows.unwrap_or(settings.max_flows);
        settings.max_tracked_flows = kernel.max_tracked_flows.unwrap_or(settings.max_tracked_flows);
        settings.max_fragments = kernel.max_fragments.unwrap_or(settings.max_fragments);
        settings.max_affinities = kernel.max_affinities.unwrap_or(settings.max_affinities);
        settings.new_flows_per_second = kernel.new_flows_per_second;
    }
    if let Some((place, tunnel)) = only_one(documents, "tunnel", |raw| raw.tunnel.as_ref(), checks) {
        settings.tunnel = tunnel_settings(tunnel, &place, checks);
    }
    if let Some((place, nat)) = only_one(documents, "nat", |raw| raw.nat.as_ref(), checks) {
        settings.nat = nat_settings(nat, &place, checks);
    }
    check_role(documents, &settings, checks);
    admin::read(documents, &mut settings, checks);
    settings
}

/// A group of settings, which stands in one file at most: two would have to be merged by rules
/// nobody remembers.
pub(super) fn only_one<'a, T>(
    documents: &'a [Document],
    key: &str,
    group: impl Fn(&'a raw::Config) -> Option<&'a T>,
    checks: &mut Checks<'_>,
) -> Option<(Place<'a>, &'a T)> {
    let mut first: Option<(Place<'a>, &'a T)> = None;
    for document in documents {
        let Some(found) = group(&document.raw) else {
            continue;
        };
        let place = Place::root(document).key(key);
        match &first {
            None => first = Some((place, found)),
            Some((other, _)) => {
                let pointer = checks.pointer(&place, other);
                checks.error(
                    &place,
                    format!("{key} stands {pointer} already"),
                    "keep it, with all its keys, in one file",
                );
            }
        }
    }
    first
}

fn interfaces(documents: &[Document], checks: &mut Checks<'_>) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut places: HashMap<&str, Place<'_>> = HashMap::new();
    let all = documents.iter().flat_map(|document| {
        elements(
            document.raw.interfaces.as_ref(),
            Place::root(document).key("interfaces"),
        )
    });
    for (place, typed) in all {
        let (name_place, name, xdp) = match typed {
            raw::Interface::Name(name) => (place.clone(), Some(name), None),
            raw::Interface::Settings(settings) => (place.key("name"), settings.name.as_ref(), settings.xdp),
        };
        let Some(name) = name.and_then(|name| checks.parsed(&name_place, name::of_interface(&name.0))) else {
            continue;
        };
        if let Some(first) = places.get(name) {
            let pointer = checks.pointer(&name_place, first);
            checks.error(
                &name_place,
                format!("{} is listed {pointer} already", shown(name)),
                "remove one of the two",
            );
            continue;
        }
        places.insert(name, name_place);
        interfaces.push(Interface {
            name: name.to_owned(),
            xdp: xdp_mode(xdp),
        });
    }
    let nothing_typed = documents
        .iter()
        .all(|document| document.raw.interfaces.as_ref().is_none_or(Vec::is_empty));
    // L7 listeners do without the kernel plane.
    let mut listeners = documents
        .iter()
        .flat_map(|document| document.raw.listeners.iter().flatten().flatten());
    let in_kernel = listeners.clone().any(|listener| listener.forward.is_some());
    let serves = documents.iter().any(|document| document.raw.decap.is_some());
    if let Some(document) = documents.first()
        && nothing_typed
        && !serves
        && (in_kernel || listeners.next().is_none())
    {
        let remedy = "add `interfaces: [eth0]` with those that clients and backends are reached by, or run with --no-kernel";
        checks.warning(
            &Place::root(document).key("interfaces"),
            "no interfaces, so nothing is forwarded in the kernel",
            remedy,
        );
    }
    interfaces
}

fn xdp_mode(typed: Option<raw::Xdp>) -> XdpMode {
    match typed {
        None | Some(raw::Xdp::Auto) => XdpMode::Auto,
        Some(raw::Xdp::Native) => XdpMode::Native,
        Some(raw::Xdp::Generic) => XdpMode::Generic,
        Some(raw::Xdp::Off) => XdpMode::Off,
    }
}

fn upgrade(documents: &[Document], checks: &mut Checks<'_>) -> UpgradeTimeouts {
    let mut timeouts = UpgradeTimeouts::default();
    if let Some((place, upgrade)) = only_one(documents, "upgrade", |raw| raw.upgrade.as_ref(), checks) {
        let mut read = |key, typed: &Option<raw::Duration>, least, default| {
            let bounds = least..=limits::MAX_HAND_OVER_TIMEOUT;
            checks.duration(&place.key(key), typed.as_ref(), &bounds, default)
        };
        let second = Duration::from_secs(1);
        timeouts.ready = read("ready_timeout", &upgrade.ready_timeout, second, timeouts.ready);
        timeouts.drain = read(
            "drain_timeout",
            &upgrade.drain_timeout,
            Duration::ZERO,
            timeouts.drain,
        );
    }
    timeouts
}

fn drain(documents: &[Document], checks: &mut Checks<'_>) -> DrainTimes {
    let mut times = DrainTimes::default();
    if let Some((place, drain)) = only_one(documents, "drain", |raw| raw.drain.as_ref(), checks) {
        let bounds = Duration::ZERO..=limits::MAX_HAND_OVER_TIMEOUT;
        let mut read = |key, typed: &Option<raw::Duration>, default| {
            checks.duration(&place.key(key), typed.as_ref(), &bounds, default)
        };
        times.notice = read("notice", &drain.notice, times.notice);
        times.timeout = read("timeout", &drain.timeout, times.timeout);
    }
    times
}

fn dns_servers(documents: &[Document], checks: &mut Checks<'_>) -> Vec<SocketAddr> {
    let Some((place, dns)) = only_one(documents, "dns", |raw| raw.dns.as_ref(), checks) else {
        return Vec::new();
    };
    elements(dns.servers.as_ref(), place.key("servers"))
        .filter_map(|(place, typed)| checks.parsed(&place, address::dns_server(&typed.0)))
        .collect()
}

fn metrics_address(documents: &[Document], checks: &mut Checks<'_>) -> Option<SocketAddr> {
    let (place, metrics) = only_one(documents, "metrics", |raw| raw.metrics.as_ref(), checks)?;
    let typed = metrics.address.as_ref()?;
    checks.parsed(&place.key("address"), address::own_address(&typed.0))
}

fn nat_settings(nat: &raw::Nat, place: &Place<'_>, checks: &mut Checks<'_>) -> NatSettings {
    let v4 = nat.source_ipv4.as_ref();
    let v6 = nat.source_ipv6.as_ref();
    let ports = nat.ports.as_ref();
    let ports_place = place.key("ports");
    let settings = NatSettings {
        source_ipv4: v4.and_then(|typed| checks.parsed(&place.key("source_ipv4"), address::ipv4(&typed.0))),
        source_ipv6: v6.and_then(|typed| checks.parsed(&place.key("source_ipv6"), address::ipv6(&typed.0))),
        ports: ports
            .and_then(|typed| checks.parsed(&ports_place, listen::port_range(&typed.0)))
            .unwrap_or(limits::NAT_PORTS),
    };
    if settings.ports.1 >= limits::FIRST_EPHEMERAL_PORT {
        let problem = format!(
            "ports from {} on are Linux's own for outgoing connections, which NAT could collide with",
            limits::FIRST_EPHEMERAL_PORT
        );
        let remedy = "end below, or keep net.ipv4.ip_local_port_range out of this range";
        checks.warning(&ports_place, problem, remedy);
    }
    settings
}

/// VIPs, and what clients may send to them in a TCP segment.
fn decap(documents: &[Document], checks: &mut Checks<'_>) -> (Vec<IpAddr>, Option<SegmentSize>) {
    let Some((place, decap)) = only_one(documents, "decap", |raw| raw.decap.as_ref(), checks) else {
        return (Vec::new(), None);
    };
    let vips = elements(decap.vips.as_ref(), place.key("vips"))
        .filter_map(|(place, typed)| checks.parsed(&place, address::vips(&typed.0)))
        .flatten();
    let segment = decap.max_segment_size.map(|typed| match typed {
        raw::SegmentSize::Word(raw::SegmentWord::Auto) => SegmentSize::Fitting,
        raw::SegmentSize::Bytes(bytes) => SegmentSize::Bytes(bytes),
    });
    (vips.collect(), segment)
}

/// A backend has VIPs, and balances none.
fn check_role(documents: &[Document], settings: &DaemonSettings, checks: &mut Checks<'_>) {
    let Some((place, _)) = only_one(documents, "role", |raw| raw.role.as_ref(), checks) else {
        return;
    };
    if settings.role != Role::Backend {
        return;
    }
    if settings.decap_vips.is_empty() && checks.complete {
        checks.error(
            &place,
            "a backend serves VIPs, and none is written",
            "add them: `decap: { vips: [ADDRESS] }`",
        );
    }
    for document in documents {
        let listeners = elements(
            document.raw.listeners.as_ref(),
            Place::root(document).key("listeners"),
        );
        for (place, _) in listeners.filter(|(_, listener)| listener.forward.is_some()) {
            checks.error(
                &place.key("forward"),
                "a host with `role: backend` forwards nothing",
                "take the listener out, or `role`: a balancer can have `decap` too",
            );
        }
    }
}

fn tunnel_settings(tunnel: &raw::Tunnel, place: &Place<'_>, checks: &mut Checks<'_>) -> TunnelSettings {
    let default = TunnelSettings::default();
    let v4 = tunnel.source_ipv4.as_ref();
    let v6 = tunnel.source_ipv6.as_ref();
    TunnelSettings {
        source_ipv4: v4
            .and_then(|typed| {
                checks.parsed(
                    &place.key("source_ipv4"),
                    address::prefix(&typed.0, "172.16.0.0/16"),
                )
            })
            .unwrap_or(default.source_ipv4),
        source_ipv6: v6
            .and_then(|typed| {
                checks.parsed(
                    &place.key("source_ipv6"),
                    address::prefix(&typed.0, "\"2001:db8:1::/64\""),
                )
            })
            .unwrap_or(default.source_ipv6),
        gue_port: tunnel.gue_port.unwrap_or(default.gue_port),
    }
}

pub(super) fn absolute_path(typed: &str, example: &str) -> Result<PathBuf, Mistake> {
    let path = PathBuf::from(typed);
    if !path.is_absolute() {
        let remedy = format!("write it from the root, such as {example}");
        return Err(Mistake::new(
            format!("{} is not an absolute path", shown(typed)),
            remedy,
        ));
    }
    if typed.contains('\0') || path.components().any(|part| part.as_os_str() == "..") {
        return Err(Mistake::new(
            format!("{} has a part that is not a plain name", shown(typed)),
            "write the path without .. in it",
        ));
    }
    Ok(path)
}
