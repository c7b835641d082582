//! The L7 plane's part of the status.

use crate::{
    admin::status::{L7Status, ListenerStatus, WorkerStatus},
    l7::{AcceptError, Counters, L7Plane, tls},
    model::{
        Snapshot,
        l7::{Listener, ListenerKind, PortRange},
    },
};
use std::net::SocketAddr;

/// What it runs, as its workers publish it: no worker is asked.
pub(super) fn l7_status(plane: &L7Plane, snapshot: &Snapshot) -> L7Status {
    L7Status {
        generation: plane.generation(),
        steering: if plane.is_steered() {
            "sk_lookup"
        } else {
            "reuseport"
        }
        .into(),
        workers: plane.counters().map(|counters| worker_status(counters)).collect(),
        listeners: snapshot.listeners.iter().map(listener_status).collect(),
    }
}

fn worker_status(counters: &Counters) -> WorkerStatus {
    let failed = AcceptError::ALL.iter().zip(&counters.handshakes_failed);
    WorkerStatus {
        generation: counters.generation.value(),
        connections: counters.connections.value(),
        accepted: counters.accepted.value(),
        requests: counters.requests.value(),
        responses: std::array::from_fn(|class| counters.responses[class].value()),
        received_bytes: counters.received.value(),
        sent_bytes: counters.sent.value(),
        handshakes_failed: failed
            .filter(|(_, count)| count.value() > 0)
            .map(|(reason, count)| (reason.label().to_owned(), count.value()))
            .collect(),
        accept_errors: counters.accept_errors.value(),
    }
}

fn listener_status(listener: &Listener) -> ListenerStatus {
    let (protocol, routes) = protocol(listener);
    ListenerStatus {
        name: listener.name.to_string(),
        addresses: listener.addresses.iter().map(shown).collect(),
        protocol: protocol.into(),
        routes,
        certificates: (listener.tls.iter())
            .flat_map(|settings| tls::expiries(settings))
            .collect(),
    }
}

/// What it speaks, and how many routes it has.
pub(super) fn protocol(listener: &Listener) -> (&'static str, usize) {
    match (&listener.kind, &listener.tls) {
        (ListenerKind::Http { routes, .. }, None) => ("http", routes.len()),
        (ListenerKind::Http { routes, .. }, Some(_)) => ("https", routes.len()),
        (ListenerKind::Tcp { .. }, None) => ("tcp", 0),
        (ListenerKind::Tcp { .. }, Some(_)) => ("tls", 0),
    }
}

/// An address with its port or ports.
pub(super) fn shown(range: &PortRange) -> String {
    let first = SocketAddr::new(range.address, range.first);
    if range.first == range.last {
        first.to_string()
    } else {
        format!("{first}-{}", range.last)
    }
}
