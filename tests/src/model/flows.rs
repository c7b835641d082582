//! TCP and UDP: which flow a packet belongs to, and the flow table (docs/dataplane.md, "TCP and UDP").

use super::{
    Failure, Job, Model, Next, Translated, ends_of, flow_key,
    parse::{Packet, TCP, UDP},
    translate::{self, End, Ends, octets},
};
use proxy_common::{
    keys::FlowKey,
    net::Address,
    values::{BackendValue, FlowValue, ServiceValue, backend_flags, flow_flags, mode, seen, service_flags},
    verdict::DropReason,
};
use std::{net::IpAddr, time::Duration};
use weir::model::IdleTimeouts;
use xxhash_rust::xxh64::xxh64;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Source ports tried for a new flow.
const PROBES: u32 = 16;

/// The flow hash of docs/hashing.md.
pub fn flow_hash(source: End, destination: End, protocol: u8) -> u64 {
    let mut bytes = octets(source.0);
    bytes.extend(octets(destination.0));
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes.extend([protocol, 0, 0, 0]);
    xxh64(&bytes, 0)
}

/// The hash that picks the slot, by docs/hashing.md.
pub fn slot_hash(service: &ServiceValue, source: End, destination: End, protocol: u8) -> u64 {
    let nowhere = match destination.0 {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    match service.flags & (service_flags::HASH_SOURCE | service_flags::HASH_ADDRESSES) {
        service_flags::HASH_SOURCE => flow_hash((source.0, 0), (nowhere, 0), 0),
        service_flags::HASH_ADDRESSES => flow_hash((source.0, 0), (destination.0, 0), 0),
        _ => flow_hash(source, destination, protocol),
    }
}

impl Model {
    /// Finds or makes the flow of a TCP or UDP packet and translates it.
    pub(super) fn transport(
        &mut self,
        job: &mut Job,
        packet: &Packet,
        ports: (u16, u16),
    ) -> Result<Next, Failure> {
        let (source, destination) = ends_of(packet, ports);
        let key = flow_key(source, destination, packet.protocol);
        let flags = packet.tcp_flags(job.frame);
        job.touched.push(key);
        if let Some((service_key, service)) = self.service_at(destination, packet.protocol) {
            job.service = Some(service.index);
            let heard = self.hear(&service, job.frame, packet);
            self.named += u64::from(heard.backend.is_some());
            let is_open = heard.opens || opens(packet.protocol, flags);
            self.admit(&service_key, &service, source.0, is_open)
                .map_err(Failure::Dropped)?;
            self.remember_ports(packet, ports);
            if service.mode != mode::NAT {
                return self.direct(job, &service, packet, ports);
            }
            let said = (is_open, heard.backend);
            self.client_to_backend(job, &service, (source, destination), &key, said)
                .map_err(Failure::Dropped)?;
        } else {
            let is_reply = self.is_nat_port(destination.1) && self.is_reply(&key);
            if is_reply || self.is_vip(packet.destination) {
                self.remember_ports(packet, ports);
            }
            if packet.protocol == UDP && ports.1 == self.settings.gue_port {
                job.is_looked_into = true;
                if let Some(frame) = self.deliver(job.frame) {
                    return Ok(Next::Decided((super::Decision::Pass, frame)));
                }
            }
            if !is_reply {
                return Ok(Next::Untouched);
            }
        }
        self.record(&key, packet.protocol, flags);
        job.stamped = Some(key);
        let value = self.flows[&key];
        job.touched.push(peer(&value));
        let mut frame = job.frame.to_vec();
        let ends = Ends {
            source: (value.source.into(), value.source_port),
            destination: (value.destination.into(), value.destination_port),
        };
        translate::packet(&mut frame, packet, &ends);
        if let (TCP, true, Some(most)) = (
            packet.protocol,
            flags & SYN != 0,
            self.segments.get(&value.service),
        ) {
            translate::lower_segment(&mut frame, packet, *most);
        }
        Ok(Next::Send(Translated {
            frame,
            network: packet.network,
            end: packet.end,
            entry: value,
        }))
    }

    fn is_reply(&self, key: &FlowKey) -> bool {
        self.flows
            .get(key)
            .is_some_and(|value| value.flags & flow_flags::REPLY != 0)
    }

    /// Leaves a good entry for `key` in the table.
    fn client_to_backend(
        &mut self,
        job: &mut Job,
        service: &ServiceValue,
        (source, destination): (End, End),
        key: &FlowKey,
        (opens, named): (bool, Option<u32>),
    ) -> Result<(), DropReason> {
        let stored = self.flows.get(key).copied();
        if stored.is_none() && self.is_limited {
            return Err(DropReason::FlowLimit);
        }
        if let Some(value) = stored {
            let is_named = named.is_none_or(|named| named == value.backend);
            if is_named && self.is_good(&value, opens) {
                return Ok(());
            }
            job.touched.push(peer(&value));
            self.flows.remove(key);
            self.flows.remove(&peer(&value));
        }
        let hash = flow_hash(source, destination, key.protocol);
        let slot_hash = slot_hash(service, source, destination, key.protocol);
        let affine = named.or_else(|| self.affine(service, source.0));
        let affine = affine.and_then(|index| Some((index, *self.backends.get(&index)?)));
        let (index, backend) = affine
            .or_else(|| self.choose(service, slot_hash))
            .ok_or(DropReason::NoBackend)?;
        let local = backend.flags & backend_flags::LOCAL != 0;
        let translator = if local { source.0 } else { backend.source.into() };
        let port = if backend.port == 0 {
            destination.1
        } else {
            backend.port
        };
        let target = (IpAddr::from(backend.address), port);
        let reply = self.free_reply(job, target, translator, key.protocol, hash)?;
        let forward = FlowValue {
            source: reply.destination,
            destination: backend.address,
            source_port: reply.destination_port,
            destination_port: port,
            flags: if local { flow_flags::TO_HOST } else { 0 },
            seen: 0,
            peer_seen: 0,
            service: service.index,
            backend: index,
            incarnation: backend.incarnation,
            protocol: u32::from(key.protocol),
            last_seen: 0,
        };
        let backward = FlowValue {
            source: Address::from(destination.0),
            destination: Address::from(source.0),
            source_port: destination.1,
            destination_port: source.1,
            flags: flow_flags::REPLY | if local { flow_flags::FROM_HOST } else { 0 },
            ..forward
        };
        if self.flows.len() + 2 > self.flow_entries_max {
            return Err(DropReason::FlowTableFull);
        }
        self.remember(service, source.0, index);
        self.counts.opened(&forward);
        self.flows.insert(reply, backward);
        self.flows.insert(*key, forward);
        Ok(())
    }

    fn is_good(&self, value: &FlowValue, opens: bool) -> bool {
        if !self.has_live_backend(value) {
            return false;
        }
        let ended = (value.seen | value.peer_seen) & (seen::FIN | seen::RST) != 0;
        let answered = value.seen != 0 && value.peer_seen != 0;
        let draining = self.backends[&value.backend].flags & backend_flags::DRAINING != 0;
        !(opens && (ended || draining && answered))
    }

    /// Whether the daemon should end the flow of this entry at a time (the clock of `last_seen`):
    /// its backend is dead or gone, or neither direction had a packet for longer than allowed.
    pub fn is_ended(&self, value: &FlowValue, now: u64) -> bool {
        let is_idle = |value: &FlowValue| now > value.last_seen + idle_timeout(value).as_nanos() as u64;
        let other = self.flows.get(&peer(value));
        !self.has_live_backend(value) || is_idle(value) && other.is_none_or(is_idle)
    }

    /// The backend of the hash's slot.
    fn choose(&self, service: &ServiceValue, hash: u64) -> Option<(u32, BackendValue)> {
        let table = self.slots.get(&service.index)?;
        let slot = ((hash >> 32) * u64::from(service.table_size)) >> 32;
        let index = table.get(slot as usize)?.backend;
        let backend = self.backends.get(&index)?;
        let usable = backend.incarnation != 0 && backend.flags & backend_flags::DEAD == 0;
        usable.then_some((index, *backend))
    }

    /// A free key for the replies of a new flow.
    fn free_reply(
        &self,
        job: &mut Job,
        backend: End,
        translator: IpAddr,
        protocol: u8,
        hash: u64,
    ) -> Result<FlowKey, DropReason> {
        let (first, last) = (self.settings.nat_port_first, self.settings.nat_port_last);
        let count = u32::from(last) - u32::from(first) + 1;
        let start = ((hash & 0xffff_ffff) * u64::from(count)) >> 32;
        for probe in 0..PROBES.min(count) {
            let port = first + ((start as u32 + probe) % count) as u16;
            let key = flow_key(backend, (translator, port), protocol);
            if !self.flows.contains_key(&key) {
                job.touched.push(key);
                return Ok(key);
            }
        }
        Err(DropReason::PortExhausted)
    }

    /// Notes what a packet is the first to show, in the entry of its direction and in the peer.
    fn record(&mut self, key: &FlowKey, protocol: u8, flags: u8) {
        let mut bits = seen::PACKET;
        if protocol == TCP && flags & FIN != 0 {
            bits |= seen::FIN;
        }
        if protocol == TCP && flags & RST != 0 {
            bits |= seen::RST;
        }
        let Some(value) = self.flows.get_mut(key) else {
            return;
        };
        if value.seen | bits == value.seen {
            return;
        }
        value.seen |= bits;
        let peer = peer(value);
        if let Some(value) = self.flows.get_mut(&peer) {
            value.peer_seen |= bits;
        }
    }
}

/// Whether a packet opens a connection.
pub fn opens(protocol: u8, flags: u8) -> bool {
    protocol == TCP && flags & (SYN | ACK | RST | FIN) == SYN
}

/// How long a flow may be idle; the defaults, which all services of the tests have.
fn idle_timeout(value: &FlowValue) -> Duration {
    let timeouts = IdleTimeouts::default();
    let ended = (value.seen | value.peer_seen) & (seen::FIN | seen::RST) != 0;
    if value.protocol != u32::from(TCP) {
        timeouts.udp
    } else if ended {
        timeouts.tcp_closing
    } else if value.seen == 0 || value.peer_seen == 0 {
        timeouts.tcp_opening
    } else {
        timeouts.tcp
    }
}

/// The key of the other direction.
pub fn peer(value: &FlowValue) -> FlowKey {
    FlowKey {
        source: value.destination,
        destination: value.source,
        source_port: value.destination_port,
        destination_port: value.source_port,
        protocol: value.protocol as u8,
        pad: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors of docs/hashing.md.
    #[test]
    fn hashes_as_published() {
        let page = include_str!("../../../docs/hashing.md");
        let mut rows = 0;
        for row in page
            .lines()
            .filter(|line| line.starts_with("| 1") || line.starts_with("| 2"))
        {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let end = |at: usize| (cells[at].parse().unwrap(), cells[at + 1].parse().unwrap());
            let hash = flow_hash(end(1), end(3), cells[5].parse().unwrap());
            assert_eq!(format!("{hash:016x}"), cells[6], "{row}");
            assert_eq!((((hash >> 32) * 65_537) >> 32).to_string(), cells[7], "{row}");
            rows += 1;
        }
        assert_eq!(rows, 6);
    }
}
