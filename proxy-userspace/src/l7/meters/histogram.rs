//! A histogram of durations with fixed bounds.

use crate::l7::counters::Count;
use std::time::Duration;

/// Upper bounds, inclusive: two to three a decade, from half a millisecond to ten seconds.
pub const BOUNDS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The same; compared with whole numbers.
const BOUNDS_NANOSECONDS: [u64; BOUNDS_SECONDS.len()] = {
    let mut bounds = [0; BOUNDS_SECONDS.len()];
    let mut index = 0;
    while index < bounds.len() {
        // Half a millisecond and ten million of it: exact.
        bounds[index] = (BOUNDS_SECONDS[index] * 1e9) as u64;
        index += 1;
    }
    bounds
};

/// With the one of what is beyond.
pub const BUCKETS: usize = BOUNDS_SECONDS.len() + 1;

/// Counts durations by bucket, each in one.
#[derive(Default, Debug)]
pub struct Histogram {
    /// By bound, not cumulated.
    pub buckets: [Count; BUCKETS],
    /// Of all durations; wraps after 584 years of them.
    pub sum_nanoseconds: Count,
}

impl Histogram {
    /// One more.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanoseconds)].increase();
        self.sum_nanoseconds.add(nanoseconds);
    }
}

/// Where a duration is counted.
pub(super) fn bucket_of(nanoseconds: u64) -> usize {
    BOUNDS_NANOSECONDS.partition_point(|bound| *bound < nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_buckets() {
        let histogram = Histogram::default();
        for (nanoseconds, bucket) in [
            (0, 0),
            (500_000, 0),
            (500_001, 1),
            (2_500_000, 2),
            (10_000_000_000, 13),
            (10_000_000_001, 14),
            (u64::MAX, 14),
        ] {
            let before = histogram.buckets[bucket].value();
            histogram.observe(Duration::from_nanos(nanoseconds));
            assert_eq!(histogram.buckets[bucket].value(), before + 1, "{nanoseconds}");
        }
    }
}
