//! Datagrams that look like QUIC, with connection IDs that name servers.

use crate::model::random::Random;

/// Bytes of server IDs, by config ID.
pub const LENGTHS: [u8; 5] = [2, 1, 15, 8, 4];

/// A server ID: the last byte tells it from others.
pub fn server_id(number: u8, length: u8) -> Vec<u8> {
    let mut id = vec![0x5a; usize::from(length).saturating_sub(1)];
    id.push(number);
    id
}

/// The port of the service with config ID 0; those of the others follow.
pub const FIRST_PORT: u16 = 443;

/// A connection ID that may name somebody, most likely of the service at this port.
fn connection_id(random: &mut Random, port: u16) -> Vec<u8> {
    let config = match usize::from(port.wrapping_sub(FIRST_PORT)) {
        config if config < LENGTHS.len() && !random.once_in(8) => config,
        _ => random.below(LENGTHS.len()),
    };
    let length = LENGTHS[config];
    let mut id = vec![(config as u8) << 5 | random.below(32) as u8];
    if random.once_in(8) {
        id[0] = random.bits() as u8;
    }
    id.extend(server_id(1 + random.below(14) as u8, length));
    id.extend((0..4 + random.below(4)).map(|_| random.bits() as u8));
    id
}

/// The payload of a datagram to a port.
pub(super) fn payload(random: &mut Random, port: u16) -> Vec<u8> {
    let id = connection_id(random, port);
    let mut bytes = Vec::new();
    if random.once_in(2) {
        let version: [u8; 4] = *random.pick(&[
            [0, 0, 0, 1],
            [0, 0, 0, 1],
            [0x6b, 0x33, 0x43, 0xcf],
            [0, 0, 0, 0],
            [0x1a, 0x2a, 0x3a, 0x4a],
        ]);
        let length = match random.below(8) {
            0 => random.below(8) as u8,
            1 => random.bits() as u8,
            _ => id.len() as u8,
        };
        bytes.push(0x80 | random.bits() as u8);
        bytes.extend(version);
        bytes.push(length);
    } else {
        bytes.push(0x7f & random.bits() as u8);
    }
    bytes.extend(id);
    bytes.extend(vec![7; random.below(24)]);
    if random.once_in(8) {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}
