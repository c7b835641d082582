//! A service under test: how it is made, what may change about its backends, and the flows that clients have to it.

use super::{
    account::{Flow, Packet, State},
    tally::Tally,
};
use crate::{
    model::{build::Frame, generate::quic::server_id, random::Random, translate::End},
    testrun::snapshot::{PlannedBackend, PlannedService},
};
use anyhow::Result;
use proxy_common::{
    net::Protocol,
    quic::{MAX_CONFIG_ID, SERVER_ID_BYTES},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use weir::model::{Affinity, FlowHash, ForwardMode, Quic, ServerId, Tracking};

/// Neighbours of both links that the kernel knows: each has a MAC address of its own.
const BACKENDS_IPV4: [&str; 6] = [
    "192.0.2.20:8080",
    "192.0.2.21:8080",
    "198.51.100.20:8080",
    "198.51.100.21:8080",
    "198.51.100.22:8080",
    "198.51.100.23:8080",
];

/// The same for IPv6.
const BACKENDS_IPV6: [&str; 6] = [
    "[2001:db8:1::20]:8080",
    "[2001:db8:1::21]:8080",
    "[2001:db8:2::20]:8080",
    "[2001:db8:2::21]:8080",
    "[2001:db8:2::22]:8080",
    "[2001:db8:2::23]:8080",
];

/// Slots: few, so that flows share them, and tables are soon read back.
const TABLE_SIZE: u32 = 13;

/// The affinity of services that have one: two of an address's flows are a while apart. No round number, or an age could be
/// so near to it that milliseconds count.
const AFFINITY: Affinity = Affinity {
    timeout: Duration::from_millis(77_077),
    ipv4_prefix: 32,
    ipv6_prefix: 128,
};

/// Flows that clients may have to a service at a time, each by a tuple of its own.
pub(super) const TUPLES: usize = 12;

/// A service, its flows, and what it was.
pub(super) struct Life {
    /// Its number in the round.
    number: u8,
    /// What it is now.
    pub(super) service: PlannedService,
    /// It was taken away, and may come back.
    pub(super) is_away: bool,
    /// By their tuple's number.
    pub(super) flows: [Option<Flow>; TUPLES],
    /// Backends that it doesn't have.
    spare: Vec<PlannedBackend>,
    /// Its backends, before they last changed.
    before: Vec<PlannedBackend>,
}

/// Has a service's datagrams name their backends.
fn speak_quic(service: &mut PlannedService, random: &mut Random) {
    let server_id_length = 1 + random.below(SERVER_ID_BYTES) as u8;
    service.quic = Some(Quic {
        config_id: random.below(usize::from(MAX_CONFIG_ID) + 1) as u8,
        server_id_length,
    });
    for (backend, number) in service.backends.iter_mut().zip(1..) {
        backend.server_id = ServerId::new(&server_id(number, server_id_length));
    }
}

/// What a client sends: before it knows a server's connection ID an Initial packet with one that names nobody; then what ends the
/// handshake, and data.
fn datagram(quic: Quic, server: Option<ServerId>, is_opening: bool) -> Vec<u8> {
    const NONCE: [u8; 6] = [0xab; 6];
    let (kind, id) = match server {
        None => (0xc0, vec![0xe0; 8]),
        Some(id) => {
            let first = [quic.config_id << 5 | 0x15];
            (0xe0, [&first, id.bytes(), &NONCE].concat())
        }
    };
    let head = if server.is_none() || is_opening {
        vec![kind, 0, 0, 0, 1, id.len() as u8]
    } else {
        vec![0x40]
    };
    [head, id, vec![0x77; 40]].concat()
}

impl Life {
    /// A service without NAT of any kind, with two to four backends.
    pub(super) fn new(number: u8, protocol: Protocol, random: &mut Random) -> Result<Self> {
        let is_ipv4 = random.once_in(2);
        let mode = *random.pick(&[ForwardMode::DsrL2, ForwardMode::Ipip, ForwardMode::Gue]);
        let is_across = mode.is_tunnel() && random.once_in(4);
        let backends = if is_ipv4 != is_across {
            BACKENDS_IPV4
        } else {
            BACKENDS_IPV6
        };
        let address = if is_ipv4 {
            format!("198.18.0.{}:80", number + 1)
        } else {
            format!("[2001:db8:a::{:x}]:80", number + 1)
        };
        let mut service = PlannedService::new(&address, protocol, &backends)?;
        service.mode = mode;
        service.table_size = TABLE_SIZE;
        service.tracking = if random.once_in(3) {
            Tracking::Always
        } else {
            Tracking::Auto
        };
        service.hash = *random.pick(&[
            FlowHash::FiveTuple,
            FlowHash::FiveTuple,
            FlowHash::Source,
            FlowHash::SourceDestination,
        ]);
        if service.tracking == Tracking::Always && random.once_in(2) {
            service.affinity = Some(AFFINITY);
        } else if protocol == Protocol::Udp && random.once_in(2) {
            speak_quic(&mut service, random);
        }
        let mut spare = Vec::new();
        for _ in 0..2 + random.below(3) {
            spare.push(service.backends.swap_remove(random.below(service.backends.len())));
        }
        Ok(Self {
            number,
            before: service.backends.clone(),
            service,
            is_away: false,
            flows: [None; TUPLES],
            spare,
        })
    }

    /// Counts of what kind the service is.
    pub(super) fn note(&self, tally: &mut Tally) {
        tally.note(match self.service.mode {
            ForwardMode::DsrL2 => "service: dsr-l2",
            ForwardMode::Gue => "service: gue",
            _ => "service: ipip",
        });
        if self.service.quic.is_some() {
            tally.note("service: QUIC");
        }
        let is_ipv4 = self.service.address.is_ipv4();
        tally.note(if is_ipv4 { "service: IPv4" } else { "service: IPv6" });
        if self
            .service
            .backends
            .iter()
            .any(|backend| backend.address.is_ipv4() != is_ipv4)
        {
            tally.note("service: tunnel through the other family");
        }
    }

    /// A client's packet in the flow of a tuple. Half of the clients' addresses have two of them. With QUIC clients come from other
    /// ports too, once they know a connection ID.
    pub(super) fn frame(&self, tuple: usize, packet: Packet, random: &mut Random) -> Frame {
        let client = (2 * tuple / 3) as u8;
        let address = match self.service.address.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(198, 19, self.number, client)),
            IpAddr::V6(_) => {
                let last = u16::from(self.number) << 8 | u16::from(client);
                IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, last))
            }
        };
        let mut source: End = (address, 40_000 + tuple as u16);
        let destination = (self.service.address.ip(), self.service.address.port());
        if let Some(quic) = self.service.quic {
            let flow = self.flows[tuple].filter(|_| packet != Packet::Syn);
            let is_opening = flow.is_some_and(|flow| flow.state == State::Opening);
            // No client moves before the handshake is over (RFC 9000 section 9).
            if flow.is_some() && !is_opening && random.once_in(3) {
                source.1 = 30_000 + random.below(1_000) as u16;
            }
            let mut frame = Frame::udp(source, destination);
            let server = flow.and_then(|flow| self.server_id(flow.backend));
            frame.payload = datagram(quic, server, is_opening);
            return frame;
        }
        match packet {
            Packet::Datagram => Frame::udp(source, destination),
            packet => Frame::tcp(source, destination, packet.flags()),
        }
    }

    /// What the client of a tuple sends next.
    pub(super) fn packet(&self, tuple: usize, random: &mut Random) -> Packet {
        if self.service.protocol == Protocol::Udp && self.service.quic.is_none() {
            return Packet::Datagram;
        }
        let (odds, otherwise): (&[(usize, Packet)], _) = match self.flows[tuple].map(|flow| flow.state) {
            None => (&[], Packet::Syn),
            Some(_) if self.service.quic.is_some() => (&[(14, Packet::Syn)], Packet::Ack),
            Some(State::Opening) => (&[(5, Packet::Syn), (20, Packet::Rst)], Packet::Ack),
            Some(State::Going) => (
                &[(12, Packet::Fin), (14, Packet::Rst), (14, Packet::Syn)],
                Packet::Ack,
            ),
            Some(State::Closing) => (&[(2, Packet::Syn), (8, Packet::Fin)], Packet::Ack),
        };
        for (times, packet) in odds {
            if random.once_in(*times) {
                return *packet;
            }
        }
        otherwise
    }

    /// How connection IDs name a backend; also one that is not there.
    fn server_id(&self, address: IpAddr) -> Option<ServerId> {
        let mut backends = self.service.backends.iter().chain(&self.spare);
        let backend = backends.find(|backend| backend.address.ip() == address)?;
        backend.server_id
    }

    /// What it is, in a few words.
    pub(super) fn words(&self) -> String {
        let service = &self.service;
        format!(
            "{} {:?}, {}, tracking {}, affinity {}, quic {}, hash {:?}: {}",
            service.address,
            service.protocol,
            service.mode,
            service.tracking,
            service.affinity.is_some(),
            service.quic.is_some(),
            service.hash,
            self.backends()
        )
    }

    /// Its backends in a few words.
    pub(super) fn backends(&self) -> String {
        if self.is_away {
            return "it is away".to_owned();
        }
        let backends = self.service.backends.iter().map(|backend| {
            let dead = if backend.dead { " dead" } else { "" };
            let drain = if backend.drain { " draining" } else { "" };
            format!("{} x{}{dead}{drain}", backend.address.ip(), backend.weight)
        });
        backends.collect::<Vec<_>>().join(", ")
    }

    /// Changes something about the backends; returns what.
    pub(super) fn change(&mut self, random: &mut Random) -> Option<&'static str> {
        if self.is_away {
            self.is_away = random.once_in(2);
            return (!self.is_away).then_some("change: service added");
        }
        let last = self.service.backends.clone();
        let kind = self.change_backends(random)?;
        if last != self.service.backends {
            self.before = last;
        }
        Some(kind)
    }

    fn change_backends(&mut self, random: &mut Random) -> Option<&'static str> {
        let backends = &mut self.service.backends;
        let count = backends.len();
        if count == 0 {
            backends.push(self.spare.pop()?);
            return Some("change: backend added");
        }
        let backend = &mut backends[random.below(count)];
        match random.below(20) {
            0..3 if !self.spare.is_empty() => {
                let place = random.below(self.spare.len());
                backends.push(self.spare.swap_remove(place));
                Some("change: backend added")
            }
            3 | 4 if count > 1 || random.once_in(8) => {
                let mut gone = backends.swap_remove(random.below(count));
                (gone.dead, gone.drain, gone.weight) = (false, false, 1);
                self.spare.push(gone);
                Some("change: backend removed")
            }
            5..8 => {
                backend.drain = !backend.drain;
                Some(if backend.drain {
                    "change: drain"
                } else {
                    "change: undrain"
                })
            }
            8..10 => {
                backend.weight = *random.pick(&[0, 1, 2, 3]);
                Some(if backend.weight == 0 {
                    "change: weight 0"
                } else {
                    "change: weight"
                })
            }
            10..13 => {
                backend.dead = !backend.dead;
                Some(if backend.dead {
                    "change: dead"
                } else {
                    "change: revived"
                })
            }
            // Whoever is not well recovers: services without anybody teach little.
            13..15 => {
                let ill = backends
                    .iter_mut()
                    .find(|backend| backend.dead || backend.drain)?;
                let was_dead = std::mem::take(&mut ill.dead);
                ill.drain &= was_dead;
                Some(if was_dead {
                    "change: revived"
                } else {
                    "change: undrain"
                })
            }
            15..19 => {
                self.undo();
                Some("change: undone")
            }
            19 if random.once_in(4) => {
                self.is_away = true;
                Some("change: service removed")
            }
            _ => None,
        }
    }

    /// Makes the backends what they were before the last change.
    fn undo(&mut self) {
        let before = self.before.clone();
        let mut others = std::mem::replace(&mut self.service.backends, before);
        others.append(&mut self.spare);
        let backends = &self.service.backends;
        others.retain(|one| backends.iter().all(|other| other.address != one.address));
        self.spare = others;
    }

    /// Flows whose backend died or went may go anywhere now.
    pub(super) fn lose(&mut self, tally: &mut Tally) {
        let backends = &self.service.backends;
        for slot in &mut self.flows {
            if self.is_away {
                *slot = None;
            }
            let Some(flow) = slot else {
                continue;
            };
            let lives = backends
                .iter()
                .any(|backend| backend.address.ip() == flow.backend && !backend.dead);
            if !lives && !flow.is_lost {
                flow.is_lost = true;
                tally.note("flow: lost its backend");
            }
        }
    }

    /// Ends flows that were silent for too long.
    pub(super) fn expire(&mut self, now: u64) {
        for slot in &mut self.flows {
            let Some(flow) = slot else {
                continue;
            };
            if now - flow.last <= flow.longest_silence(self.service.protocol).as_nanos() as u64 {
                continue;
            }
            // Its SYN may come once more, and find what the first one left.
            match flow.state {
                State::Opening => flow.is_lost = true,
                _ => *slot = None,
            }
        }
    }
}
