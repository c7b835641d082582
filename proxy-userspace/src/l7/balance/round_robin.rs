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
    turns: Turns,
}

#[derive(Debug)]
enum Turns {
    /// All weights are the same: the same cycle over and over, O(1).
    Cycle(Cycle),
    /// The next turn of every endpoint that has weight; the next one of all on top. O(log n).
    Heap(BinaryHeap<Turn>),
}

/// Endpoints of one weight in the order of their phases.
#[derive(Debug)]
struct Cycle {
    order: Box<[Entered]>,
    weight: u32,
    unit: i64,
    /// Below `weight`.
    number: u32,
    /// The next one, in `order`.
    at: usize,
    /// Whether one was taken.
    began: bool,
}

/// Sorted as turns in a cycle are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entered {
    phase: u32,
    index: u32,
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
                turns: Turns::Heap(BinaryHeap::new()),
            }),
        };
        start.replace(entries);
        start
    }

    /// Goes on from the same place among other endpoints.
    pub(super) fn replace(&self, entries: impl Iterator<Item = Entry>) {
        let mut state = self.state.borrow_mut();
        if let Turns::Cycle(cycle) = &state.turns
            && let Some(place) = cycle.place(self.backwards)
        {
            state.place = place;
        }
        let place = state.place;
        let turns = entries.zip(0u32..).filter(|(entry, _)| entry.weight > 0);
        let turns: Vec<Turn> = turns
            .map(|(entry, index)| {
                let mut turn = Turn::at_or_after(place, entry, index);
                if self.backwards {
                    turn.retreat();
                    turn.backwards = true;
                }
                turn
            })
            .collect();
        state.turns = match Cycle::new(&turns) {
            Some(cycle) => Turns::Cycle(cycle),
            None => Turns::Heap(turns.into()),
        };
    }

    /// The next endpoint's index; none when none has weight. No allocation.
    pub(super) fn next(&self) -> Option<usize> {
        let state = &mut *self.state.borrow_mut();
        match &mut state.turns {
            Turns::Cycle(cycle) => cycle.next(self.backwards),
            Turns::Heap(turns) => {
                let mut turn = turns.peek_mut()?;
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
    }
}

impl Cycle {
    /// From everybody's next turn, if all have the same weight.
    fn new(turns: &[Turn]) -> Option<Self> {
        let first = turns.iter().max()?;
        if turns.iter().any(|turn| turn.weight != first.weight) {
            return None;
        }
        let entered = |turn: &Turn| Entered {
            phase: turn.phase,
            index: turn.index,
        };
        let mut order: Box<[Entered]> = turns.iter().map(entered).collect();
        order.sort_unstable();
        let at = order.binary_search(&entered(first)).ok()?;
        Some(Self {
            order,
            weight: first.weight,
            unit: first.place.unit,
            number: first.number,
            at,
            began: false,
        })
    }

    fn next(&mut self, backwards: bool) -> Option<usize> {
        let entered = self.order.get(self.at)?;
        let index = entered.index as usize;
        self.began = true;
        self.step(backwards);
        Some(index)
    }

    fn step(&mut self, backwards: bool) {
        if backwards {
            if self.at == 0 {
                self.at = self.order.len();
                (self.unit, self.number) = match self.number {
                    0 => (self.unit - 1, self.weight - 1),
                    number => (self.unit, number - 1),
                };
            }
            self.at -= 1;
        } else {
            self.at += 1;
            if self.at == self.order.len() {
                self.at = 0;
                (self.unit, self.number) = match self.number + 1 {
                    number if number == self.weight => (self.unit + 1, 0),
                    number => (self.unit, number),
                };
            }
        }
    }

    /// Where it has come to, if it has begun: just behind the turn it took last.
    fn place(&self, backwards: bool) -> Option<Place> {
        let mut last = Self {
            order: self.order.clone(),
            ..*self
        };
        last.step(!backwards);
        let entered = last.order.get(last.at).filter(|_| self.began)?;
        Some(Place {
            unit: last.unit,
            fraction: fraction(last.number, entered.phase, last.weight),
            tie: entered.index + u32::from(!backwards),
        })
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
        self.place.fraction = fraction(self.number, self.phase, self.weight);
    }
}

/// When in its unit a turn is. The number is below the weight, so that the quotient is below 2^32.
fn fraction(number: u32, phase: u32, weight: u32) -> u32 {
    let turn = (u64::from(number) << 32) | u64::from(phase);
    (turn / u64::from(weight)) as u32
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
