//! Where a flow goes, and why, as `GET /flows/…` answers it.

use super::{Core, FlowQuestion, Refusal, RefusalKind};
use crate::{
    admin::flow::{FlowAffinity, FlowAnswer, FlowBackend, FlowEntry, FlowSlot},
    kernel::{AffinityFacts, BackendFacts, Condition, EntryFacts, FlowFacts, SlotState, Stage},
    model::{ConnectionId, ServerId, Service},
};
use proxy_common::keys::FlowKey;

impl Core {
    /// Asks the kernel plane's maps.
    pub(super) fn flow(&self, question: &FlowQuestion) -> Result<FlowAnswer, Refusal> {
        let FlowQuestion {
            protocol,
            client,
            vip,
            connection_id,
        } = *question;
        if let Some(reason) = self.plane.absence() {
            let error = format!("there is no kernel plane ({reason})");
            return Err(Refusal::new(RefusalKind::Invalid, error, "run weir with it"));
        }
        if client.is_ipv4() != vip.is_ipv4() {
            let error = format!("{client} and {vip} are of different families");
            let remedy = "name the client as it reaches this VIP";
            return Err(Refusal::new(RefusalKind::Invalid, error, remedy));
        }
        let key = key(question);
        let service = self.snapshot.service_of(vip, protocol);
        let server_id = match (service, connection_id) {
            (Some(service), Some(id)) => server_id(service, id)?,
            _ => None,
        };
        let found = match service {
            Some(service) => (self.plane.flow(service, &key, server_id))
                .map_err(|error| Refusal::new(RefusalKind::Kernel, error.to_string(), "see the log"))?,
            None => None,
        };
        let (Some(facts), Some(service)) = (found, service) else {
            let error = format!("no {} service on {vip}", protocol.name());
            let remedy =
                "`weir status` lists them; what listeners with routes take is asked with `weir explain`";
            return Err(Refusal::new(RefusalKind::NotFound, error, remedy));
        };
        let (goes_to, mut reason) = match facts.named {
            Some(named) => (Some(named), "its connection ID names it".to_owned()),
            None => destination(&facts),
        };
        if let (None, Some(_)) = (facts.named, connection_id) {
            reason.insert_str(0, "its connection ID names nobody that lives; ");
        }
        Ok(FlowAnswer {
            service: service.name.to_string(),
            protocol: protocol.name().to_owned(),
            client: client.to_string(),
            vip: vip.to_string(),
            goes_to: goes_to.map(|backend| backend.address.0.to_string()),
            reason,
            slot: FlowSlot {
                number: facts.slot,
                of: facts.table_size,
                backend: facts.slot_backend.map(backend),
                state: match facts.slot_state {
                    SlotState::Plain => "plain",
                    SlotState::Moving(_) => "moving",
                    SlotState::Tracked => "tracked",
                }
                .to_owned(),
                previous: match facts.slot_state {
                    SlotState::Moving(previous) => Some(backend(previous)),
                    SlotState::Plain | SlotState::Tracked => None,
                },
            },
            named: facts.named.map(backend),
            affinity: facts.affinity.map(affinity),
            entry: facts.entry.map(entry),
        })
    }
}

fn key(question: &FlowQuestion) -> FlowKey {
    FlowKey {
        source: question.client.ip().into(),
        destination: question.vip.ip().into(),
        source_port: question.client.port(),
        destination_port: question.vip.port(),
        protocol: question.protocol as u8,
        pad: [0; 3],
    }
}

/// Whom a connection ID may name; none where it isn't one of those that the service reads.
fn server_id(service: &Service, id: ConnectionId) -> Result<Option<ServerId>, Refusal> {
    let Some(quic) = service.quic else {
        let error = format!(
            "the service {} reads no connection IDs, such as {id}",
            service.name
        );
        let remedy = "ask without one, or write `quic` at its listener";
        return Err(Refusal::new(RefusalKind::Invalid, error, remedy));
    };
    Ok(id.server_id(quic))
}

fn entry(facts: EntryFacts) -> FlowEntry {
    FlowEntry {
        backend: backend(facts.backend),
        source: facts.source.to_string(),
        destination: facts.destination.to_string(),
        stage: match facts.stage {
            Stage::Opening => "opening",
            Stage::Established => "established",
            Stage::Closing => "closing",
        }
        .to_owned(),
        idle_seconds: facts.idle.as_secs_f64(),
    }
}

fn affinity(facts: AffinityFacts) -> FlowAffinity {
    FlowAffinity {
        backend: backend(facts.backend),
        age_seconds: facts.age.as_secs_f64(),
    }
}

fn backend(facts: BackendFacts) -> FlowBackend {
    FlowBackend {
        address: facts.address.0.to_string(),
        state: match facts.condition {
            Condition::Live => "live",
            Condition::Draining => "draining",
            Condition::Dead => "dead",
            Condition::Gone => "gone",
        }
        .to_owned(),
    }
}

/// The program's choice for a packet that opens no flow (docs/dataplane.md, "Client to backend").
fn destination(facts: &FlowFacts) -> (Option<BackendFacts>, String) {
    let from_slot = facts
        .slot_backend
        .filter(|backend| !matches!(backend.condition, Condition::Dead | Condition::Gone));
    let slot = match (from_slot, facts.slot_backend) {
        (Some(_), _) => "the slot's backend gets it".to_owned(),
        (None, Some(_)) => "the slot's backend takes nothing: packets are dropped as no_backend".to_owned(),
        (None, None) => "the table has no backend: packets are dropped as no_backend".to_owned(),
    };
    let Some(entry) = facts.entry else {
        if let Some(affinity) = facts.affinity {
            let reason = "no entry: a new flow, which goes where its source's last one went, by affinity";
            return (Some(affinity.backend), reason.to_owned());
        }
        if let SlotState::Moving(previous) = facts.slot_state
            && !matches!(previous.condition, Condition::Dead | Condition::Gone)
        {
            let reason = "no entry, and its slot is moving: it belongs to the backend before, unless a SYN opens it now";
            return (Some(previous), reason.to_owned());
        }
        return (from_slot, format!("no entry: a new flow; {slot}"));
    };
    match entry.backend.condition {
        Condition::Dead => (from_slot, format!("its backend is dead; {slot}")),
        Condition::Gone => (from_slot, format!("its backend is gone; {slot}")),
        Condition::Draining => (
            Some(entry.backend),
            "its entry; the backend drains and keeps the flows it has".to_owned(),
        ),
        Condition::Live if entry.stage == Stage::Closing => (
            Some(entry.backend),
            "its entry, until a new SYN with these ports opens another flow".to_owned(),
        ),
        Condition::Live => (Some(entry.backend), "its entry".to_owned()),
    }
}
