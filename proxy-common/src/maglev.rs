//! Weighted Maglev tables (Eisenbud et al., NSDI '16, section 3.4), built from endpoint identity.
//!
//! The table depends on the set of (address, port, weight) alone: not on their order, not on local
//! ids, not on what was there before. Nodes that never speak to each other agree on every slot.

use crate::{hash::xxh64_24, net::Address, values::NO_BACKEND};
use std::{vec, vec::Vec};

/// One endpoint as the table sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaglevEndpoint {
    /// Its address.
    pub address: Address,
    /// Its port, host order.
    pub port: u16,
    /// Relative share; zero takes no slots.
    pub weight: u32,
}

/// Seeds of the two hashes that make a permutation: where it starts, and its stride.
const OFFSET_SEED: u64 = 1;
const STRIDE_SEED: u64 = 2;

/// An endpoint's walk through the slots, one turn at a time.
struct Walk {
    position: u32,
    stride: u32,
    weight: u64,
    credit: u64,
    index: u32,
}

/// Fills a table of `size` slots, which must be a prime so that every stride visits every slot.
///
/// Slots hold indices into `endpoints`, or [`NO_BACKEND`] in all of them when no endpoint has
/// weight. Endpoints take turns in proportion to their weights: in each round everyone earns its
/// weight in credit, and takes its next free slot for every full share of the heaviest. Costs
/// about `size * ln(size)` probes of a bit set: 1,000 endpoints on 65,537 slots take about one
/// millisecond. The same endpoint twice is legal, and the later one gets nothing.
pub fn build(endpoints: &[MaglevEndpoint], size: u32) -> Vec<u32> {
    let mut table = vec![NO_BACKEND; size as usize];
    let mut walks = walks(endpoints, size);
    let Some(heaviest) = walks.iter().map(|walk| walk.weight).max() else {
        return table;
    };
    // Half a share in advance: shares are then rounded to the nearest slot, not down.
    for walk in &mut walks {
        walk.credit = heaviest / 2;
    }
    // A bit a slot: 8 KiB for 65,537, which stays in the first-level cache where the table doesn't.
    let mut taken = vec![0u64; (size as usize).div_ceil(64)];
    let mut free = size;
    loop {
        for walk in &mut walks {
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            let mut slot = walk.position;
            while taken[(slot / 64) as usize] & (1 << (slot % 64)) != 0 {
                slot = step(slot, walk.stride, size);
            }
            taken[(slot / 64) as usize] |= 1 << (slot % 64);
            table[slot as usize] = walk.index;
            walk.position = step(slot, walk.stride, size);
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

/// The walks of all endpoints with weight, in an order that depends on identity alone.
fn walks(endpoints: &[MaglevEndpoint], size: u32) -> Vec<Walk> {
    let mut ordered: Vec<(u64, &MaglevEndpoint, usize)> = endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| endpoint.weight > 0)
        .map(|(index, endpoint)| (identity(endpoint, OFFSET_SEED), endpoint, index))
        .collect();
    // The hash, not the address, leads: turn order must not favour low addresses.
    ordered.sort_unstable_by_key(|(hash, endpoint, index)| (*hash, endpoint.address, endpoint.port, *index));
    ordered.dedup_by_key(|(_, endpoint, _)| (endpoint.address, endpoint.port));
    ordered
        .into_iter()
        .map(|(hash, endpoint, index)| Walk {
            position: (hash % u64::from(size)) as u32,
            stride: (identity(endpoint, STRIDE_SEED) % u64::from(size - 1)) as u32 + 1,
            weight: u64::from(endpoint.weight),
            credit: 0,
            index: index as u32,
        })
        .collect()
}

/// XXH64 of 24 bytes: address (16, IPv4-mapped where IPv4), port (2, network order), six zeros.
fn identity(endpoint: &MaglevEndpoint, seed: u64) -> u64 {
    let bytes = &endpoint.address.bytes;
    let lane = |at: usize| {
        u64::from_le_bytes([
            bytes[at],
            bytes[at + 1],
            bytes[at + 2],
            bytes[at + 3],
            bytes[at + 4],
            bytes[at + 5],
            bytes[at + 6],
            bytes[at + 7],
        ])
    };
    xxh64_24([lane(0), lane(8), u64::from(endpoint.port.swap_bytes())], seed)
}

#[inline(always)]
fn step(slot: u32, stride: u32, size: u32) -> u32 {
    let next = slot + stride;
    if next >= size { next - size } else { next }
}

/// Whether a table size is usable: a prime between 3 and [`crate::limits::MAGLEV_SIZE_MAX`].
pub fn is_valid_size(size: u32) -> bool {
    (3..=crate::limits::MAGLEV_SIZE_MAX).contains(&size)
        && (2..=size.isqrt()).all(|divisor| !size.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests;
