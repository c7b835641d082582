//! Each endpoint in turn, by weight: earliest deadline first over a schedule that all workers share, each from its own
//! place in its own direction.
//!
//! The schedule is endless in both directions. In one unit of time an endpoint of weight w stands in it w times, evenly
//! spaced, at (k + phase) / w for every whole k; its phase follows from its address. In any stretch of length L it
//! therefore stands L × w times, rounded up or down.
//!
//! Two workers walk away from the same point, one forwards, one backwards. However requests fall on the two, what they have
//! covered together is one stretch: n requests over n endpoints of equal weight reach each exactly once. Further pairs start
//! elsewhere, spread over the unit; with p pairs (a single worker counts as one) an endpoint is at most p requests
//! away from its share. A change of endpoints moves nobody from its place in time, so this holds across changes too.

use super::Seat;
use std::{
    cell::RefCell,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

/// One worker's place in the schedule.
#[derive(Debug)]
pub(super) struct RoundRobin {
    backwards: bool,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Everything at or after it is taken by walking forwards, everything before it by walking backwards.
    place: Place,
    /// The next turn of every endpoint that has weight; the next one of all on top.
    turns: BinaryHeap<Turn>,
}

/// A place in the schedule: whole units, 2^-32 units, and what tells turns at the same time apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    unit: i64,
    fraction: u32,
    tie: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Turn {
    place: Place,
    /// Which of the endpoint's turns in this unit: below `weight`.
    number: u32,
    weight: u32,
    phase: u32,
    index: u32,
    backwards: bool,
}

/// What the schedule knows of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Turns in a unit; zero for none.
    pub(super) weight: u32,
    /// The same for this endpoint in all workers, and best different from others'.
    pub(super) phase: u32,
}

impl RoundRobin {
    /// The place where this worker starts.
    pub(super) fn new(seat: Seat, entries: impl Iterator<Item = Entry>) -> Self {
        let pairs = seat.count.div_ceil(2).max(1) as u64;
        let pair = (seat.index / 2) as u64;
        let place = Place {
            unit: 0,
            fraction: ((pair << 32) / pairs) as u32,
            tie: 0,
        };
        let start = Self {
            backwards: seat.index % 2 == 1,
            state: RefCell::new(State {
                place,
                turns: BinaryHeap::new(),
            }),
        };
        start.replace(entries);
        start
    }

    /// Goes on from the same place among other endpoints.
    pub(super) fn replace(&self, entries: impl Iterator<Item = Entry>) {
        let mut state = self.state.borrow_mut();
        let place = state.place;
        let turns = entries.zip(0u32..).filter(|(entry, _)| entry.weight > 0);
        state.turns = turns
            .map(|(entry, index)| {
                let mut turn = Turn::at_or_after(place, entry, index);
                if self.backwards {
                    turn.retreat();
                    turn.backwards = true;
                }
                turn
            })
            .collect();
    }

    /// The next endpoint's index; none when none has weight. O(log n), without allocation.
    pub(super) fn next(&self) -> Option<usize> {
        let state = &mut *self.state.borrow_mut();
        let mut turn = state.turns.peek_mut()?;
        let index = turn.index as usize;
        state.place = turn.place;
        if self.backwards {
            turn.retreat();
        } else {
            state.place.tie = turn.index + 1;
            turn.advance();
        }
        // Back to where it belongs.
        drop::<PeekMut<'_, Turn>>(turn);
        Some(index)
    }
}

impl Turn {
    /// The first turn of this endpoint at or after a place.
    fn at_or_after(place: Place, entry: Entry, index: u32) -> Self {
        // At most the right one: phase only adds to it, by less than one turn.
        let number = ((u64::from(place.fraction) * u64::from(entry.weight)) >> 32) as u32;
        let mut turn = Self {
            place: Place {
                unit: place.unit,
                fraction: 0,
                tie: index,
            },
            number: number.saturating_sub(1),
            weight: entry.weight,
            phase: entry.phase,
            index,
            backwards: false,
        };
        turn.set_fraction();
        while turn.place < place {
            turn.advance();
        }
        turn
    }

    fn advance(&mut self) {
        self.number += 1;
        if self.number >= self.weight {
            self.number = 0;
            self.place.unit += 1;
        }
        self.set_fraction();
    }

    fn retreat(&mut self) {
        if self.number == 0 {
            self.number = self.weight;
            self.place.unit -= 1;
        }
        self.number -= 1;
        self.set_fraction();
    }

    fn set_fraction(&mut self) {
        let turn = (u64::from(self.number) << 32) | u64::from(self.phase);
        // Below 2^32, since the number is below the weight.
        self.place.fraction = (turn / u64::from(self.weight)) as u32;
    }
}

/// The heap's top is its greatest: the earliest for those who walk forwards, the latest for the others.
impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self.backwards {
            self.place.cmp(&other.place)
        } else {
            other.place.cmp(&self.place)
        }
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
