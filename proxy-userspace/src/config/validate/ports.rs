//! Ports and VIPs of listeners that forward in the kernel, and those of their endpoints.

use super::{Checks, Place, clusters::ReadCluster, services::ReadService};
use crate::{
    config::suggest::shown,
    model::{Endpoint, ForwardMode},
};
use proxy_common::{net::Protocol, values::SAME_PORT};
use std::{collections::HashSet, net::SocketAddr};

/// Addresses and ports that services have.
pub(super) struct Vips<'a, 'b> {
    singles: HashSet<(SocketAddr, Protocol)>,
    ranges: Vec<&'b ReadService<'a>>,
}

impl<'a, 'b> Vips<'a, 'b> {
    pub(super) fn of(services: &'b [ReadService<'a>]) -> Self {
        let single = |service: &ReadService<'_>| Some((service.address?.0, service.protocol?));
        let is_range = |service: &&ReadService<'_>| {
            let reach = service.address.zip(service.span);
            reach.is_some_and(|(address, span)| span.is_range(address))
        };
        Self {
            singles: services.iter().filter_map(single).collect(),
            ranges: services.iter().filter(is_range).collect(),
        }
    }

    pub(super) fn has(&self, address: SocketAddr, protocol: Protocol) -> bool {
        let in_range = |service: &&ReadService<'_>| {
            let reach = service.address.zip(service.span);
            service.protocol == Some(protocol)
                && reach.is_some_and(|(first, span)| span.contains(first, address))
        };
        self.singles.contains(&(address, protocol)) || self.ranges.iter().any(in_range)
    }
}

pub(super) fn vips_as_endpoints(
    service: &ReadService<'_>,
    cluster: &ReadCluster<'_>,
    vips: &Vips<'_, '_>,
    checks: &mut Checks<'_>,
) {
    let Some(protocol) = service.protocol else { return };
    for (endpoint_place, endpoint) in &cluster.endpoints {
        if vips.has(endpoint.address.0, protocol) {
            let pointer = checks.pointer(endpoint_place, &service.place.key("address"));
            let problem = format!(
                "{} is a VIP itself, so its packets would come back",
                shown(&endpoint.address.to_string())
            );
            checks.error(
                endpoint_place,
                problem,
                format!("write the address of a backend; the listener {pointer} forwards here"),
            );
        }
    }
}

/// The first endpoint that gets packets with the port they were sent to.
fn portless<'a, 'b>(cluster: &'b ReadCluster<'a>) -> Option<&'b (Place<'a>, Endpoint)> {
    (cluster.endpoints.iter()).find(|(_, endpoint)| endpoint.address.0.port() == SAME_PORT)
}

/// A listener with one port says which one by its endpoints. Without NAT it is the same in any case.
pub(super) fn same_port(
    service: &ReadService<'_>,
    place: &Place<'_>,
    cluster: &ReadCluster<'_>,
    checks: &mut Checks<'_>,
) {
    let (Some(vip), Some(span)) = (service.address, service.span) else {
        return;
    };
    if service.mode == ForwardMode::Nat
        && vip.0.port() == span.last_port
        && let Some((endpoint_place, endpoint)) = portless(cluster)
    {
        let pointer = checks.pointer(endpoint_place, place);
        let problem = format!(
            "{} has port 0, the client's, and a listener {pointer} has one port",
            shown(&endpoint.address.to_string())
        );
        checks.error(
            endpoint_place,
            problem,
            format!("write the port, perhaps {}", span.last_port),
        );
    }
}

/// Connections of the L7 plane go to a port.
pub(super) fn no_port(place: &Place<'_>, cluster: &ReadCluster<'_>, checks: &mut Checks<'_>) {
    if let Some((endpoint_place, endpoint)) = portless(cluster) {
        let pointer = checks.pointer(endpoint_place, place);
        let problem = format!(
            "{} has port 0, the client's, which is for `forward`, and it is used {pointer}",
            shown(&endpoint.address.to_string())
        );
        checks.error(endpoint_place, problem, "write a port from 1 to 65535");
    }
}

/// Without NAT packets keep the VIP's port.
pub(super) fn ports(
    service: &ReadService<'_>,
    place: &Place<'_>,
    cluster: &ReadCluster<'_>,
    checks: &mut Checks<'_>,
) {
    let Some(vip) = service.address else { return };
    if service.mode == ForwardMode::Nat {
        return;
    }
    let last = service.span.map_or(vip.0.port(), |span| span.last_port);
    if vip.0.port() != last {
        return;
    }
    let other = |endpoint: &Endpoint| {
        !matches!(endpoint.address.0.port(), SAME_PORT) && endpoint.address.0.port() != last
    };
    let Some((endpoint_place, endpoint)) = cluster.endpoints.iter().find(|(_, endpoint)| other(endpoint))
    else {
        return;
    };
    let pointer = checks.pointer(place, endpoint_place);
    let problem = format!(
        "mode {} keeps the port {}, and the endpoint {} {pointer} has another",
        service.mode,
        vip.0.port(),
        endpoint.address
    );
    let remedy = format!("write port {}: packets get there with that one", vip.0.port());
    checks.warning(place, problem, remedy);
}
