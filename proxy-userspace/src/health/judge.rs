//! From single probes to a verdict: rise and fall.

use crate::model::Health;

/// Counts probes in a row. The first verdict takes as many as any other: one lost SYN right after
/// a start must not take a backend out.
pub(super) struct Judge {
    health: Health,
    rise: u32,
    fall: u32,
    passes: u32,
    failures: u32,
}

impl Judge {
    pub(super) fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self {
            health,
            rise,
            fall,
            passes: 0,
            failures: 0,
        }
    }

    /// The verdict after one more probe.
    pub(super) fn observe(&mut self, passed: bool) -> Health {
        if passed {
            (self.passes, self.failures) = (self.passes.saturating_add(1), 0);
        } else {
            (self.passes, self.failures) = (0, self.failures.saturating_add(1));
        }
        if self.passes >= self.rise.max(1) {
            self.health = Health::Healthy;
        } else if self.failures >= self.fall.max(1) {
            self.health = Health::Unhealthy;
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Healthy, Unhealthy, Unknown};

    #[test]
    fn rise_and_fall() {
        type Row<'a> = (&'a str, Health, u32, u32, &'a [(bool, Health)]);
        let table: &[Row<'_>] = &[
            (
                "first pass is not enough",
                Unknown,
                2,
                3,
                &[(true, Unknown), (true, Healthy)],
            ),
            (
                "unknown takes fall failures too",
                Unknown,
                2,
                3,
                &[(false, Unknown), (false, Unknown), (false, Unhealthy)],
            ),
            (
                "a pass between starts the count again",
                Healthy,
                2,
                2,
                &[
                    (false, Healthy),
                    (true, Healthy),
                    (false, Healthy),
                    (false, Unhealthy),
                ],
            ),
            (
                "recovery takes rise passes in a row",
                Unhealthy,
                2,
                3,
                &[
                    (true, Unhealthy),
                    (false, Unhealthy),
                    (true, Unhealthy),
                    (true, Healthy),
                ],
            ),
            (
                "one and one",
                Unknown,
                1,
                1,
                &[(false, Unhealthy), (true, Healthy)],
            ),
        ];
        for (what, start, rise, fall, probes) in table {
            let mut judge = Judge::new(*start, *rise, *fall);
            for (step, (passed, expected)) in probes.iter().enumerate() {
                assert_eq!(judge.observe(*passed), *expected, "{what}, step {step}");
            }
        }
    }
}
