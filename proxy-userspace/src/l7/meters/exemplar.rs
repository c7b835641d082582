//! A recent trace of each bucket of a histogram: written by one worker, read by control, neither waits for the other.

use super::{BUCKETS, histogram::bucket_of};
use std::{
    sync::atomic::{AtomicU64, Ordering, fence},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A request that was traced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: u128,
    /// What it took.
    pub nanoseconds: u64,
    /// When it was over, since 1970.
    pub unix_milliseconds: u64,
}

/// The last one a bucket.
#[derive(Default, Debug)]
pub struct Exemplars([Cell; BUCKETS]);

/// A value of several words with one writer (a seqlock).
#[derive(Default, Debug)]
struct Cell {
    /// Odd while it is written; 0 before the first time.
    turn: AtomicU64,
    words: [AtomicU64; 4],
}

/// Looks at a cell that is being written: a write takes some nanoseconds.
const LOOKS: usize = 8;

impl Exemplars {
    /// Takes the place of the one before in its bucket.
    pub fn note(&self, trace_id: u128, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0[bucket_of(nanoseconds)].write(Exemplar {
            trace_id,
            nanoseconds,
            unix_milliseconds: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Those that there are.
    pub fn read(&self) -> [Option<Exemplar>; BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].read())
    }
}

impl Cell {
    fn write(&self, exemplar: Exemplar) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let words = [
            (exemplar.trace_id >> 64) as u64,
            exemplar.trace_id as u64,
            exemplar.nanoseconds,
            exemplar.unix_milliseconds,
        ];
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// None, too, where the writer was met every time.
    fn read(&self) -> Option<Exemplar> {
        (0..LOOKS).find_map(|_| {
            let before = self.turn.load(Ordering::Acquire);
            if before == 0 || before % 2 == 1 {
                return None;
            }
            let [high, low, nanoseconds, unix_milliseconds] =
                std::array::from_fn(|at| self.words[at].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            (self.turn.load(Ordering::Relaxed) == before).then_some(Exemplar {
                trace_id: u128::from(high) << 64 | u128::from(low),
                nanoseconds,
                unix_milliseconds,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::atomic::AtomicBool, thread};

    #[test]
    fn a_bucket_has_its_last_one() {
        let exemplars = Exemplars::default();
        assert_eq!(exemplars.read(), [None; BUCKETS]);
        exemplars.note(1, Duration::from_micros(700));
        exemplars.note(u128::MAX, Duration::from_micros(900));
        exemplars.note(3, Duration::from_secs(60));
        let read = exemplars.read();
        assert_eq!(read[1].unwrap().trace_id, u128::MAX);
        assert_eq!(read[1].unwrap().nanoseconds, 900_000);
        assert_eq!(read[BUCKETS - 1].unwrap().trace_id, 3);
        assert_eq!(read.iter().flatten().count(), 2);
    }

    /// What is read is one that was written, not parts of two.
    #[test]
    fn none_is_torn() {
        let exemplars = Exemplars::default();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..200_000_u64 {
                    let both = u128::from(number) << 64 | u128::from(number);
                    exemplars.note(both, Duration::from_nanos(number));
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                for found in exemplars.read().into_iter().flatten() {
                    assert_eq!((found.trace_id >> 64) as u64, found.trace_id as u64);
                    assert_eq!(found.trace_id as u64, found.nanoseconds);
                }
            }
        });
    }
}
