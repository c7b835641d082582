//! A second forwarder, written from docs/dataplane.md, docs/hashing.md and the RFCs: what the kernel
//! programs must agree with. It shares the maps' keys and values with them, and no packet code.

mod affinity;
pub mod build;
mod complaint;
mod counts;
pub mod decap;
pub mod direct;
pub mod flows;
pub mod fragments;
pub mod generate;
mod guard;
mod icmp;
pub mod maglev;
mod mutate;
pub mod network;
pub mod parse;
pub mod quic;
pub mod random;
pub mod ranges;
pub mod said;
pub mod slots;
pub mod sum;
pub mod translate;

pub use counts::Counts;
use network::Network;
use parse::{ETHERNET_LENGTH, ICMP, ICMPV6, Located, Packet, Piece, TCP, UDP};
use proxy_common::{
    affinity::Affinity,
    fragments::{FragmentKey, FragmentValue},
    keys::{FlowKey, ServiceKey},
    net::Address,
    values::{
        BackendValue, FlowValue, Handover, ServiceValue, Settings, SlotValue, TrackedFlow, backend_flags,
        flow_flags,
    },
    verdict::DropReason,
};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};
use translate::End;
use weir::model::Guard;

/// What the forwarder knows, and decides packets by.
#[derive(Clone, Debug)]
pub struct Model {
    /// As in the map `services`.
    pub services: HashMap<ServiceKey, ServiceValue>,
    /// Addresses with at least one service.
    pub vips: HashSet<IpAddr>,
    /// Services of several ports or addresses.
    pub ranges: HashMap<ServiceKey, ranges::Range>,
    /// Maglev tables by service index.
    pub slots: HashMap<u32, Vec<SlotValue>>,
    /// By backend index; free ones are absent or have the incarnation zero.
    pub backends: HashMap<u32, BackendValue>,
    /// Both entries of every flow. Their `last_seen` is the caller's to keep: 0 in new ones.
    pub flows: HashMap<FlowKey, FlowValue>,
    /// Entries that fit into `flows`.
    pub flow_entries_max: usize,
    /// As in `tracked_flows`; `last_seen` as in `flows`.
    pub tracked: HashMap<FlowKey, TrackedFlow>,
    /// Entries that fit into it.
    pub tracked_max: usize,
    /// As in `fragments`, which never is full.
    pub fragments: HashMap<FragmentKey, FragmentValue>,
    /// The end of tunnels.
    pub tunnels: decap::Tunnels,
    /// Later fragments that followed their first.
    pub followed: u64,
    /// Packets whose connection ID named their backend.
    pub named: u64,
    /// Rules and limits of services that have some.
    pub guards: HashMap<ServiceKey, Guard>,
    /// What sources have left of a service's limits, by its index.
    pub left: HashMap<(u32, IpAddr), guard::Left>,
    /// What is to be remembered of sources of services with affinity, by index.
    pub affinity_rules: HashMap<u32, weir::model::Affinity>,
    /// As in `affinities`, by service and network. `opened` as `last_seen` in `flows`, unless there is a clock.
    pub affinities: HashMap<(u32, IpAddr), Affinity>,
    /// Services whose datagrams' connection IDs are read, by index.
    pub quic: HashMap<u32, quic::Rules>,
    /// The largest TCP segment of services that have one, by index; removed ones too, as long as nobody else has the index.
    pub segments: HashMap<u32, u16>,
    /// The host stores no new flows.
    pub is_limited: bool,
    /// The time on the programs' clock, for what depends on it.
    pub now: u64,
    /// As in `service_counters` and `backend_counters`, by index.
    pub counts: Counts,
    /// NAT's ports.
    pub settings: Settings,
    /// Next hops.
    pub network: Network,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// To the stack.
    Pass,
    /// To the stack, with metadata that tells `tc_ingress` to send it out of this interface, perhaps to a certain neighbour.
    HandOver(u32, Option<IpAddr>),
    /// Out of the arriving interface.
    Transmit,
    /// Out of this interface.
    Redirect(u32),
    /// Nowhere.
    Drop(DropReason),
}

/// A decision, the frame it is about, and the flow entries that were looked at or changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What becomes of the packet.
    pub decision: Decision,
    /// The frame after the program; of no meaning for a drop.
    pub frame: Vec<u8>,
    /// Keys of `flows` whose entries the packet may have changed.
    pub touched: Vec<FlowKey>,
    /// The entry that the packet found or made, and stamped.
    pub stamped: Option<FlowKey>,
    /// Keys of `tracked_flows` whose entries the packet may have changed.
    pub tracked: Vec<FlowKey>,
    /// Why the packet was dropped, although its sender gets an answer.
    pub answered: Option<DropReason>,
}

/// A packet under way through the model.
struct Job<'a> {
    ifindex: u32,
    frame: &'a [u8],
    /// Whether there is room in front of the packet for metadata.
    room: bool,
    touched: Vec<FlowKey>,
    stamped: Option<FlowKey>,
    tracked: Vec<FlowKey>,
    /// The packet, once it is known to be TCP or UDP.
    packet: Option<Packet>,
    /// Whether it was held to be a tunnel's already.
    is_looked_into: bool,
    /// The largest packet that would have gone the way of one that was too large.
    mtu: usize,
    /// Index of the service that a client's packet is for.
    service: Option<u32>,
}

/// A translated frame and where it is to go.
struct Translated {
    frame: Vec<u8>,
    network: usize,
    end: usize,
    /// The entry it was translated by.
    entry: FlowValue,
}

impl Model {
    /// A model that knows nothing but its surroundings.
    pub fn new(network: Network, settings: Settings, flow_entries_max: usize, tracked_max: usize) -> Self {
        Self {
            services: HashMap::new(),
            vips: HashSet::new(),
            ranges: HashMap::new(),
            slots: HashMap::new(),
            backends: HashMap::new(),
            flows: HashMap::new(),
            flow_entries_max,
            tracked: HashMap::new(),
            tracked_max,
            fragments: HashMap::new(),
            tunnels: decap::Tunnels::default(),
            followed: 0,
            named: 0,
            guards: HashMap::new(),
            left: HashMap::new(),
            affinity_rules: HashMap::new(),
            affinities: HashMap::new(),
            quic: HashMap::new(),
            segments: HashMap::new(),
            is_limited: false,
            now: 0,
            counts: Counts::default(),
            settings,
            network,
        }
    }

    /// Decides one frame that arrived on an interface. `room`: whether the driver leaves room for
    /// metadata in front of it; else there is only what VLAN tags leave that are taken away.
    pub fn packet(&mut self, ifindex: u32, frame: &[u8], room: bool) -> Outcome {
        let mut job = Job {
            ifindex,
            frame,
            room,
            touched: Vec::new(),
            stamped: None,
            tracked: Vec::new(),
            packet: None,
            is_looked_into: false,
            mtu: 0,
            service: None,
        };
        let decided = self.decide(&mut job);
        if let (Err(_), Some(service)) = (&decided, job.service) {
            self.counts.services.entry(service).or_default().drops += 1;
        }
        let mut answered = None;
        let (decision, frame) = match decided {
            Ok(Some((decision, frame))) => (decision, frame),
            Ok(None) => {
                // What is for a service or a flow is for no tunnel.
                let delivered = if job.is_looked_into {
                    None
                } else {
                    self.deliver(frame)
                };
                (Decision::Pass, delivered.unwrap_or_else(|| frame.to_vec()))
            }
            Err(reason) => {
                let packet = job.packet.take();
                match packet.and_then(|packet| self.complaint(&job, &packet, reason)) {
                    Some(answer) => {
                        answered = Some(reason);
                        answer
                    }
                    None => (Decision::Drop(reason), frame.to_vec()),
                }
            }
        };
        Outcome {
            decision,
            frame,
            touched: job.touched,
            stamped: job.stamped,
            tracked: job.tracked,
            answered,
        }
    }

    /// None: the frame passes untouched.
    fn decide(&mut self, job: &mut Job) -> Result<Option<(Decision, Vec<u8>)>, DropReason> {
        let Some(located) = parse::locate(job.frame) else {
            return Ok(None);
        };
        let for_vip = self.is_vip(located.destination);
        match self.decide_located(job, &located, for_vip) {
            Err(Failure::Malformed(reason)) if for_vip => Err(reason),
            Err(Failure::Malformed(_)) => Ok(None),
            Err(Failure::Dropped(reason)) => Err(reason),
            Ok(decided) => Ok(decided),
        }
    }

    fn decide_located(
        &mut self,
        job: &mut Job,
        located: &Located,
        for_vip: bool,
    ) -> Result<Option<(Decision, Vec<u8>)>, Failure> {
        let headers = parse::headers(job.frame, located, self.follows());
        let mut packet = headers.map_err(Failure::Malformed)?;
        let mut known = None;
        if let Piece::Later(identification) = packet.piece {
            let unknown = Failure::Malformed(DropReason::Fragment);
            let (protocol, ports) = self.remembered(&packet, identification).ok_or(unknown)?;
            packet.protocol = protocol;
            known = Some(ports);
            self.followed += 1;
        }
        let translated = match packet.protocol {
            TCP | UDP => {
                let ports = match known {
                    Some(ports) => ports,
                    None => parse::ports(job.frame, &packet).map_err(Failure::Malformed)?,
                };
                job.packet = Some(packet);
                self.transport(job, &packet, ports)?
            }
            _ if packet.piece != Piece::Whole => {
                return Err(Failure::Malformed(DropReason::Fragment));
            }
            ICMP if packet.destination.is_ipv4() => self.icmp(job, &packet, for_vip)?,
            ICMPV6 if packet.destination.is_ipv6() => self.icmp(job, &packet, for_vip)?,
            _ => Next::Untouched,
        };
        match translated {
            Next::Untouched => Ok(None),
            Next::Decided(decided) => Ok(Some(decided)),
            Next::Answer(frame) => Ok(Some((Decision::Transmit, frame))),
            Next::Send(translated) => {
                let entry = translated.entry;
                let sent = self.send(job, translated).map_err(Failure::Dropped)?;
                self.counts.forwarded(&entry, packet.end as u64);
                Ok(Some(sent))
            }
        }
    }

    /// TTL, route lookup and next hop (rules 3 and 5).
    fn send(&self, job: &mut Job, translated: Translated) -> Result<(Decision, Vec<u8>), DropReason> {
        let Translated {
            mut frame,
            network,
            end,
            entry,
        } = translated;
        if entry.flags & flow_flags::TO_HOST != 0 {
            return Ok((Decision::Pass, frame));
        }
        let ttl = translate::ttl(&frame, network);
        if ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let hop = self
            .network
            .next_hop(job.ifindex, entry.destination.into(), end - network)
            .inspect_err(|_| {
                let way = self.network.way(entry.destination.into());
                job.mtu = way.map_or(0, |way| way.mtu);
            })?;
        translate::set_ttl(&mut frame, network, ttl - 1);
        let Some((source, destination)) = hop.macs else {
            let tags = network - ETHERNET_LENGTH;
            if !job.room && tags < size_of::<Handover>() {
                return Err(DropReason::NeighbourUnresolved);
            }
            frame.drain(12..network - 2);
            return Ok((Decision::HandOver(hop.ifindex, None), frame));
        };
        frame[0..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&source);
        if hop.ifindex == job.ifindex {
            return Ok((Decision::Transmit, frame));
        }
        frame.drain(12..network - 2);
        Ok((Decision::Redirect(hop.ifindex), frame))
    }

    /// Whether a flow's backend is the one it was opened to, and alive.
    pub fn has_live_backend(&self, value: &FlowValue) -> bool {
        self.backends.get(&value.backend).is_some_and(|backend| {
            backend.incarnation == value.incarnation && backend.flags & backend_flags::DEAD == 0
        })
    }

    /// Whether a port is one that NAT gives out.
    fn is_nat_port(&self, port: u16) -> bool {
        (self.settings.nat_port_first..=self.settings.nat_port_last).contains(&port)
    }
}

/// What comes after a packet was looked at.
enum Next {
    Untouched,
    Decided((Decision, Vec<u8>)),
    Answer(Vec<u8>),
    Send(Translated),
}

/// Why a packet is not forwarded.
enum Failure {
    /// Its headers are wrong: a drop if it is for a VIP, else it passes.
    Malformed(DropReason),
    /// It is dropped whatever its destination.
    Dropped(DropReason),
}

/// The key of a 5-tuple.
pub fn flow_key(source: End, destination: End, protocol: u8) -> FlowKey {
    FlowKey {
        source: Address::from(source.0),
        destination: Address::from(destination.0),
        source_port: source.1,
        destination_port: destination.1,
        protocol,
        pad: [0; 3],
    }
}

/// The tuple of a packet, source first.
fn ends_of(packet: &Packet, ports: (u16, u16)) -> (End, End) {
    ((packet.source, ports.0), (packet.destination, ports.1))
}
