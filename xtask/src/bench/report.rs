//! Numbers and their presentation: medians, a table for people, JSON for programs.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// Measurements of one thing.
#[derive(Clone, Default, Debug)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number, the mean of both. NaN without any.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Each minus the other's of the same round.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// Each over the other's of the same round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// Each times a factor.
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value * factor).collect())
    }

    /// Median with the range, in few digits.
    pub fn shown(&self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median(),
            self.min(),
            self.max()
        )
    }

    /// Summary and all values.
    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.min(), "max": self.max(), "rounds": self.0 })
    }
}

/// Prints rows in columns; the first column is flush left, the others right.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        std::iter::once(&head)
            .chain(rows)
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            line += &if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            };
        }
        println!("{}", line.trim_end());
    }
    println!();
}

/// Where and how it was measured.
pub fn environment() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processor = read("/proc/cpuinfo").lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(": ")
            .map(|(_, name)| name.to_owned())
    });
    let git = |words: &[&str]| shell::output(shell::command("git", words).current_dir(shell::root())).ok();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": processor,
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "load_before": read("/proc/loadavg"),
        "commit": git(&["rev-parse", "HEAD"]).map(|text| text.trim().to_owned()),
        "changed_since_commit": git(&["status", "--porcelain"]).map(|text| !text.is_empty()),
        "command": std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    })
}

/// Writes `target/bench/NAME.json`.
///
/// # Errors
/// When the file can't be written.
pub fn write(name: &str, report: &Value) -> Result<PathBuf> {
    let folder = shell::root().join("target/bench");
    fs::create_dir_all(&folder).context("cannot create target/bench")?;
    let path = folder.join(name).with_extension("json");
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn medians() {
        assert_eq!(Series(vec![3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Series(vec![4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(Series::default().median().is_nan());
        assert_eq!(
            Series(vec![3.0, 1.0]).minus(&Series(vec![1.0, 1.0])).shown(0),
            "1 (0–2)"
        );
    }
}
