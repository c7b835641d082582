//! What a page is made of: columns that may be left out, and rows of cells that can be sorted.

use crate::cli::{
    figures::{grouped, rate, scaled},
    judge::Health,
    table::Align,
};
use std::cmp::Ordering;

/// A column of a page.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) align: Align,
    /// Where there is no room for all, the greatest are left out; 0 is always there.
    pub(super) priority: u8,
}

/// Words, to the left.
pub(super) const fn word(title: &'static str, priority: u8) -> Column {
    Column {
        title,
        align: Align::Left,
        priority,
    }
}

/// Numbers, to the right.
pub(super) const fn number(title: &'static str, priority: u8) -> Column {
    Column {
        title,
        align: Align::Right,
        priority,
    }
}

/// What is shown, and what it is sorted by.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Numbers have one.
    value: Option<f64>,
}

impl Cell {
    pub(super) fn word(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            value: None,
        }
    }

    /// A number with a text of its own.
    pub(super) fn number(value: f64, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            value: Some(value),
        }
    }

    /// 1,234.
    pub(super) fn count(count: u64) -> Self {
        Self::number(count as f64, grouped(count))
    }

    /// 12.3k a second.
    pub(super) fn rate(per_second: Option<f64>) -> Self {
        per_second.map_or_else(Self::unknown, |value| Self::number(value, rate(value)))
    }

    /// 1.5 MiB a second.
    pub(super) fn byte_rate(per_second: Option<f64>) -> Self {
        per_second.map_or_else(Self::unknown, |value| Self::number(value, scaled(value as u64)))
    }

    /// Less than any number.
    pub(super) fn unknown() -> Self {
        Self::number(f64::NEG_INFINITY, "-")
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.value, other.value) {
            // Numbers that one looks for are great: the greatest first.
            (Some(left), Some(right)) => right.total_cmp(&left),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// A line of a page.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Row {
    /// What it is known by from answer to answer.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
    /// What its state says; a word in one of the cells says the same.
    pub(super) health: Health,
    /// All of it that may not fit, shown while it is selected.
    pub(super) detail: String,
}

/// A page's table.
pub(super) struct Sheet {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

/// By which column; none is the daemon's own order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sort {
    pub(super) column: Option<usize>,
    pub(super) is_reversed: bool,
}

impl Sheet {
    /// Leaves the rows of which any cell has the text, in whatever case.
    pub(super) fn filter(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let text = text.to_lowercase();
        let has = |cell: &Cell| cell.text.to_lowercase().contains(&text);
        self.rows.retain(|row| row.cells.iter().any(has));
    }

    /// Rows that are equal keep the daemon's order.
    pub(super) fn sort(&mut self, sort: Sort) {
        if let Some(column) = sort.column {
            self.rows
                .sort_by(|left, right| left.cells[column].compare(&right.cells[column]));
        }
        if sort.is_reversed {
            self.rows.reverse();
        }
    }
}
