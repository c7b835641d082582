//! A hash table of small numbers, built once: open addressing, eight bytes a slot.
//!
//! A lookup among 100,000 routes waits for memory and for little else, so what is touched must be little. The keys
//! are the config's, not the clients': nobody can make them collide, and the hash needs no secret.

/// Numbers by the hash of their keys; the keys are the owner's.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two, never full.
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The hash's upper half, so that another's key is seldom read.
    tag: u32,
    at: u32,
}

const FREE: Slot = Slot { tag: 0, at: u32::MAX };

impl Table {
    /// Numbers the hashes from 0 in their order. Keys differ.
    pub(super) fn new(hashes: &[u64]) -> Self {
        let size = (hashes.len() * 4 / 3 + 1).next_power_of_two();
        let mut slots = vec![FREE; size].into_boxed_slice();
        for (hash, at) in hashes.iter().zip(0..) {
            let mut place = place(*hash, size);
            while slots[place].at != FREE.at {
                place = (place + 1) & (size - 1);
            }
            slots[place] = Slot { tag: tag(*hash), at };
        }
        Self { slots }
    }

    /// The number of the key that has this hash and is this one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut place = place(hash, self.slots.len());
        loop {
            let slot = self.slots[place];
            if slot.at == FREE.at {
                return None;
            }
            if slot.tag == tag(hash) && is_it(slot.at) {
                return Some(slot.at);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// Bytes it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

const fn place(hash: u64, size: usize) -> usize {
    hash as usize & (size - 1)
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A hash of a text by folded multiplication (as in wyhash), eight bytes a step. `seed` tells key spaces apart.
#[inline]
pub(super) fn hash(seed: u32, text: &[u8]) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    const LAST: u64 = 0xc2b2_ae3d_27d4_eb4f;
    let (chunks, rest) = text.as_chunks::<8>();
    let mut state = LAST ^ u64::from(seed) << 32 ^ text.len() as u64;
    for chunk in chunks {
        state = fold(state ^ u64::from_le_bytes(*chunk), STEP);
    }
    let mut last = 0;
    for byte in rest {
        last = last << 8 | u64::from(*byte);
    }
    fold(fold(state ^ last, STEP), LAST)
}

#[inline]
const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0_usize, 1, 2, 3, 4, 100, 1_000, 100_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("host{n}.example.com")).collect();
            let hashes: Vec<u64> = keys.iter().map(|key| hash(7, key.as_bytes())).collect();
            let table = Table::new(&hashes);
            for (key, at) in keys.iter().zip(0..) {
                let found = table.find(hash(7, key.as_bytes()), |at| keys[at as usize] == *key);
                assert_eq!(found, Some(at), "{key}");
            }
            let other = hash(7, b"host.example.com");
            assert_eq!(
                table.find(other, |at| keys[at as usize] == "host.example.com"),
                None
            );
        }
    }

    #[test]
    fn near_keys_have_far_hashes() {
        let mut places: Vec<u64> = (0..10_000_u32)
            .map(|n| hash(0, format!("/p{n}").as_bytes()) & 0xffff)
            .collect();
        places.sort_unstable();
        places.dedup();
        // 65,536 places, 10,000 keys: 9,274 distinct are expected of a random function.
        assert!(places.len() > 9_100, "{}", places.len());
        assert_ne!(hash(0, b"a"), hash(1, b"a"));
        assert_ne!(hash(0, b"a"), hash(0, b"a\0"));
    }
}
