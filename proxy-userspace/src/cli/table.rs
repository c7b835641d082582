//! Aligned plain-text tables.

/// How a column's cells stand under its heading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making. Cells have no wide characters.
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Two spaces between columns, none at the end of a line.
    pub(super) fn render(&self) -> String {
        let headings = self.columns.map(|(heading, _)| heading.to_owned());
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let widths: [usize; N] = std::array::from_fn(|column| {
            lines()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or_default()
        });
        let mut text = String::new();
        for cells in lines() {
            let padded: Vec<String> = (cells.iter().zip(widths).zip(self.columns))
                .map(|((cell, width), (_, align))| match align {
                    Align::Left => format!("{cell:width$}"),
                    Align::Right => format!("{cell:>width$}"),
                })
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}
