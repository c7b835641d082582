//! Incremental Internet checksums (RFC 1624), over words as they lie in memory.
//!
//! One's complement sums are indifferent to byte order (RFC 1071 section 2 B), so nothing is
//! swapped: words go in as read from memory and the result is stored as it comes out.

/// A sum of changes to be applied to one or more checksums.
#[derive(Clone, Copy, Default, Debug)]
pub struct Delta(u64);

impl Delta {
    /// No change.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// A 32-bit word changed. RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
    #[inline(always)]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A 16-bit word changed.
    #[inline(always)]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Both sets of changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// As one word, for functions of the kernel programs that aren't inlined. Below 2^48.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Delta::bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The checksum after the changes; both as they lie in memory.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }

    /// The same for UDP, where a computed zero is sent as all ones (RFC 768).
    #[inline(always)]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        match self.apply(checksum) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// An IPv4 header's checksum once the TTL is one less: RFC 1624 equation 3, where ~m + m' is the same for every TTL but 0.
#[inline(always)]
pub const fn of_lower_ttl(checksum: u16) -> u16 {
    // The TTL is the first byte of its word.
    const CHANGE: u64 = !u16::from_ne_bytes([1, 0]) as u64;
    let sum = (!checksum) as u64 + CHANGE;
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// [`fold`] of no more than eight 32-bit words.
#[inline(always)]
pub const fn fold_words(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Folds a sum of 16- and 32-bit words to 16 bits with end-around carry. Takes sums below 2^48.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(words: &[u16]) -> u16 {
        !fold(words.iter().map(|&word| u64::from(word)).sum())
    }

    #[test]
    fn incremental_equals_full() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u16
        };
        for _ in 0..100_000 {
            let mut words = [0u16; 10].map(|_| next());
            let before = full(&words);
            let (half, high, low) = (next(), next(), next());
            let delta = Delta::new().half(words[3], half).word(
                u32::from(words[5]) << 16 | u32::from(words[6]),
                u32::from(high) << 16 | u32::from(low),
            );
            (words[3], words[5], words[6]) = (half, high, low);
            assert_eq!(delta.apply(before), full(&words));
        }
    }

    #[test]
    fn a_lower_ttl_is_a_change_as_any() {
        for ttl in 1..=255u8 {
            for checksum in 0..=u16::MAX {
                let (old, new) = ([ttl, 17], [ttl - 1, 17]);
                let delta = Delta::new().half(u16::from_ne_bytes(old), u16::from_ne_bytes(new));
                assert_eq!(
                    of_lower_ttl(checksum),
                    delta.apply(checksum),
                    "{ttl} {checksum:x}"
                );
            }
        }
    }

    #[test]
    fn words_fold_alike() {
        let bounds = [0, 1, 0xffff, 0x1_0000, 0xffff_0000, 0xffff_fffe, 0xffff_ffff];
        for (high, low) in (0..8u64).flat_map(|high| bounds.map(|low| (high, low))) {
            for low in [low, low ^ 0x8000, low ^ 0x7fff_0000] {
                let sum = high << 32 | low;
                if sum <= 8 * 0xffff_ffff {
                    assert_eq!(fold_words(sum), fold(sum), "{sum:x}");
                }
            }
        }
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: HC 0xDD2F, m 0x5555, m' 0x3285 gives 0x0000, not 0xFFFF.
        assert_eq!(Delta::new().half(0x5555, 0x3285).apply(0xdd2f), 0);
        assert_eq!(Delta::new().half(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
    }
}
