//! ICMP and ICMPv6: echo to a VIP, and errors about packets of flows (docs/dataplane.md, "ICMP").

use super::{
    Failure, Job, Model, Next, Translated, flow_key,
    parse::{Packet, Piece, TCP, UDP, address, half},
    translate::{self, Ends},
};
use proxy_common::{
    keys::FlowKey,
    values::{FlowValue, flow_flags},
};
use std::net::IpAddr;

/// Length of the ICMP header, and of what an error must quote of TCP or UDP.
const EIGHT: usize = 8;

impl Model {
    /// Answers an echo request, or translates an error about one of our packets.
    pub(super) fn icmp(&mut self, job: &mut Job, packet: &Packet, for_vip: bool) -> Result<Next, Failure> {
        let message = &job.frame[packet.transport..packet.end];
        if message.len() < EIGHT {
            return Ok(Next::Untouched);
        }
        let (kind, code) = (message[0], message[1]);
        let (request, reply, is_error) = if packet.destination.is_ipv4() {
            (8, 0, matches!(kind, 3 | 11 | 12))
        } else {
            (128, 129, (1..=4).contains(&kind))
        };
        if for_vip && kind == request && code == 0 {
            let mut frame = job.frame.to_vec();
            translate::echo(&mut frame, packet, reply);
            return Ok(Next::Answer(frame));
        }
        if is_error && let Some(inner) = quoted(job.frame, packet) {
            if let Some(decided) = self.direct_error(job, packet, &inner)? {
                return Ok(decided);
            }
            return Ok(self.error(job, packet, &inner));
        }
        Ok(Next::Untouched)
    }

    fn error(&self, job: &mut Job, packet: &Packet, inner: &Packet) -> Next {
        // An error goes to the sender of the packet it is about.
        if inner.source != packet.destination {
            return Next::Untouched;
        }
        let source = (inner.source, half(job.frame, inner.transport));
        let destination = (inner.destination, half(job.frame, inner.transport + 2));
        let key = flow_key(destination, source, inner.protocol);
        job.touched.push(key);
        let Some((value, is_reply)) = self.entry(&key) else {
            return Next::Untouched;
        };
        // An entry without REPLY was made by a packet for a VIP: that its service may be gone by now
        // makes no difference to a flow that is not.
        if is_reply && !self.is_nat_port(source.1) {
            return Next::Untouched;
        }
        // The inner packet is the entry's own, seen from its far side: its ends swap.
        let ends = Ends {
            source: (value.destination.into(), value.destination_port),
            destination: (value.source.into(), value.source_port),
        };
        let outer_source = if is_reply {
            IpAddr::from(value.source)
        } else {
            packet.source
        };
        let outer_destination = IpAddr::from(value.destination);
        let mut frame = job.frame.to_vec();
        translate::icmp_error(&mut frame, packet, outer_source, outer_destination, inner, &ends);
        Next::Send(Translated {
            frame,
            network: packet.network,
            end: packet.end,
            entry: value,
        })
    }

    fn entry(&self, key: &FlowKey) -> Option<(FlowValue, bool)> {
        let value = *self.flows.get(key)?;
        Some((value, value.flags & flow_flags::REPLY != 0))
    }
}

/// The packet that an error quotes, if it is one that can be translated. It ends where the message does.
fn quoted(frame: &[u8], packet: &Packet) -> Option<Packet> {
    let network = packet.transport + EIGHT;
    let inner = &frame[network..packet.end];
    let (header, protocol, source, destination) = if packet.destination.is_ipv4() {
        let header = inner.get(..20)?;
        let whole = header[0] == 0x45 && half(header, 6) & 0x3fff == 0;
        whole.then_some((20, header[9], &header[12..16], &header[16..20]))?
    } else {
        let header = inner.get(..40)?;
        (header[0] >> 4 == 6).then_some((40, header[6], &header[8..24], &header[24..40]))?
    };
    if inner.len() < header + EIGHT || !matches!(protocol, TCP | UDP) {
        return None;
    }
    Some(Packet {
        network,
        transport: network + header,
        end: packet.end,
        protocol,
        source: address(source),
        destination: address(destination),
        piece: Piece::Whole,
    })
}
