//! Choosing by chance, by weight, in constant time: an alias table.

use fastrand::Rng;

/// An alias table (Walker 1977, built as by Vose 1991): every slot holds one index, and another one that gets the part
/// of the slot above the threshold. One random number and one load a choice, whatever the number of endpoints.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Weighted {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// Below this of 2^32 it is `index`, else `other`.
    threshold: u32,
    index: u32,
    other: u32,
}

impl Weighted {
    /// A table of the indices with a weight above zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let taken = weights.iter().zip(0u32..).filter(|(weight, _)| **weight > 0);
        let taken: Vec<(u32, u64)> = taken.map(|(weight, index)| (index, u64::from(*weight))).collect();
        let count = taken.len() as u64;
        let total: u64 = taken.iter().map(|(_, weight)| weight).sum();
        // Scaled so that a slot's capacity is `total`: integers, no rounding until the thresholds.
        let mut remaining: Vec<u64> = taken.iter().map(|(_, weight)| weight * count).collect();
        let mut slots: Vec<Slot> = (taken.iter())
            .map(|&(index, _)| Slot {
                threshold: u32::MAX,
                index,
                other: index,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..slots.len()).partition(|&at| remaining[at] < total);
        while let (Some(low), Some(&high)) = (small.pop(), large.last()) {
            slots[low].threshold = ((u128::from(remaining[low]) << 32) / u128::from(total)) as u32;
            slots[low].other = slots[high].index;
            remaining[high] -= total - remaining[low];
            if remaining[high] < total {
                large.pop();
                small.push(high);
            }
        }
        Self { slots: slots.into() }
    }

    /// An index by chance, by weight; none when no index has weight.
    pub(super) fn choose(&self, random: &mut Rng) -> Option<usize> {
        let random = random.u64(..);
        // The high half picks the slot (Lemire's multiplication), the low half the part of it.
        let at = ((random >> 32) * self.slots.len() as u64) >> 32;
        let slot = self.slots.get(at as usize)?;
        let index = if (random as u32) < slot.threshold {
            slot.index
        } else {
            slot.other
        };
        Some(index as usize)
    }

    /// Two indices by chance, by weight; the same one twice where no other has a fair chance.
    pub(super) fn choose_two(&self, random: &mut Rng) -> Option<(usize, usize)> {
        /// Tries to find another one: with 1:9 weights the lighter is then met in over half of all choices.
        const TRIES: usize = 8;
        let first = self.choose(random)?;
        if self.slots.len() == 1 {
            return Some((first, first));
        }
        let other = (0..TRIES).find_map(|_| self.choose(random).filter(|second| *second != first));
        Some((first, other.unwrap_or(first)))
    }
}
