//! What is known of a flow from its packets alone, and what must be true of the next one.

use crate::testrun::snapshot::{PlannedBackend, PlannedService};
use anyhow::{Context, Result, bail, ensure};
use proxy_common::{net::Protocol, verdict::DropReason};
use std::{net::IpAddr, time::Duration};
use weir::model::IdleTimeouts;

/// How much less than an idle timeout a flow may be silent and still be held to its backend: entries are stamped no finer than half a
/// second, and packets and sweeps take some milliseconds themselves.
pub(super) const MARGIN: Duration = Duration::from_secs(2);

/// What a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packet {
    /// Opens a TCP flow.
    Syn,
    /// The handshake's end, or data.
    Ack,
    /// The client's side ends.
    Fin,
    /// The flow ends.
    Rst,
    /// UDP.
    Datagram,
}

impl Packet {
    /// TCP's flag byte.
    pub(super) fn flags(self) -> u8 {
        match self {
            Self::Syn => 0x02,
            Self::Ack => 0x10,
            Self::Fin => 0x11,
            Self::Rst => 0x04,
            Self::Datagram => 0,
        }
    }
}

/// How far a flow is, as its client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// A SYN was sent.
    Opening,
    /// Established. UDP flows are so with their first packet.
    Going,
    /// A FIN or RST was sent.
    Closing,
}

/// A flow that had a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    /// How far it is.
    pub(super) state: State,
    /// Who got its last packet.
    pub(super) backend: IpAddr,
    /// When, in nanoseconds.
    pub(super) last: u64,
    /// Its backend has been dead or removed since, or it was silent for too long: it may go anywhere.
    pub(super) is_lost: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reached {
    /// It was sent to this backend.
    Backend(IpAddr),
    /// It was dropped.
    Nobody(DropReason),
}

impl Flow {
    /// How long it may be silent, nearly, and must stay where it is.
    pub(super) fn longest_silence(&self, protocol: Protocol) -> Duration {
        let timeouts = IdleTimeouts::default();
        let timeout = match (protocol, self.state) {
            (Protocol::Udp, _) => timeouts.udp,
            (Protocol::Tcp, State::Opening) => timeouts.tcp_opening,
            (Protocol::Tcp, State::Going) => timeouts.tcp,
            (Protocol::Tcp, State::Closing) => timeouts.tcp_closing,
        };
        timeout.saturating_sub(MARGIN)
    }

    fn state_after(&self, packet: Packet) -> State {
        match packet {
            Packet::Fin | Packet::Rst => State::Closing,
            _ if self.state == State::Closing => State::Closing,
            _ => State::Going,
        }
    }
}

/// Holds a packet against what is known of its flow; returns what is known then.
///
/// A SYN always begins anew: a client that sends one knows of no flow, and a SYN once more is as good as the first one,
/// since nobody has answered that.
///
/// # Errors
/// The flow moved, or a backend that drains got a new one.
pub(super) fn judge(
    service: &PlannedService,
    flow: Option<Flow>,
    packet: Packet,
    reached: Reached,
    now: u64,
) -> Result<Option<Flow>> {
    let bound = flow.filter(|flow| !flow.is_lost && packet != Packet::Syn);
    let address = match reached {
        Reached::Backend(address) => address,
        Reached::Nobody(reason) => {
            ensure!(
                bound.is_none(),
                "{packet:?} of an established flow was dropped: {}",
                reason.label()
            );
            check_drop(service, reason)?;
            // What a first SYN left is there for the next one too.
            return Ok(flow.filter(|flow| packet != Packet::Syn || flow.state == State::Opening));
        }
    };
    let mut backends = service.backends.iter();
    let backend = backends
        .find(|backend| backend.address.ip() == address)
        .with_context(|| format!("{address} is none of the service's backends"))?;
    ensure!(!backend.dead, "{address} is dead");
    if let Some(flow) = bound {
        ensure!(
            flow.backend == address,
            "the flow moved from {}, which is alive, to {address}",
            flow.backend
        );
    }
    let state = match (packet, flow) {
        (Packet::Syn, flow) => {
            let is_again = flow.is_some_and(|flow| flow.state == State::Opening && flow.backend == address);
            ensure!(
                is_again || !is_draining(backend),
                "{address} drains and got a new flow"
            );
            State::Opening
        }
        (packet, Some(flow)) => flow.state_after(packet),
        (Packet::Datagram, None) => State::Going,
        (packet, None) => bail!("{packet:?} of no flow"),
    };
    Ok(Some(Flow {
        state,
        backend: address,
        last: now,
        is_lost: false,
    }))
}

/// Whether a packet that is not bound to a backend may be dropped.
fn check_drop(service: &PlannedService, reason: DropReason) -> Result<()> {
    let takes_any = service
        .backends
        .iter()
        .any(|backend| !backend.dead && !is_draining(backend));
    let may = match reason {
        DropReason::FlowTableFull | DropReason::FlowLimit => true,
        DropReason::NoBackend => !takes_any,
        _ => false,
    };
    ensure!(may, "dropped: {}", reason.label());
    Ok(())
}

/// Whether a backend gets no new flows.
pub(super) fn is_draining(backend: &PlannedBackend) -> bool {
    backend.drain || backend.weight == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.20";
    const B: &str = "192.0.2.21";

    fn flow(state: State, is_lost: bool) -> Option<Flow> {
        Some(Flow {
            state,
            backend: A.parse().unwrap(),
            last: 7,
            is_lost,
        })
    }

    #[test]
    fn a_flow_is_held_to_a_backend_that_lives() {
        use Packet::{Ack, Datagram, Fin, Rst, Syn};
        use State::{Closing, Going, Opening};
        // A drains. Some: the state after it, or that there is no flow; none: an error.
        let cases = [
            ("it stays", flow(Going, false), Ack, Ok(A), Some(Some(Going))),
            ("it moves", flow(Going, false), Ack, Ok(B), None),
            ("it was lost", flow(Going, true), Ack, Ok(B), Some(Some(Going))),
            (
                "half open, it stays",
                flow(Opening, false),
                Ack,
                Ok(A),
                Some(Some(Going)),
            ),
            ("half open, it moves", flow(Opening, false), Ack, Ok(B), None),
            ("closing, it moves", flow(Closing, false), Fin, Ok(B), None),
            ("it closes", flow(Going, false), Rst, Ok(A), Some(Some(Closing))),
            (
                "a SYN once more",
                flow(Opening, false),
                Syn,
                Ok(A),
                Some(Some(Opening)),
            ),
            (
                "a SYN once more, elsewhere",
                flow(Opening, false),
                Syn,
                Ok(B),
                Some(Some(Opening)),
            ),
            ("used anew", flow(Going, false), Syn, Ok(B), Some(Some(Opening))),
            ("used anew, draining", flow(Going, false), Syn, Ok(A), None),
            ("new", None, Syn, Ok(B), Some(Some(Opening))),
            ("new, draining", None, Syn, Ok(A), None),
            ("new datagram", None, Datagram, Ok(A), Some(Some(Going))),
            ("nobody's", None, Syn, Ok("192.0.2.22"), None),
            ("new, full", None, Syn, Err(DropReason::FlowTableFull), Some(None)),
            (
                "full",
                flow(Going, false),
                Ack,
                Err(DropReason::FlowTableFull),
                None,
            ),
            (
                "somebody takes new flows",
                None,
                Syn,
                Err(DropReason::NoBackend),
                None,
            ),
        ];
        let mut service = PlannedService::new(
            "198.18.0.1:80",
            Protocol::Tcp,
            &["192.0.2.20:80", "192.0.2.21:80"],
        )
        .unwrap();
        service.backends[0].drain = true;
        for (name, before, packet, reached, expected) in cases {
            let reached = reached.map_or_else(Reached::Nobody, |address| {
                Reached::Backend(address.parse().unwrap())
            });
            let after = judge(&service, before, packet, reached, 9);
            let states = after.map(|flow| flow.map(|flow| flow.state)).ok();
            assert_eq!(states, expected, "{name}");
        }
    }
}
