//! The L7 plane's part of the status.

use crate::{
    admin::status::{L7Status, ListenerStatus, MemoryStatus, WorkerStatus},
    l7::{AcceptError, Counters, L7Plane, log, tls},
    model::{
        Snapshot,
        l7::{Listener, ListenerKind, PortRange},
    },
};
use std::net::SocketAddr;

/// What it runs, as its workers publish it: no worker is asked.
pub(super) fn l7_status(plane: &L7Plane, snapshot: &Snapshot, memory: MemoryStatus) -> L7Status {
    let missing = plane.missing();
    L7Status {
        generation: plane.generation(),
        memory,
        steering: if plane.is_steered() {
            "sk_lookup"
        } else {
            "reuseport"
        }
        .into(),
        workers: (plane.counters().enumerate())
            .map(|(number, counters)| worker_status(number, counters, &missing))
            .collect(),
        listeners: (snapshot.listeners.iter())
            .map(|listener| listener_status(listener, sink(plane, &listener.name)))
            .collect(),
    }
}

fn worker_status(number: usize, counters: &Counters, missing: &[usize]) -> WorkerStatus {
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
        refused: counters.refused.value(),
        panics: counters.panics.value(),
        replaced: counters.replaced.value(),
        missing: missing.contains(&number),
    }
}

/// Where a listener's access log goes.
fn sink<'a>(plane: &'a L7Plane, listener: &str) -> Option<&'a log::Sink> {
    let compiled = plane.compiled()?;
    let listener = compiled
        .listeners
        .iter()
        .find(|one| &*one.model.name == listener)?;
    listener.log.as_ref().map(|(sink, _)| &**sink)
}

fn listener_status(listener: &Listener, sink: Option<&log::Sink>) -> ListenerStatus {
    let (protocol, routes) = protocol(listener);
    ListenerStatus {
        name: listener.name.to_string(),
        addresses: listener.addresses.iter().map(shown).collect(),
        protocol: protocol.into(),
        routes,
        certificates: (listener.tls.iter())
            .flat_map(|settings| tls::expiries(settings))
            .collect(),
        log_error: sink.and_then(log::Sink::trouble),
        log_lines_dropped: sink.map_or(0, log::Sink::dropped),
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
