//! Packets of a round: each through the program and the model, held against what is known of its flow.

use super::{
    account::{Flow, Packet, Reached, State, is_draining, judge},
    round::Round,
};
use crate::{
    model::{build::Frame, flow_key, generate::Input, network::Network},
    testrun::{
        compare::compare,
        program::{self, Ran},
        snapshot::PlannedService,
    },
};
use anyhow::{Context, Result, bail, ensure};
use proxy_common::{
    keys::ServiceKey,
    net::{Address, Protocol},
    values::{ServiceValue, SlotValue, backend_flags, slot_state},
    verdict::DropReason,
};
use std::{net::IpAddr, time::Duration};
use weir::model::{FlowHash, ForwardMode, Tracking};

/// What the model knew before a packet.
#[derive(Clone, Copy)]
struct Known {
    service: ServiceValue,
    slot: SlotValue,
    flow: Option<Flow>,
    /// It is stored.
    has_entry: bool,
    /// The packet comes from another port than the flow's first.
    is_elsewhere: bool,
    /// Packets of the service whose flow was to be stored, and was not.
    untracked: u64,
}

impl Round<'_> {
    /// The next packet of a tuple, if the service is there.
    pub(super) fn send(&mut self, number: usize, tuple: usize) -> Result<()> {
        let life = &self.lives[number];
        if life.is_away {
            return Ok(());
        }
        let packet = life.packet(tuple, &mut self.random);
        let frame = life.frame(tuple, packet, &mut self.random);
        let known = self.known(&frame, life.flows[tuple])?;
        let bytes = frame.bytes();
        let input = Input {
            ifindex: self.bench.topology.arriving,
            linear: bytes.len(),
            frame: bytes,
            room: true,
        };
        self.failed = Some(number);
        self.set_clock()?;
        let expected = self.model.packet(input.ifindex, &input.frame, input.room);
        let ran = self.bench.run(&input)?;
        let same = compare(&expected, &ran, 0);
        let reached = match reached(self.lives[number].service.mode, &ran, &self.model.network)? {
            Some(address) => Reached::Backend(address),
            None => Reached::Nobody(dropped(&mut self.drops, |reason| self.bench.maps.drops(reason))?),
        };
        let slot = self.words(known.slot);
        let to = match reached {
            Reached::Backend(address) => address.to_string(),
            Reached::Nobody(reason) => reason.label().to_owned(),
        };
        self.steps.push((
            Some(number),
            format!("{packet:?} of tuple {tuple} to {to}; {slot}"),
        ));
        let life = &mut self.lives[number];
        life.flows[tuple] = judge(&life.service, known.flow, packet, reached, self.clock)?;
        check_affinity(&life.service, packet, reached, known)?;
        same.context("the model decided otherwise")?;
        self.failed = None;
        self.tally.packets += 1;
        self.note(number, packet, reached, known);
        Ok(())
    }

    fn known(&self, frame: &Frame, flow: Option<Flow>) -> Result<Known> {
        let key = flow_key(frame.source, frame.destination, frame.protocol);
        let service = ServiceKey {
            address: key.destination,
            port: key.destination_port,
            protocol: key.protocol,
            pad: 0,
        };
        let service = *self.model.services.get(&service).context("no such service")?;
        let (slot, _) = self.model.slot_of(&service, &key).context("no such slot")?;
        Ok(Known {
            service,
            slot,
            flow,
            is_elsewhere: frame.source.1 < 40_000,
            has_entry: self.model.tracked.contains_key(&key),
            untracked: self.untracked(&service),
        })
    }

    /// A slot in a few words.
    fn words(&self, slot: SlotValue) -> String {
        let name = |index: u32| match self.model.backends.get(&index) {
            Some(backend) => IpAddr::from(backend.address).to_string(),
            None => "nobody".to_owned(),
        };
        let state = match slot.previous {
            slot_state::PLAIN => "plain".to_owned(),
            slot_state::TRACKED => "tracked".to_owned(),
            before => format!("moving from {}", name(before)),
        };
        format!("slot of {}, {state}", name(slot.backend))
    }

    fn untracked(&self, service: &ServiceValue) -> u64 {
        let counts = self.model.counts.services.get(&service.index);
        counts.map_or(0, |counts| counts.untracked)
    }

    fn is_slots(&self, slot: SlotValue, address: IpAddr) -> bool {
        let backend = self.model.backends.get(&slot.backend);
        backend.is_some_and(|backend| backend.address == Address::from(address))
    }

    /// Counts what a packet was, and what it shows.
    fn note(&mut self, number: usize, packet: Packet, reached: Reached, known: Known) {
        let is_untracked = self.untracked(&known.service) != known.untracked;
        if is_untracked {
            self.tally.note(if self.model.is_limited {
                "flow: not stored, too many came"
            } else {
                "flow: not stored, the table is full"
            });
        }
        let address = match reached {
            Reached::Backend(address) => address,
            Reached::Nobody(DropReason::FlowTableFull) => return self.tally.note("drop: flow_table_full"),
            Reached::Nobody(DropReason::FlowLimit) => return self.tally.note("drop: flow_limit"),
            Reached::Nobody(_) => return self.tally.note("drop: no_backend"),
        };
        let state = known.flow.map(|flow| flow.state);
        self.tally.note(match (packet, state) {
            (Packet::Syn, None) => "flow: SYN",
            (Packet::Syn, Some(State::Opening)) => "flow: SYN once more",
            (Packet::Syn, Some(State::Going)) => "flow: SYN of an established one",
            (Packet::Syn, Some(State::Closing)) => "flow: SYN after FIN or RST",
            (Packet::Ack, Some(State::Opening)) => "flow: handshake ended",
            (Packet::Ack, _) => "flow: data",
            (Packet::Fin, _) => "flow: FIN",
            (Packet::Rst, _) => "flow: RST",
            (Packet::Datagram, _) => "flow: UDP",
        });
        let before = known.slot.moving_from();
        let before = before.and_then(|index| self.model.backends.get(&index));
        let is_draining = before.is_some_and(|backend| backend.flags & backend_flags::DRAINING != 0);
        if packet == Packet::Syn && is_draining && self.is_slots(known.slot, address) {
            self.tally.note("flow: SYN kept from a draining backend");
        }
        let opens = matches!(packet, Packet::Syn | Packet::Datagram) && !known.has_entry;
        let has_affinity = self.lives[number].service.affinity.is_some();
        if opens && has_affinity && !self.is_slots(known.slot, address) && !is_untracked {
            self.tally.note("flow: opened by affinity");
        }
        match known.flow {
            Some(flow) if known.is_elsewhere && !flow.is_lost => {
                self.tally.note("held: by connection ID, from another port");
            }
            Some(flow) if packet != Packet::Syn && !flow.is_lost => {
                self.note_held(number, &flow, known.slot, is_untracked)
            }
            _ => {}
        }
    }

    /// Counts what kept a flow where it is.
    fn note_held(&mut self, number: usize, flow: &Flow, slot: SlotValue, is_untracked: bool) {
        let service = &self.lives[number].service;
        let tally = &mut *self.tally;
        tally.note("held: to its backend");
        let longest = flow.longest_silence(service.protocol);
        if Duration::from_nanos(self.clock - flow.last) > longest * 9 / 10 {
            tally.note("held: after nearly its idle timeout");
        }
        let backend = self.model.backends.get(&slot.backend);
        if backend.is_some_and(|backend| backend.address == Address::from(flow.backend)) {
            return;
        }
        let (protocol, state) = (service.protocol, flow.state);
        let kinds = [
            (true, "held: not the slot's backend"),
            (protocol == Protocol::Udp, "held: UDP, not the slot's backend"),
            (state == State::Opening, "held: half open, not the slot's backend"),
            (state == State::Closing, "held: closing"),
            (
                slot.previous == slot_state::TRACKED,
                "held: not the slot's backend, which is tracked",
            ),
            (is_untracked, "held: not the slot's backend, the table is full"),
            (flow.last < self.restarted, "held: after a restart"),
            (service.tracking == Tracking::Always, "held: by tracking: always"),
            (service.quic.is_some(), "held: by connection ID"),
            (service.hash == FlowHash::Source, "held: hash by source"),
            (
                service.hash == FlowHash::SourceDestination,
                "held: hash by source and destination",
            ),
        ];
        for (_, kind) in kinds.iter().filter(|(is, _)| *is) {
            tally.note(kind);
        }
    }
}

/// With affinity a datagram without an entry opens a flow, which no backend that drains must get.
fn check_affinity(service: &PlannedService, packet: Packet, reached: Reached, known: Known) -> Result<()> {
    let (Reached::Backend(address), Packet::Datagram, false, Some(_)) =
        (reached, packet, known.has_entry, service.affinity)
    else {
        return Ok(());
    };
    let mut backends = service.backends.iter();
    let backend = backends.find(|backend| backend.address.ip() == address);
    ensure!(
        !backend.is_some_and(is_draining),
        "{address} drains and got a new flow of datagrams"
    );
    Ok(())
}

/// The backend that a frame went to; none for a drop.
fn reached(mode: ForwardMode, ran: &Ran<'_>, network: &Network) -> Result<Option<IpAddr>> {
    match ran.action {
        program::DROP => return Ok(None),
        program::TX | program::REDIRECT => {}
        action => bail!("XDP action {action}"),
    }
    let frame = ran.frame;
    if mode == ForwardMode::DsrL2 {
        let mut neighbours = network.neighbours.iter();
        let found = neighbours.find(|(_, mac)| frame.starts_with(mac.as_slice()));
        let ((_, address), _) = found.context("sent to a MAC address that nobody has")?;
        return Ok(Some(*address));
    }
    ensure!(frame.len() > 54, "{} bytes", frame.len());
    // The outer header's destination, behind the Ethernet header.
    Ok(Some(if frame[14] >> 4 == 4 {
        IpAddr::from(<[u8; 4]>::try_from(&frame[30..34])?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&frame[38..54])?)
    }))
}

/// Why the last packet was dropped: the reason whose counter rose.
fn dropped(
    drops: &mut [u64; DropReason::COUNT],
    count: impl Fn(DropReason) -> Result<u64>,
) -> Result<DropReason> {
    for reason in DropReason::ALL {
        let counted = count(*reason)?;
        if counted != drops[*reason as usize] {
            drops[*reason as usize] = counted;
            return Ok(*reason);
        }
    }
    bail!("dropped, and no counter rose")
}
