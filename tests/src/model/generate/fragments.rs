//! Datagrams in fragments: in order and out of it, without the first, with the identification of another.

use super::{Generator, Model};
use crate::model::{
    parse::{self, half},
    sum,
};

/// Fragments of a datagram, at most.
const MOST: usize = 6;

impl Generator {
    /// The first of a client's or a backend's datagram to come; the others are left for later.
    pub(super) fn fragments(&mut self, model: &Model) -> Vec<u8> {
        let (source, destination, protocol) = match self.known_reply(model) {
            Some((key, _)) if self.random.once_in(3) => (
                (key.source.into(), key.source_port),
                (key.destination.into(), key.destination_port),
                key.protocol,
            ),
            _ => {
                let (service, protocol) = *self.random.pick(&self.pools.services);
                let source = (self.client_address(service.0.is_ipv4()), self.port());
                (source, service, protocol)
            }
        };
        let mut frame = self.dressed_frame(source, destination, protocol);
        frame.fragment = (false, 0);
        frame.extensions.retain(|(kind, _)| *kind != 44);
        let random = &mut self.random;
        let step = 8 * *random.pick(&[1, 2, 3, 5, 10, 70, 160, 185]);
        let length = step * (1 + random.below(MOST - 1)) + random.below(step);
        frame.payload = vec![random.bits() as u8; length.min(2600)];
        // Few, so that datagrams meet.
        let identification = 0x1234_0000 + random.below(3) as u32;
        let mut pieces = split(&frame.bytes(), identification, step);
        match random.below(8) {
            0..3 => {}
            3 => pieces.reverse(),
            4 if pieces.len() > 1 => {
                pieces.remove(0);
            }
            5 => {
                let again = random.below(pieces.len());
                pieces.push(pieces[again].clone());
            }
            _ => {
                for at in (1..pieces.len()).rev() {
                    pieces.swap(at, random.below(at + 1));
                }
            }
        }
        // Between those of others, which came first.
        for piece in pieces.into_iter().rev() {
            let place = self.pending.len().saturating_sub(self.random.below(3));
            self.pending.insert(place, piece);
        }
        self.pending.truncate(64);
        self.pending.pop().unwrap_or_default()
    }
}

/// The fragments of a frame's packet, as a router or the sender would make them: of `step` bytes, but for the last; a frame
/// that holds no packet in order as it is.
pub fn split(frame: &[u8], identification: u32, step: usize) -> Vec<Vec<u8>> {
    let whole = vec![frame.to_vec()];
    let Some(located) = parse::locate(frame) else {
        return whole;
    };
    let Ok(packet) = parse::headers(frame, &located, true) else {
        return whole;
    };
    let (start, end) = (packet.network, packet.end);
    let is_ipv4 = packet.source.is_ipv4();
    // What every fragment begins with (RFC 8200 section 4.5: up to a routing header; a hop-by-hop header here).
    let kept = match (is_ipv4, frame[start + 6]) {
        (true, _) => packet.transport - start,
        (false, 0) => 40 + 8 * (1 + usize::from(frame[start + 41])),
        (false, _) => 40,
    };
    let cut = start + kept;
    let pieces: Vec<&[u8]> = frame[cut..end].chunks(step).take(MOST).collect();
    let last = pieces.len() - 1;
    let mut fragments = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let mut fragment = frame[..cut].to_vec();
        let place = (at * step) as u16;
        let more = u16::from(at != last);
        let put = |fragment: &mut Vec<u8>, at: usize, value: u16| {
            fragment[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        if is_ipv4 {
            put(&mut fragment, start + 2, (kept + piece.len()) as u16);
            put(&mut fragment, start + 4, identification as u16);
            put(&mut fragment, start + 6, (more << 13) | (place / 8));
            put(&mut fragment, start + 10, 0);
            let checksum = sum::field(0, sum::sum(&fragment[start..]));
            put(&mut fragment, start + 10, checksum);
        } else {
            put(&mut fragment, start + 4, (kept - 40 + 8 + piece.len()) as u16);
            let next = start + if kept == 40 { 6 } else { 40 };
            let following = std::mem::replace(&mut fragment[next], 44);
            fragment.extend([following, 0]);
            fragment.extend((place | more).to_be_bytes());
            fragment.extend(identification.to_be_bytes());
        }
        fragment.extend(*piece);
        fragments.push(fragment);
    }
    debug_assert!(!is_ipv4 || half(&fragments[0], start + 4) == identification as u16);
    fragments
}
