//! A ring of virtual nodes (Karger et al. 1997; Ketama): a key belongs to the next node on the ring.

use super::identity;
use crate::model::BackendAddr;
use proxy_common::hash::xxh64_24;

/// Seed of a node's place.
const NODE_SEED: u64 = 3;

/// Nodes sorted by place.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Ring {
    places: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// Nodes of the heaviest endpoint: one endpoint alone makes a ring of 1,024, Envoy's smallest.
    const MOST_NODES: u32 = 1_024;
    /// With more endpoints each has fewer, so that the ring stays near this size (3 MiB, built in some 10 ms) …
    const RING_SIZE: u32 = 1 << 18;
    /// … but not fewer than this.
    const FEWEST_NODES: u32 = 16;

    /// `configured` and `effective` weights of each endpoint. Those of no effective weight have no nodes; how many
    /// nodes the others have follows from the configured weights alone, so that an endpoint that fails or drains moves
    /// its own keys and no others.
    pub(super) fn new(endpoints: &[(BackendAddr, u32, u32)]) -> Self {
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
        // A power of two: one more endpoint rarely changes it.
        let share = (Self::RING_SIZE / count).max(1);
        let nodes = (1 << share.ilog2()).clamp(Self::FEWEST_NODES, Self::MOST_NODES);
        let heaviest = endpoints.iter().map(|(_, configured, _)| *configured).max();
        let heaviest = u64::from(heaviest.unwrap_or(1).max(1));
        let mut ring: Vec<(u64, u32)> = Vec::new();
        for (&(address, configured, effective), index) in endpoints.iter().zip(0u32..) {
            if effective == 0 {
                continue;
            }
            let nodes = (u64::from(configured) * u64::from(nodes) + heaviest / 2) / heaviest;
            let [high, low, port] = identity(address);
            let place = |node: u64| xxh64_24([high, low, port | node << 32], NODE_SEED);
            ring.extend((0..nodes.max(1)).map(|node| (place(node), index)));
        }
        // Two nodes at one place are about one in 2^30 rings; then the one that stands first in the config owns it.
        ring.sort_unstable();
        Self {
            places: ring.iter().map(|(place, _)| *place).collect(),
            owners: ring.iter().map(|(_, owner)| *owner).collect(),
        }
    }

    /// The endpoint a key belongs to. O(log of the ring's size).
    pub(super) fn owner(&self, key: u64) -> Option<usize> {
        let next = self.places.partition_point(|place| *place < key);
        let owner = self.owners.get(next).or(self.owners.first())?;
        Some(*owner as usize)
    }
}
