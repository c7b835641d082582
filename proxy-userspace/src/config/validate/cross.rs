//! What settings, listeners and clusters must agree on with each other.

use super::{
    Checks, Document, Place, clusters::ReadCluster, listeners::Listeners, ports, quic, services::ReadService,
};
use crate::{
    config::{
        limits,
        path::clipped,
        prime,
        suggest::{nearest, shown},
    },
    model::DaemonSettings,
};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

type ByName<'a, 'b> = HashMap<&'a str, &'b ReadCluster<'a>>;

pub(super) fn check(
    documents: &[Document],
    settings: &DaemonSettings,
    clusters: &[ReadCluster<'_>],
    listeners: &Listeners<'_>,
    checks: &mut Checks<'_>,
) {
    // The first of a name, as the second was reported already.
    let mut by_name = ByName::new();
    for cluster in clusters {
        if let Some(name) = cluster.name {
            by_name.entry(name).or_insert(cluster);
        }
    }
    let services = &listeners.services;
    let vips = ports::Vips::of(services);
    for service in services {
        let Some((place, name)) = &service.cluster else {
            continue;
        };
        let Some(cluster) = by_name.get(name) else {
            unknown_cluster(place, name, &by_name, checks);
            continue;
        };
        addresses_only(place, cluster, checks);
        families(service, place, cluster, checks);
        ports::ports(service, place, cluster, checks);
        ports::same_port(service, place, cluster, checks);
        shares(service, place, cluster, checks);
        ports::vips_as_endpoints(service, cluster, &vips, checks);
        quic::names(service, place, cluster, checks);
    }
    for (place, name) in listeners.l7.iter().flat_map(|listener| &listener.uses) {
        match by_name.get(name) {
            Some(cluster) => ports::no_port(place, cluster, checks),
            None => unknown_cluster(place, name, &by_name, checks),
        }
    }
    usage(clusters, listeners, checks);
    quic::unused(clusters, services, checks);
    room(documents, settings, services, &by_name, checks);
    nat_source(documents, settings, services, checks);
}

/// The kernel's maps hold addresses, and no packet waits for a name.
fn addresses_only(place: &Place<'_>, cluster: &ReadCluster<'_>, checks: &mut Checks<'_>) {
    let Some((endpoint_place, endpoint)) = cluster.dns.first() else {
        return;
    };
    let pointer = checks.pointer(place, endpoint_place);
    let typed = format!("{}:{}", endpoint.name, endpoint.port);
    let problem = format!("the endpoint {} {pointer} is a name", shown(&typed));
    let remedy =
        "the kernel forwards to addresses only: write those of the endpoint, or use `routes` or `tcp`";
    checks.error(place, problem, remedy);
}

/// Among more names than this one is not looked for by its spelling.
const MOST_CANDIDATES: usize = 1_000;

fn unknown_cluster(place: &Place<'_>, name: &str, by_name: &ByName<'_, '_>, checks: &mut Checks<'_>) {
    // What could not be read, or not by its name, may well be the cluster that is meant.
    if !checks.complete {
        return;
    }
    let patient = checks.report.has_patience() && by_name.len() <= MOST_CANDIDATES;
    let names: Vec<&str> = if patient {
        sorted_names(by_name)
    } else {
        Vec::new()
    };
    let remedy = match (nearest(name, names.iter().copied()), names.as_slice()) {
        (Some(near), _) => format!("did you mean {}?", shown(near)),
        (None, []) if by_name.is_empty() => {
            "add it: `clusters: [{ name: NAME, endpoints: [\"ADDRESS:PORT\"] }]`".to_owned()
        }
        (None, [only]) => format!("add it under `clusters`, or write {}", clipped(only)),
        (None, few) if !few.is_empty() && few.len() <= 8 => {
            format!(
                "add it under `clusters`, or write one of {}",
                clipped(&few.join(", "))
            )
        }
        (None, _) => "add it under `clusters`".to_owned(),
    };
    checks.error(place, format!("there is no cluster {}", shown(name)), remedy);
}

fn sorted_names<'a>(by_name: &ByName<'a, '_>) -> Vec<&'a str> {
    let mut names: Vec<&str> = by_name.keys().copied().collect();
    names.sort_unstable();
    names
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// NAT translates addresses within a family, and a neighbour on the link takes packets as they are: only tunnels lead from
/// one family to the other.
fn families(
    listener: &ReadService<'_>,
    place: &Place<'_>,
    cluster: &ReadCluster<'_>,
    checks: &mut Checks<'_>,
) {
    let Some(vip) = listener.address else { return };
    if listener.mode.is_tunnel() {
        return;
    }
    let other = |address: SocketAddr| address.is_ipv4() != vip.0.is_ipv4();
    let Some((endpoint_place, endpoint)) = cluster.endpoints.iter().find(|(_, e)| other(e.address.0)) else {
        return;
    };
    let count = cluster
        .endpoints
        .iter()
        .filter(|(_, e)| other(e.address.0))
        .count();
    let pointer = checks.pointer(place, endpoint_place);
    let more = if count > 1 {
        format!(" and {} more", count - 1)
    } else {
        String::new()
    };
    let problem = format!(
        "the VIP {} is {}, and the endpoint {} {pointer}{more} is {}",
        vip,
        family(vip.0),
        endpoint.address,
        family(endpoint.address.0)
    );
    let remedy = format!(
        "{} does not change the family: forward to a cluster of {} endpoints, or through a tunnel (`mode: ipip`)",
        listener.mode,
        family(vip.0)
    );
    checks.error(place, problem, remedy);
}

/// Whether the Maglev table is large enough for the shares asked for.
fn shares(listener: &ReadService<'_>, place: &Place<'_>, cluster: &ReadCluster<'_>, checks: &mut Checks<'_>) {
    let Some(size) = listener.table_size else { return };
    let weights = || {
        cluster
            .endpoints
            .iter()
            .map(|(_, endpoint)| u64::from(endpoint.effective_weight()))
    };
    let (total, taking) = (
        weights().sum::<u64>(),
        weights().filter(|weight| *weight > 0).count(),
    );
    let size_place = listener.place.key("forward").key("table_size");
    let wanted = u32::try_from(taking)
        .unwrap_or(u32::MAX)
        .saturating_mul(limits::SLOTS_PER_ENDPOINT);
    let better = prime::at_least(wanted, limits::MAGLEV_SIZE_MAX);
    if taking > size as usize {
        let problem = format!("{size} slots are fewer than the {taking} endpoints of the cluster");
        checks.error(&size_place, problem, format!("write {better} or more"));
    } else if size < wanted.min(limits::MAGLEV_SIZE_MAX) {
        let problem =
            format!("{size} slots are few for {taking} endpoints: shares will be off by more than 1 %");
        checks.warning(&size_place, problem, format!("write {better} or more"));
    }
    let slotless = cluster.endpoints.iter().find(|(_, endpoint)| {
        let weight = u64::from(endpoint.effective_weight());
        weight > 0 && weight * u64::from(size) < total
    });
    if taking <= size as usize
        && let Some((endpoint_place, endpoint)) = slotless
    {
        let pointer = checks.pointer(place, endpoint_place);
        let problem = format!(
            "{} {pointer} has {} of the weight of {total}, less than one of the {size} slots, and may get no flows",
            endpoint.address, endpoint.weight
        );
        checks.warning(place, problem, "raise its weight or the `table_size`");
    }
}

/// Clusters that nothing uses, and what means nothing to those who use them.
fn usage(clusters: &[ReadCluster<'_>], listeners: &Listeners<'_>, checks: &mut Checks<'_>) {
    let services = listeners.services.iter();
    let in_kernel: HashSet<&str> = services.filter_map(|l| Some(l.cluster.as_ref()?.1)).collect();
    let uses = listeners.l7.iter().flat_map(|listener| &listener.uses);
    let in_daemon: HashSet<&str> = uses.map(|(_, name)| *name).collect();
    for cluster in clusters {
        let Some(name) = cluster.name else { continue };
        let (kernel, daemon) = (in_kernel.contains(name), in_daemon.contains(name));
        if !kernel && !daemon {
            let problem = format!("no listener forwards to the cluster {}", shown(name));
            checks.warning(
                &cluster.place.key("name"),
                problem,
                "remove it, or name it in a listener's `forward`, `routes` or `tcp`",
            );
        }
        if !kernel {
            continue;
        }
        loopback(cluster, checks);
        if !daemon {
            for key in &cluster.l7_keys {
                let problem =
                    format!("{key} means nothing in the kernel, and no L7 listener uses this cluster");
                checks.warning(&cluster.place.key(key), problem, "remove it");
            }
        }
    }
}

fn loopback(cluster: &ReadCluster<'_>, checks: &mut Checks<'_>) {
    for (place, endpoint) in &cluster.endpoints {
        if endpoint.address.0.ip().is_loopback() {
            let problem = format!(
                "{} is a loopback address, which packets from other hosts can't be sent to",
                shown(&endpoint.address.to_string())
            );
            checks.warning(place, problem, "use one of this host's other addresses");
        }
    }
}

/// Whether the maps hold all of it.
fn room(
    documents: &[Document],
    settings: &DaemonSettings,
    listeners: &[ReadService<'_>],
    by_name: &ByName<'_, '_>,
    checks: &mut Checks<'_>,
) {
    let Some(first) = documents.first() else { return };
    if checks.complete
        && documents
            .iter()
            .all(|d| d.raw.listeners.as_ref().is_none_or(Vec::is_empty))
    {
        checks.warning(
            &Place::root(first).key("listeners"),
            "no listeners, so nothing is forwarded",
            "add one under `listeners`",
        );
    }
    let backends: usize = listeners
        .iter()
        .filter_map(|listener| by_name.get(listener.cluster.as_ref()?.1))
        .map(|cluster| cluster.endpoints.len())
        .sum();
    let document = documents
        .iter()
        .find(|document| document.raw.kernel.is_some())
        .unwrap_or(first);
    let kernel = Place::root(document).key("kernel");
    let bounds = [
        (
            "max_services",
            listeners.len(),
            settings.max_services,
            "listeners",
        ),
        (
            "max_backends",
            backends,
            settings.max_backends,
            "backends (endpoints of each listener's cluster)",
        ),
    ];
    for (key, there, most, what) in bounds {
        if there > most as usize {
            let problem = format!("there are {there} {what}, and room for {most}");
            checks.error(
                &kernel.key(key),
                problem,
                format!(
                    "write `kernel: {{ {key}: {} }}` or more",
                    there.next_power_of_two()
                ),
            );
        }
    }
}

/// A reply to a VIP and port that is a service would be taken for a client's packet.
fn nat_source(
    documents: &[Document],
    settings: &DaemonSettings,
    listeners: &[ReadService<'_>],
    checks: &mut Checks<'_>,
) {
    let Some(document) = documents.iter().find(|document| document.raw.nat.is_some()) else {
        return;
    };
    let nat = Place::root(document).key("nat");
    let sources = [
        ("source_ipv4", settings.nat.source_ipv4.map(IpAddr::V4)),
        ("source_ipv6", settings.nat.source_ipv6.map(IpAddr::V6)),
    ];
    let (first, last) = settings.nat.ports;
    for (key, source) in sources {
        let clash = listeners.iter().find(|listener| {
            listener
                .address
                .is_some_and(|vip| Some(vip.0.ip()) == source && (first..=last).contains(&vip.0.port()))
        });
        let Some((listener, vip)) = clash.and_then(|listener| Some((listener, listener.address?))) else {
            continue;
        };
        let place = nat.key(key);
        let pointer = checks.pointer(&place, &listener.place.key("address"));
        let problem = format!(
            "{} is a VIP too ({pointer}), and its port {} is among nat.ports",
            vip.0.ip(),
            vip.0.port()
        );
        checks.error(
            &place,
            problem,
            "use an address that is no VIP, or ports that leave this one out",
        );
    }
}
