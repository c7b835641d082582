//! A table that is drawn over itself on a terminal, and line by line elsewhere.

use std::io::{IsTerminal, Write};

const HEAD: [&str; COLUMNS] = [
    "backend",
    "state",
    "weight",
    "wanted",
    "share",
    "connections",
    "flows (kernel)",
    "long-running",
];

const COLUMNS: usize = 8;

/// A row of the table.
pub type Row = [String; COLUMNS];

/// Where the table goes.
pub struct Screen {
    terminal: bool,
    /// Lines of the table on the terminal, to go back over.
    drawn: usize,
    /// The table that will stay when the part ends.
    last: Vec<String>,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            last: Vec::new(),
        }
    }

    /// Shows the table; elsewhere than on a terminal [`Screen::keep`] does.
    pub fn draw(&mut self, title: &str, rows: &[Row], foot: &str) {
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEAD[column].len()]).max().unwrap_or_default()
        });
        let line = |cells: [&str; COLUMNS]| {
            let padded = cells
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    // Words to the left, figures to the right.
                    if column < 2 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                });
            format!("  {}", padded.collect::<Vec<_>>().join("  "))
        };
        self.last = vec![title.to_owned(), line(HEAD)];
        self.last
            .extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
        self.last.push(format!("  {foot}"));
        if self.terminal {
            self.print();
        }
    }

    /// Leaves the table where it is: the next one comes below it.
    pub fn keep(&mut self) {
        if !self.terminal {
            self.print();
        }
        self.drawn = 0;
        self.last.clear();
    }

    fn print(&mut self) {
        let mut text = String::new();
        if self.drawn > 0 {
            // Up, and then each line is cleared before it is written.
            text += &format!("\x1b[{}A", self.drawn);
        }
        for line in &self.last {
            text += if self.terminal { "\x1b[2K" } else { "" };
            text += line;
            text += "\n";
        }
        self.drawn = self.last.len();
        // A closed pipe is no reason to stop the demo's checks.
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
    }
}
