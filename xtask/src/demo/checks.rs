//! The demo's assertions, each with its figures.

use super::{SHARE_LIMIT, name};
use std::fmt;
use weir_tests::lab::{Attempt, LongConnections, shares};

/// Assertions in the order they were made.
#[derive(Default)]
pub struct Checks(Vec<Check>);

struct Check {
    what: String,
    holds: bool,
    figures: String,
}

impl Checks {
    /// Notes an assertion.
    pub fn add(&mut self, what: &str, holds: bool, figures: String) {
        self.0.push(Check {
            what: what.to_owned(),
            holds,
            figures,
        });
    }

    /// Every backend's share of the connections is near its weight's, and none failed.
    pub fn shares(&mut self, what: &str, attempts: &[Attempt], weights: &[u32]) {
        let seen = shares(attempts);
        let failed = seen.get("").copied().unwrap_or(0);
        let of = |n| (name(n), seen.get(&name(n)).copied().unwrap_or(0));
        let counts: Vec<_> = (0..weights.len()).map(of).collect();
        let (worst, figures) = compare(&counts, weights);
        self.add(
            what,
            failed == 0 && worst < SHARE_LIMIT && !attempts.is_empty(),
            format!("{} connections, {failed} failed{figures}", attempts.len()),
        );
    }

    /// Every backend's count, by its name, is near its weight's share of all of them.
    pub fn parts(&mut self, what: &str, counts: &[(String, usize)], weights: &[u32]) {
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        let (worst, figures) = compare(counts, weights);
        let holds = total > 0 && worst < SHARE_LIMIT;
        self.add(what, holds, format!("{total} requests{figures}"));
    }

    /// No long connection broke, but those to `dead`.
    pub fn none_lost(&mut self, what: &str, long: &LongConnections, dead: Option<&str>) {
        let outcomes = long.outcomes();
        let (others, to_dead): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .partition(|outcome| Some(outcome.server.as_str()) != dead);
        let lost = others.iter().filter(|outcome| outcome.lost.is_some()).count();
        let rounds: u64 = others.iter().map(|outcome| outcome.rounds).sum();
        let mut figures = format!("{lost} of {} broke, {rounds} requests so far", others.len());
        if let Some(dead) = dead {
            let died = to_dead.iter().filter(|outcome| outcome.lost.is_some()).count();
            figures += &format!("; of those to {dead}, {died} of {} died with it", to_dead.len());
        }
        self.add(what, lost == 0 && rounds > 0, figures);
    }

    /// Whether every one holds.
    pub fn all_hold(&self) -> bool {
        self.0.iter().all(|check| check.holds)
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { what, holds, figures } in &self.0 {
            writeln!(
                f,
                "{} {what}: {figures}",
                if *holds { "ok    " } else { "FAILED" }
            )?;
        }
        Ok(())
    }
}

/// How far the shares are from the weights' at most, as a fraction of all; and the figures.
fn compare(counts: &[(String, usize)], weights: &[u32]) -> (f64, String) {
    let total: u32 = weights.iter().sum();
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    let (mut worst, mut figures) = (0.0_f64, String::new());
    for ((name, count), weight) in counts.iter().zip(weights) {
        let wanted = f64::from(*weight) / f64::from(total);
        let got = *count as f64 / all.max(1) as f64;
        worst = worst.max((got - wanted).abs());
        figures += &format!("; {name} {} of {}", percent(got), percent(wanted));
    }
    figures += &format!(
        "; at most {:.1} points off (limit {:.1})",
        100.0 * worst,
        100.0 * SHARE_LIMIT
    );
    (worst, figures)
}

/// A fraction as people read it.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}
