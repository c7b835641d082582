//! Random frames for the program and the model: clients' packets, replies, ICMP, and all of them mutated.

mod dress;
pub mod fragments;
pub mod quic;
mod tunnels;

use super::{
    Model,
    build::{Checksum, Frame},
    flows::peer,
    mutate::mutate,
    parse::{TCP, UDP},
    random::Random,
    translate::End,
};
use proxy_common::{
    keys::FlowKey,
    values::{FlowValue, flow_flags},
};
use std::net::IpAddr;

/// Frames and flow keys that are remembered, to be used again.
const REMEMBERED: usize = 1024;

/// A frame and how it arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// The arriving interface.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// Whether there is room for metadata in front of it.
    pub room: bool,
    /// Bytes of it that lie in one piece; the rest is in fragments of memory.
    pub linear: usize,
}

/// Bytes that drivers leave in one piece at least, and all headers that are walked fit into.
const LINEAR_LEAST: usize = 400;

/// What the generator draws from.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Interfaces that frames arrive at; the first gets most.
    pub interfaces: Vec<u32>,
    /// Addresses of clients, of both families.
    pub clients: Vec<IpAddr>,
    /// Services: VIP and port, protocol.
    pub services: Vec<(End, u8)>,
    /// NAT's source addresses.
    pub translators: Vec<IpAddr>,
    /// Addresses of this host that tunnels end at.
    pub ends: Vec<IpAddr>,
    /// VIPs that tunnels bring packets for.
    pub tunnel_vips: Vec<IpAddr>,
    /// The UDP port of GUE.
    pub gue_port: u16,
    /// How many of a hundred frames come by tunnels.
    pub tunnels: usize,
    /// Routers and others that errors come from.
    pub strangers: Vec<IpAddr>,
}

/// Makes frames.
pub struct Generator {
    pools: Pools,
    random: Random,
    /// Fragments to come.
    pending: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
    keys: Vec<FlowKey>,
}

fn remember<T>(memory: &mut Vec<T>, random: &mut Random, value: T) {
    if memory.len() < REMEMBERED {
        memory.push(value);
    } else {
        let place = random.below(REMEMBERED);
        memory[place] = value;
    }
}

impl Generator {
    /// A generator whose frames follow from the seed and the models it is shown.
    pub fn new(pools: Pools, seed: u64) -> Self {
        Self {
            pools,
            random: Random::new(seed),
            pending: Vec::new(),
            frames: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Remembers the keys that a packet touched, so that later frames can answer it.
    pub fn learn(&mut self, touched: &[FlowKey]) {
        if let Some(key) = touched.last()
            && self.random.once_in(4)
        {
            remember(&mut self.keys, &mut self.random, *key);
        }
    }

    /// The next frame.
    pub fn next(&mut self, model: &Model) -> Input {
        let ifindex = if self.random.once_in(16) {
            *self.random.pick(&self.pools.interfaces)
        } else {
            self.pools.interfaces[0]
        };
        let mut frame = self.any(model);
        if self.random.once_in(32) {
            remember(&mut self.frames, &mut self.random, frame.clone());
        }
        let is_mutated = self.random.once_in(4);
        if is_mutated {
            for _ in 0..=self.random.below(3) {
                mutate(&mut frame, &mut self.random);
            }
        }
        // The kernel runs no frame shorter than an Ethernet header.
        frame.resize(frame.len().max(14), 0);
        let mut linear = frame.len();
        // A mutated length may put headers far behind: drivers don't cut those off, and neither may we.
        if linear > LINEAR_LEAST && !is_mutated && self.random.once_in(2) {
            linear = LINEAR_LEAST + self.random.below(linear - LINEAR_LEAST);
        }
        Input {
            ifindex,
            frame,
            room: !self.random.once_in(64),
            linear,
        }
    }

    fn any(&mut self, model: &Model) -> Vec<u8> {
        if !self.random.once_in(4)
            && let Some(frame) = self.pending.pop()
        {
            return frame;
        }
        if self.random.below(100) < self.pools.tunnels {
            return match self.random.below(16) {
                0 => self.beside_tunnels(),
                _ => self.tunnel(),
            };
        }
        match self.random.below(100) {
            0..3 => self.fragments(model),
            3..40 => self.client(),
            40..65 => self.reply(model),
            65..82 => self.error(model),
            82..90 => self.echo(),
            90..94 => self.stranger(),
            94..96 => self.noise(),
            _ if self.frames.is_empty() => self.client(),
            _ => self.random.pick(&self.frames).clone(),
        }
    }

    fn port(&mut self) -> u16 {
        40_000 + self.random.below(24) as u16
    }

    /// One of the addresses of a family.
    fn address(&mut self, addresses: &[IpAddr], ipv4: bool) -> IpAddr {
        let of_family: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|address| address.is_ipv4() == ipv4)
            .collect();
        *self.random.pick(&of_family)
    }

    fn client_address(&mut self, ipv4: bool) -> IpAddr {
        let clients = std::mem::take(&mut self.pools.clients);
        let address = self.address(&clients, ipv4);
        self.pools.clients = clients;
        address
    }

    fn client(&mut self) -> Vec<u8> {
        let ((vip, port), protocol) = *self.random.pick(&self.pools.services);
        let port = if self.random.once_in(50) {
            self.random.below(2048) as u16
        } else {
            port
        };
        let source = (self.client_address(vip.is_ipv4()), self.port());
        if self.random.once_in(64) {
            // IPv4's addresses where they don't belong: one or both in an IPv6 header.
            let client = mapped(self.client_address(true));
            return self.dressed((client, source.1), (mapped(vip), port), protocol);
        }
        self.dressed(source, (vip, port), protocol)
    }

    /// A remembered key that is in the table, and its entry.
    fn known(&mut self, model: &Model) -> Option<(FlowKey, FlowValue)> {
        for _ in 0..4 {
            if self.keys.is_empty() {
                return None;
            }
            let key = *self.random.pick(&self.keys);
            if let Some(value) = model.flows.get(&key) {
                return Some((key, *value));
            }
        }
        None
    }

    /// The known entry, or its peer, that translates replies.
    fn known_reply(&mut self, model: &Model) -> Option<(FlowKey, FlowValue)> {
        let (key, value) = self.known(model)?;
        if value.flags & flow_flags::REPLY != 0 {
            return Some((key, value));
        }
        let key = peer(&value);
        Some((key, *model.flows.get(&key)?))
    }

    fn reply(&mut self, model: &Model) -> Vec<u8> {
        let Some((key, _)) = self.known_reply(model) else {
            return self.client();
        };
        let source = (key.source.into(), key.source_port);
        let destination = (key.destination.into(), key.destination_port);
        self.dressed(source, destination, key.protocol)
    }

    /// An ICMP error about a packet of a known flow: what we sent to a backend, or to a client.
    fn error(&mut self, model: &Model) -> Vec<u8> {
        let (source, destination, protocol) = if self.random.once_in(3) {
            // What a backend without NAT sends comes from the VIP itself.
            let ((vip, port), protocol) = *self.random.pick(&self.pools.services);
            let client = (self.client_address(vip.is_ipv4()), self.port());
            ((vip, port), client, protocol)
        } else {
            let Some((key, value)) = self.known(model) else {
                return self.client();
            };
            // What this entry's packets become is what the error quotes.
            let source = (IpAddr::from(value.source), value.source_port);
            let destination = (IpAddr::from(value.destination), value.destination_port);
            (source, destination, key.protocol)
        };
        let mut quoted = self.dressed(source, destination, protocol);
        let plain = self.random.below(8) != 0;
        if plain {
            let mut inner = Frame::plain(source, destination, protocol);
            inner.payload = vec![3; self.random.below(32)];
            if self.random.once_in(8) {
                inner.checksum = Checksum::Zero;
            }
            quoted = inner.packet();
        }
        if self.random.once_in(2) {
            let least = if source.0.is_ipv4() { 20 } else { 40 };
            quoted.truncate(least + 6 + self.random.below(20));
        }
        let kind = if source.0.is_ipv4() {
            *self.random.pick(&[3, 3, 3, 11, 12, 4, 5])
        } else {
            *self.random.pick(&[1, 2, 3, 4, 5, 0])
        };
        let strangers = std::mem::take(&mut self.pools.strangers);
        let mut from = self.address(&strangers, source.0.is_ipv4());
        self.pools.strangers = strangers;
        if self.random.once_in(2) {
            from = destination.0;
        }
        let mut to = source.0;
        if self.random.once_in(16) {
            let translators = self.pools.translators.clone();
            to = self.address(&translators, source.0.is_ipv4());
        }
        let mut rest = vec![0, 0, 5, 220];
        rest.extend(quoted);
        let kind = (kind, self.random.below(5) as u8);
        let mut frame = Frame::icmp(from, to, kind, rest);
        frame.ttl = if self.random.once_in(32) { 1 } else { 60 };
        if self.random.once_in(16) {
            frame.checksum = Checksum::Wrong(self.random.bits() as u16);
        }
        if self.random.once_in(4) {
            self.dress_outside(&mut frame);
        }
        frame.bytes()
    }

    fn echo(&mut self) -> Vec<u8> {
        let ((vip, _), _) = *self.random.pick(&self.pools.services);
        let client = self.client_address(vip.is_ipv4());
        let kind = if vip.is_ipv4() { 8 } else { 128 };
        let code = u8::from(self.random.once_in(16));
        let rest = vec![9; 4 + self.random.below(40)];
        let mut frame = Frame::icmp(client, vip, (kind, code), rest);
        frame.ttl = self.random.bits() as u8;
        self.dress_outside(&mut frame);
        frame.bytes()
    }

    /// A packet that is not for a VIP, or of another protocol.
    fn stranger(&mut self) -> Vec<u8> {
        let ipv4 = self.random.once_in(2);
        let source = (self.client_address(ipv4), self.port());
        let translators = self.pools.translators.clone();
        let target = (
            self.address(&translators, ipv4),
            1000 + self.random.below(200) as u16,
        );
        let protocol = *self.random.pick(&[TCP, UDP, 1, 58, 47, 59, 132]);
        if matches!(protocol, TCP | UDP) {
            return self.dressed(source, target, protocol);
        }
        let ((vip, port), _) = *self.random.pick(&self.pools.services);
        let source = (self.client_address(vip.is_ipv4()), source.1);
        Frame::plain(source, (vip, port), protocol).bytes()
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 14 + self.random.below(80);
        let mut frame: Vec<u8> = (0..length).map(|_| self.random.bits() as u8).collect();
        frame[0] &= 0xfe;
        let kind: u16 = *self.random.pick(&[0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8]);
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    }
}

/// The IPv4-mapped form of an IPv4 address.
fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        address => address,
    }
}
