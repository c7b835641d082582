//! Durations as they are typed: `2s`, `500ms`, `2h30m`.

use super::{error::Mistake, suggest::shown};
use std::{ops::RangeInclusive, time::Duration};

/// Units by length in milliseconds, the greatest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What people write for a unit, and what it is worth in milliseconds.
const OTHER_UNITS: &[(&str, u64)] = &[
    ("w", 604_800_000),
    ("week", 604_800_000),
    ("weeks", 604_800_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("hr", 3_600_000),
    ("hrs", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("min", 60_000),
    ("mins", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("sec", 1_000),
    ("secs", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("msec", 1),
    ("msecs", 1),
    ("millis", 1),
    ("millisecond", 1),
    ("milliseconds", 1),
];

/// A duration within bounds.
pub(super) fn parse(typed: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Mistake> {
    let Some(duration) = strict(typed) else {
        return Err(not_a_duration(typed));
    };
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let (least, greatest) = (text(*bounds.start()), text(*bounds.end()));
    Err(Mistake::new(
        format!("{} is out of bounds", shown(typed)),
        format!("write a duration from {least} to {greatest}"),
    ))
}

/// Whole numbers, each with a unit, the greater units first.
fn strict(typed: &str) -> Option<Duration> {
    let mut rest = typed;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = split_at_end(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_at_end(after, |c| c.is_ascii_alphabetic());
        let (_, length) = units.by_ref().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*length)?)?;
        rest = after;
    }
    (!typed.is_empty()).then_some(Duration::from_millis(total))
}

fn split_at_end(text: &str, belongs: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// What to write instead of something that is no duration.
pub(super) fn not_a_duration(typed: &str) -> Mistake {
    let problem = |what: &str| format!("{} {what}", shown(typed));
    if !typed.is_empty() && typed.chars().all(|c| c.is_ascii_digit()) {
        let remedy = format!("write {typed}s for seconds; other units are ms, m and h");
        return Mistake::new(problem("has no unit"), remedy);
    }
    match lenient(typed) {
        Some(duration) => Mistake::new(
            problem("is not a duration of whole numbers with the units h, m, s, ms"),
            format!("write {}", text(duration)),
        ),
        None => Mistake::new(
            problem("is not a duration"),
            "write one such as 500ms, 2s or 2h30m",
        ),
    }
}

/// What was probably meant: fractions, spaces, other units, units in any order.
fn lenient(typed: &str) -> Option<Duration> {
    let folded = typed.to_lowercase();
    let mut rest = folded.trim();
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let (number, after) = split_at_end(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_at_end(after.trim_start(), |c| c.is_ascii_alphabetic());
        let known = UNITS.iter().chain(OTHER_UNITS).find(|(name, _)| *name == unit);
        // Exact enough for a suggestion: a week has 30 bits of milliseconds.
        total += number.parse::<f64>().ok()? * known?.1 as f64;
        rest = after.trim_start();
    }
    let milliseconds = total.round();
    (1.0..1e15)
        .contains(&milliseconds)
        .then(|| Duration::from_millis(milliseconds as u64))
}

/// As a user would type it.
pub(super) fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anything(typed: &str) -> Result<Duration, Mistake> {
        parse(typed, &(Duration::ZERO..=Duration::from_secs(1_000_000)))
    }

    #[test]
    fn what_is_typed_and_what_it_means() {
        for (typed, milliseconds) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("2h30m", 9_000_000),
            ("1m30s", 90_000),
            ("90s", 90_000),
            ("0s", 0),
        ] {
            assert_eq!(
                anything(typed),
                Ok(Duration::from_millis(milliseconds)),
                "{typed}"
            );
        }
    }

    #[test]
    fn remedies_are_durations_themselves() {
        for (typed, remedy) in [
            ("30", "write 30s for seconds; other units are ms, m and h"),
            ("1.5s", "write 1s500ms"),
            ("2 seconds", "write 2s"),
            ("1d", "write 24h"),
            ("30m2h", "write 2h30m"),
            ("2S", "write 2s"),
            ("-2s", "write one such as 500ms, 2s or 2h30m"),
            ("", "write one such as 500ms, 2s or 2h30m"),
            ("99999999999999999999s", "write one such as 500ms, 2s or 2h30m"),
        ] {
            assert_eq!(anything(typed).unwrap_err().remedy, remedy, "{typed}");
        }
    }

    #[test]
    fn text_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 61_001, 9_000_000, 604_800_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(anything(&text(duration)), Ok(duration));
        }
    }
}
