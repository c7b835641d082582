//! XXH64 over fixed layouts: the hash that picks a flow's slot and orders Maglev's permutations.
//!
//! XXH64 is a published, widely implemented hash (Yann Collet, xxHash specification, 0.1.1), so
//! anyone can predict where a flow goes. The layouts below are a contract between nodes and
//! versions: they never change, and `docs/hashing.md` publishes test vectors.

use crate::{keys::FlowKey, net::Address, values::service_flags};

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// Seed of [`flow_hash`].
pub const FLOW_SEED: u64 = 0;

#[inline(always)]
const fn round(accumulator: u64, lane: u64) -> u64 {
    accumulator
        .wrapping_add(lane.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

#[inline(always)]
const fn merge(hash: u64, accumulator: u64) -> u64 {
    (hash ^ round(0, accumulator)).wrapping_mul(P1).wrapping_add(P4)
}

#[inline(always)]
const fn tail(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane))
        .rotate_left(27)
        .wrapping_mul(P1)
        .wrapping_add(P4)
}

#[inline(always)]
const fn avalanche(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// XXH64 of 16 bytes: two little-endian lanes.
#[inline(always)]
pub const fn xxh64_16(lanes: [u64; 2], seed: u64) -> u64 {
    let hash = seed.wrapping_add(P5).wrapping_add(16);
    avalanche(tail(tail(hash, lanes[0]), lanes[1]))
}

/// XXH64 of 24 bytes: three little-endian lanes.
#[inline(always)]
pub const fn xxh64_24(lanes: [u64; 3], seed: u64) -> u64 {
    let hash = seed.wrapping_add(P5).wrapping_add(24);
    avalanche(tail(tail(tail(hash, lanes[0]), lanes[1]), lanes[2]))
}

/// XXH64 of 40 bytes: one stripe of four little-endian lanes, and a fifth.
#[inline(always)]
pub const fn xxh64_40(lanes: [u64; 5], seed: u64) -> u64 {
    let a = round(seed.wrapping_add(P1).wrapping_add(P2), lanes[0]);
    let b = round(seed.wrapping_add(P2), lanes[1]);
    let c = round(seed, lanes[2]);
    let d = round(seed.wrapping_sub(P1), lanes[3]);
    let hash = a
        .rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18));
    let hash = merge(merge(merge(merge(hash, a), b), c), d).wrapping_add(40);
    avalanche(tail(hash, lanes[4]))
}

#[inline(always)]
const fn lane(low: u32, high: u32) -> u64 {
    u32::from_le(low) as u64 | (u32::from_le(high) as u64) << 32
}

/// [`flow_hash`] of an IPv4 flow: address words in memory order, ports in host order with the source's low.
#[inline(always)]
pub const fn flow_hash_ipv4(source: u32, destination: u32, ports: u32, protocol: u32) -> u64 {
    xxh64_16([lane(source, destination), port_lane(ports, protocol)], FLOW_SEED)
}

/// [`flow_hash`] of an IPv6 flow, as above.
#[inline(always)]
pub const fn flow_hash_ipv6(source: [u32; 4], destination: [u32; 4], ports: u32, protocol: u32) -> u64 {
    let lanes = [
        lane(source[0], source[1]),
        lane(source[2], source[3]),
        lane(destination[0], destination[1]),
        lane(destination[2], destination[3]),
        port_lane(ports, protocol),
    ];
    xxh64_40(lanes, FLOW_SEED)
}

/// Ports in network order, protocol, three zero bytes.
#[inline(always)]
const fn port_lane(ports: u32, protocol: u32) -> u64 {
    let source = (ports as u16).swap_bytes() as u32;
    let destination = ((ports >> 16) as u16).swap_bytes() as u32;
    lane((source | destination << 16).to_le(), protocol.to_le())
}

/// The hash of a flow's 5-tuple.
///
/// IPv4 hashes 16 bytes: source (4), destination (4), source port, destination port (2 each,
/// network order), protocol, three zero bytes. IPv6 hashes the same fields with 16-byte
/// addresses: 40 bytes.
#[inline(always)]
pub const fn flow_hash(key: &FlowKey) -> u64 {
    let ports = key.source_port as u32 | (key.destination_port as u32) << 16;
    let protocol = key.protocol as u32;
    if key.source.is_ipv4() {
        flow_hash_ipv4(
            key.source.ipv4_word(),
            key.destination.ipv4_word(),
            ports,
            protocol,
        )
    } else {
        flow_hash_ipv6(key.source.words(), key.destination.words(), ports, protocol)
    }
}

/// What picks the slot of a service with these [`service_flags`]: [`flow_hash`], over the 5-tuple or with those of its
/// fields zero that the service doesn't look at.
#[inline(always)]
pub const fn slot_hash(key: &FlowKey, flags: u32) -> u64 {
    if flags & (service_flags::HASH_SOURCE | service_flags::HASH_ADDRESSES) == 0 {
        return flow_hash(key);
    }
    let mut narrow = FlowKey {
        source: key.source,
        destination: key.destination,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        pad: [0; 3],
    };
    if flags & service_flags::HASH_SOURCE != 0 {
        narrow.destination = Address { bytes: [0; 16] };
    }
    flow_hash(&narrow)
}

/// The slot of a hash in a table of `size` slots: the high half of the hash, scaled. Cheaper than
/// a remainder and as even (Lemire, "Fast random integer generation in an interval", 2019).
#[inline(always)]
pub const fn slot(hash: u64, size: u32) -> u32 {
    (((hash >> 32) * size as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;
    use std::{net::IpAddr, vec::Vec};
    use xxhash_rust::xxh64::xxh64;

    fn key(source: &str, destination: &str, ports: (u16, u16), protocol: u8) -> FlowKey {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        FlowKey {
            source: address(source),
            destination: address(destination),
            source_port: ports.0,
            destination_port: ports.1,
            protocol,
            pad: [0; 3],
        }
    }

    /// The layout written out byte by byte, hashed by somebody else's XXH64.
    fn reference(key: &FlowKey) -> u64 {
        let mut bytes = Vec::new();
        let skip = if key.source.is_ipv4() { 12 } else { 0 };
        bytes.extend(&key.source.bytes[skip..]);
        bytes.extend(&key.destination.bytes[skip..]);
        bytes.extend(key.source_port.to_be_bytes());
        bytes.extend(key.destination_port.to_be_bytes());
        bytes.extend([key.protocol, 0, 0, 0]);
        xxh64(&bytes, FLOW_SEED)
    }

    #[test]
    fn agrees_with_an_independent_implementation() {
        for port in 0..2_000u16 {
            for (source, destination) in [("192.0.2.1", "198.18.0.53"), ("2001:db8::1", "2001:db8:7::53")] {
                let key = key(
                    source,
                    destination,
                    (port.wrapping_mul(31), port),
                    6 + 11 * (port % 2) as u8,
                );
                assert_eq!(flow_hash(&key), reference(&key), "{key:?}");
            }
        }
        let bytes: Vec<u8> = (0..24).collect();
        let lane = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(xxh64_24([lane(0), lane(8), lane(16)], 7), xxh64(&bytes, 7));
    }

    /// The published vectors of docs/hashing.md.
    #[test]
    fn test_vectors() {
        let page = include_str!("../../docs/hashing.md");
        let rows = page
            .lines()
            .filter(|line| line.starts_with("| 1") || line.starts_with("| 2"));
        let mut count = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let number = |at: usize| cells[at].parse::<u16>().unwrap();
            let key = key(cells[1], cells[3], (number(2), number(4)), number(5) as u8);
            assert_eq!(std::format!("{:016x}", flow_hash(&key)), cells[6], "{row}");
            assert_eq!(
                std::format!("{}", slot(flow_hash(&key), 65_537)),
                cells[7],
                "{row}"
            );
            count += 1;
        }
        assert_eq!(count, 6, "rows in docs/hashing.md");
    }
}
