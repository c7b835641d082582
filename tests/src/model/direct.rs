//! Direct server return: which backend, and what its packets look like (docs/dataplane.md, "Direct server return").

use super::{
    Decision, Failure, Job, Model, Next, ends_of, flow_key,
    flows::slot_hash,
    network::Way,
    parse::{Packet, UDP},
    said::Said,
    sum,
    translate::{self, octets},
};
use proxy_common::{
    keys::FlowKey,
    values::{BackendValue, ServiceValue, TrackedFlow, backend_flags, mode, seen, service_flags, slot_state},
    verdict::DropReason,
};
use std::net::IpAddr;
use weir::model::IdleTimeouts;

/// TTL and hop limit of outer headers.
const OUTER_TTL: u8 = 64;

impl Model {
    /// Decides a packet to a service without NAT.
    pub(super) fn direct(
        &mut self,
        job: &mut Job,
        service: &ServiceValue,
        packet: &Packet,
        ports: (u16, u16),
    ) -> Result<Next, Failure> {
        let flags = packet.tcp_flags(job.frame);
        let mut said = Said::new(packet.protocol, flags);
        let heard = self.hear(service, job.frame, packet);
        said.opens |= heard.opens;
        let (source, destination) = ends_of(packet, ports);
        let key = flow_key(source, destination, packet.protocol);
        let hash = slot_hash(service, source, destination, packet.protocol);
        // A plain slot's packets look at no entry; there may be one of another service that had the port before.
        if heard.backend.is_none()
            && self
                .slot_of(service, &key)
                .is_some_and(|(slot, always)| always || slot.previous != slot_state::PLAIN)
        {
            job.tracked.push(key);
        }
        let index = match heard.backend {
            Some(named) => {
                let entry = self.tracked.get_mut(&key).filter(|_| heard.is_handshake);
                if let Some(entry) =
                    entry.filter(|entry| (entry.service, entry.backend) == (service.index, named))
                {
                    entry.seen |= said.bits();
                    job.tracked.push(key);
                }
                named
            }
            None => (self.direct_backend(service, &key, hash, said)).map_err(Failure::Dropped)?,
        };
        let backend = *self
            .usable(index)
            .ok_or(Failure::Dropped(DropReason::NoBackend))?;
        let decided = if backend.flags & backend_flags::LOCAL != 0 {
            (Decision::Pass, job.frame.to_vec())
        } else {
            self.direct_send(job, service, packet, &backend, hash as u32)
                .map_err(Failure::Dropped)?
        };
        self.counts
            .direct(service.index, index, packet.end as u64, said.opens);
        Ok(Next::Decided(decided))
    }

    /// Sends an ICMP error about a packet from a VIP without NAT on to the backend that sent it. None if it is another error.
    pub(super) fn direct_error(
        &mut self,
        job: &mut Job,
        packet: &Packet,
        inner: &Packet,
    ) -> Result<Option<Next>, Failure> {
        let port = |at: usize| u16::from_be_bytes([job.frame[at], job.frame[at + 1]]);
        // What the client sends in this flow.
        let source = (inner.destination, port(inner.transport + 2));
        let destination = (inner.source, port(inner.transport));
        let key = flow_key(source, destination, inner.protocol);
        let service = match self.service_at(destination, inner.protocol) {
            Some((_, service)) if service.mode != mode::NAT && inner.source == packet.destination => service,
            _ => return Ok(None),
        };
        job.service = Some(service.index);
        let hash = slot_hash(&service, source, destination, inner.protocol);
        let no_backend = Failure::Dropped(DropReason::NoBackend);
        let slot = self
            .slot(&service, hash)
            .ok_or(Failure::Dropped(DropReason::NoBackend))?;
        let always = service.flags & service_flags::TRACK_ALWAYS != 0;
        let is_tracked = slot.previous != slot_state::PLAIN || always;
        let entry = self.tracked.get(&key).filter(|_| is_tracked).copied();
        let going = Said::new(UDP, 0);
        let index = match entry {
            Some(entry) if self.wins(service.index, &entry, going) => entry.backend,
            _ => match slot.moving_from() {
                Some(previous) if self.usable(previous).is_some() => previous,
                _ => slot.backend,
            },
        };
        let backend = *self.usable(index).ok_or(no_backend)?;
        let decided = if backend.flags & backend_flags::LOCAL != 0 {
            (Decision::Pass, job.frame.to_vec())
        } else {
            self.direct_send(job, &service, packet, &backend, hash as u32)
                .map_err(Failure::Dropped)?
        };
        self.counts.direct(service.index, index, packet.end as u64, false);
        Ok(Some(Next::Decided(decided)))
    }

    fn usable(&self, index: u32) -> Option<&BackendValue> {
        let backend = self.backends.get(&index)?;
        (backend.incarnation != 0 && backend.flags & backend_flags::DEAD == 0).then_some(backend)
    }

    /// The index of the backend that a packet goes to.
    pub fn direct_backend(
        &mut self,
        service: &ServiceValue,
        key: &FlowKey,
        hash: u64,
        said: Said,
    ) -> Result<u32, DropReason> {
        let slot = self.slot(service, hash).ok_or(DropReason::NoBackend)?;
        let always = service.flags & service_flags::TRACK_ALWAYS != 0;
        if slot.previous == slot_state::PLAIN && !always {
            return Ok(slot.backend);
        }
        if let Some(entry) = self.tracked.get(key).copied() {
            if self.wins(service.index, &entry, said) {
                if let Some(entry) = self.tracked.get_mut(key) {
                    entry.seen |= said.bits();
                }
                return Ok(entry.backend);
            }
            if slot.previous == slot_state::TRACKED && !always {
                self.tracked.remove(key);
            }
        }
        let before = match slot.previous {
            slot_state::PLAIN | slot_state::TRACKED => {
                if !always {
                    return Ok(slot.backend);
                }
                None
            }
            previous => self.usable(previous).map(|backend| (previous, *backend)),
        };
        self.direct_open(service, key, slot.backend, before, said)
    }

    /// The backend of a flow that is to be stored: `current` is the slot's, `before` the one that it had, if that lives.
    fn direct_open(
        &mut self,
        service: &ServiceValue,
        key: &FlowKey,
        current: u32,
        before: Option<(u32, BackendValue)>,
        said: Said,
    ) -> Result<u32, DropReason> {
        let has_affinity = service.flags & service_flags::AFFINITY != 0;
        // All flows of such a service are stored: a datagram without an entry opens one.
        let opens = said.opens || has_affinity && key.protocol == UDP;
        let unstored = match before {
            Some((previous, _)) if !opens => previous,
            _ => current,
        };
        let source = IpAddr::from(key.source);
        let affine = self.affine(service, source).filter(|_| opens);
        let index = affine.unwrap_or(unstored);
        let Some(backend) = self.backends.get(&index).copied() else {
            return Ok(index);
        };
        let entry = TrackedFlow {
            backend: index,
            incarnation: backend.incarnation,
            service: service.index,
            seen: said.bits(),
            last_seen: 0,
        };
        let is_replaced = self.tracked.contains_key(key);
        if is_replaced || !self.is_limited && self.tracked.len() < self.tracked_max {
            self.tracked.insert(*key, entry);
            if opens {
                self.remember(service, source, index);
            }
            return Ok(index);
        }
        self.counts.services.entry(service.index).or_default().untracked += 1;
        let dropped = if self.is_limited {
            DropReason::FlowLimit
        } else {
            DropReason::FlowTableFull
        };
        match before {
            _ if opens && !said.opens => Err(dropped),
            Some((previous, backend)) if opens => {
                if backend.flags & backend_flags::DRAINING == 0 {
                    Ok(previous)
                } else {
                    Err(dropped)
                }
            }
            _ => Ok(unstored),
        }
    }

    /// Whether the daemon should end a tracked flow at a time: its backend is dead or gone, or it had no packet for longer
    /// than allowed.
    pub fn is_tracked_ended(&self, key: &FlowKey, entry: &TrackedFlow, now: u64) -> bool {
        let timeouts = IdleTimeouts::default();
        let timeout = if key.protocol == UDP {
            timeouts.udp
        } else if entry.seen & u32::from(seen::FIN | seen::RST) != 0 {
            timeouts.tcp_closing
        } else if entry.seen & u32::from(seen::GOING) == 0 {
            timeouts.tcp_opening
        } else {
            timeouts.tcp
        };
        let lives = self
            .usable(entry.backend)
            .is_some_and(|backend| backend.incarnation == entry.incarnation);
        !lives || now > entry.last_seen + timeout.as_nanos() as u64
    }

    /// Whether an entry decides a packet to a service.
    fn wins(&self, service: u32, entry: &TrackedFlow, said: Said) -> bool {
        if entry.service != service {
            return false;
        }
        let Some(backend) = self.usable(entry.backend) else {
            return false;
        };
        if backend.incarnation != entry.incarnation {
            return false;
        }
        let ended = entry.seen & u32::from(seen::FIN | seen::RST) != 0;
        let going = entry.seen & u32::from(seen::GOING) != 0;
        let draining = backend.flags & backend_flags::DRAINING != 0;
        !(said.opens && (ended || draining && going))
    }

    fn direct_send(
        &self,
        job: &mut Job,
        service: &ServiceValue,
        packet: &Packet,
        backend: &BackendValue,
        hash: u32,
    ) -> Result<(Decision, Vec<u8>), DropReason> {
        let ttl = translate::ttl(job.frame, packet.network);
        if ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let target = IpAddr::from(backend.address);
        let way = self.network.way(target)?;
        if service.mode == mode::DSR_L2 && !way.on_link {
            return Err(DropReason::NoRoute);
        }
        let mut inner = job.frame.to_vec();
        translate::set_ttl(&mut inner, packet.network, ttl - 1);
        let length = packet.end - packet.network;
        let outer = outer_headers(service, backend, hash, &inner[packet.network..], length);
        if length + outer.len() > way.mtu {
            job.mtu = way.mtu - outer.len();
            return Err(DropReason::MtuExceeded);
        }
        if !job.room && !outer.is_empty() {
            return Err(DropReason::NoHeadroom);
        }
        let ethertype: [u8; 2] = match (outer.is_empty(), target) {
            (true, _) => [inner[packet.network - 2], inner[packet.network - 1]],
            (false, IpAddr::V4(_)) => [0x08, 0x00],
            (false, IpAddr::V6(_)) => [0x86, 0xdd],
        };
        let stays = way.macs.is_some() && way.ifindex == job.ifindex;
        let mut frame = match way.macs {
            Some((source, destination)) => [destination, source].concat(),
            None => inner[0..12].to_vec(),
        };
        if stays {
            frame.extend(&inner[12..packet.network - 2]);
        }
        frame.extend(ethertype);
        frame.extend(outer);
        frame.extend(&inner[packet.network..]);
        let decision = match way {
            Way { macs: None, .. } if !job.room => return Err(DropReason::NeighbourUnresolved),
            Way {
                macs: None, ifindex, ..
            } => {
                let neighbour = (service.mode == mode::DSR_L2).then_some(target);
                Decision::HandOver(ifindex, neighbour)
            }
            _ if stays => Decision::Transmit,
            Way { ifindex, .. } => Decision::Redirect(ifindex),
        };
        Ok((decision, frame))
    }
}

/// The headers in front of an inner packet of `length` bytes.
fn outer_headers(
    service: &ServiceValue,
    backend: &BackendValue,
    hash: u32,
    inner: &[u8],
    length: usize,
) -> Vec<u8> {
    let is_inner_ipv4 = inner[0] >> 4 == 4;
    let class = if is_inner_ipv4 {
        inner[1]
    } else {
        inner[0] << 4 | inner[1] >> 4
    };
    let (mut protocol, mut udp) = (if is_inner_ipv4 { 4 } else { 41 }, Vec::new());
    match service.mode {
        mode::DSR_L2 => return Vec::new(),
        mode::GUE => {
            protocol = UDP;
            let source = 0xc000 + (hash % 0x4000) as u16;
            udp = [source, service.gue_port, (length + 8) as u16, 0]
                .iter()
                .flat_map(|field| field.to_be_bytes())
                .collect();
        }
        _ => {}
    }
    let mut source = octets(backend.source.into());
    let varied = (hash & backend.source_bits).to_be_bytes();
    let tail = source.len() - 4;
    for (byte, varied) in source[tail..].iter_mut().zip(varied) {
        *byte ^= varied;
    }
    let destination = octets(backend.address.into());
    let mut header = if destination.len() == 4 {
        let total = (20 + udp.len() + length) as u16;
        let mut header = vec![0x45, class];
        header.extend(total.to_be_bytes());
        header.extend([0, 0, 0x40, 0, OUTER_TTL, protocol, 0, 0]);
        header
    } else {
        let first = 0x6000_0000 | u32::from(class) << 20 | (hash % 0x10_0000);
        let mut header = first.to_be_bytes().to_vec();
        header.extend(((udp.len() + length) as u16).to_be_bytes());
        header.extend([protocol, OUTER_TTL]);
        header
    };
    header.extend(source);
    header.extend(destination);
    if header.len() == 20 {
        let checksum = sum::field(0, sum::sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    header.extend(udp);
    header
}
