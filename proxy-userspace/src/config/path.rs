//! Where in a config a value stands: `listeners[0].forward.cluster`.

use std::fmt;

/// A key path, cheap enough to build while walking a config.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KeyPath(Vec<Step>);

/// One step down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an element of a list, counted from 0.
    Index(usize),
}

impl KeyPath {
    /// The whole file.
    pub(super) const ROOT: Self = Self(Vec::new());

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// Another key beside the one that this path ends with.
    pub(super) fn sibling(&self, key: &str) -> Self {
        let parent = self.0.split_last().map_or(&[][..], |(_, parent)| parent);
        Self(parent.to_vec()).key(key)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(&if key.is_empty() {
                        "\"\"".to_owned()
                    } else {
                        clipped(key)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Text as it was typed, fit for one line: control characters are escaped, and what is long is cut.
pub(super) fn clipped(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = printable(&text.chars().take(LONGEST).collect::<String>());
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Text without control characters and other ways to break a line or a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{202a}'..='\u{202e}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
