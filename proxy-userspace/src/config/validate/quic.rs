//! QUIC connection IDs that name endpoints.

use super::{Checks, Place, clusters::ReadCluster, services::ReadService};
use crate::{
    config::{raw, suggest::shown},
    model::{Quic, ServerId},
};
use proxy_common::net::Protocol;
use std::collections::{HashMap, HashSet};

/// How a listener's connection IDs are read.
pub(super) fn read(
    forward: Option<&raw::Forward>,
    protocol: Option<Protocol>,
    forward_place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<Quic> {
    let forward = forward?;
    let typed = forward.quic.as_ref()?;
    let place = forward_place.key("quic");
    if protocol == Some(Protocol::Tcp) {
        checks.error(
            &place,
            "QUIC is a protocol of UDP, and this is a tcp listener",
            "write `protocol: udp` at the listener, or remove `quic`",
        );
    }
    if forward.affinity.is_some() {
        checks.error(
            &place,
            "with affinity a client's flows go where its last one went, whatever their connection IDs say",
            "remove `affinity`, or `quic`",
        );
    }
    Some(Quic {
        config_id: typed.config_id.unwrap_or(0),
        server_id_length: typed.server_id_length?,
    })
}

/// Server IDs of one cluster while it is read, and where.
#[derive(Default)]
pub(super) struct ServerIds<'a>(HashMap<ServerId, Place<'a>>);

impl<'a> ServerIds<'a> {
    /// An endpoint's; none if it has none, or one that can't be used.
    pub(super) fn read(
        &mut self,
        typed: Option<&raw::ServerIdText>,
        place: &Place<'a>,
        checks: &mut Checks<'_>,
    ) -> Option<ServerId> {
        let typed = typed?;
        let Ok(server_id) = typed.0.parse::<ServerId>() else {
            let problem = format!("{} is not 1 to 15 bytes in hexadecimal", shown(&typed.0));
            checks.error(place, problem, "write two digits a byte, in quotes: \"0a01\"");
            return None;
        };
        if let Some(first) = self.0.get(&server_id) {
            let pointer = checks.pointer(place, first);
            let problem = format!("{} is another endpoint's, {pointer}", shown(&typed.0));
            checks.error(place, problem, "give each endpoint a server ID of its own");
        } else {
            self.0.insert(server_id, place.clone());
        }
        Some(server_id)
    }
}

/// Whether every endpoint of a listener with `quic` can be named.
pub(super) fn names(
    service: &ReadService<'_>,
    place: &Place<'_>,
    cluster: &ReadCluster<'_>,
    checks: &mut Checks<'_>,
) {
    let Some(quic) = service.quic else { return };
    let bytes = usize::from(quic.server_id_length);
    let is_named = |id: Option<ServerId>| id.is_some_and(|id| id.bytes().len() == bytes);
    // Of one that can't be read that is said already.
    let blamed = |place: &Place<'_>| {
        checks
            .report
            .blames(place.document.file, &place.path.sibling("server_id"))
    };
    let unnamed: Vec<_> = (cluster.endpoints.iter())
        .filter(|(place, endpoint)| !is_named(endpoint.server_id) && !blamed(place))
        .collect();
    let count = unnamed.len();
    let Some((endpoint_place, endpoint)) = unnamed
        .iter()
        .min_by_key(|(_, endpoint)| endpoint.server_id.is_some())
    else {
        return;
    };
    let pointer = checks.pointer(place, endpoint_place);
    let more = if count > 1 {
        format!(", and {} more alike", count - 1)
    } else {
        String::new()
    };
    let has = match endpoint.server_id {
        None => "no server_id".to_owned(),
        Some(id) => format!("a server_id of {} bytes", id.bytes().len()),
    };
    let problem = format!(
        "connection IDs name endpoints by {bytes} bytes, and the endpoint {} {pointer} has {has}{more}",
        endpoint.address
    );
    let example = "0a01".repeat(8)[..2 * bytes].to_owned();
    checks.error(
        place,
        problem,
        format!(
            "write one: `{{ address: \"{}\", server_id: \"{example}\" }}`",
            endpoint.address
        ),
    );
}

/// Server IDs that no listener looks for.
pub(super) fn unused(clusters: &[ReadCluster<'_>], services: &[ReadService<'_>], checks: &mut Checks<'_>) {
    let with_quic = services.iter().filter(|service| service.quic.is_some());
    let used: HashSet<&str> = with_quic
        .filter_map(|service| Some(service.cluster.as_ref()?.1))
        .collect();
    let unused = |cluster: &&ReadCluster<'_>| cluster.name.is_some_and(|name| !used.contains(name));
    for cluster in clusters.iter().filter(unused) {
        let mut endpoints = cluster.endpoints.iter();
        if let Some((place, _)) = endpoints.find(|(_, endpoint)| endpoint.server_id.is_some()) {
            let place = Place {
                document: place.document,
                path: place.path.sibling("server_id"),
            };
            checks.warning(
                &place,
                "server_id means nothing here: no listener with `forward: { quic: … }` uses this cluster",
                "add `quic` to the listener, or remove it",
            );
        }
    }
}
