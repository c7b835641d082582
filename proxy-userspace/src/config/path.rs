//! Where in a config a value stands: `listeners[0].forward.cluster`.

use std::{fmt, sync::Arc};

/// A key path. It shares all but its last step with the one it was made from: a walk over a config makes one a value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KeyPath(Option<Arc<Link>>);

#[derive(PartialEq, Eq, Debug)]
struct Link {
    before: KeyPath,
    step: Step,
}

/// One step down.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To the value of a key.
    Key(Box<str>),
    /// To an element of a list, counted from 0.
    Index(usize),
}

impl KeyPath {
    /// The whole file.
    pub(super) const ROOT: Self = Self(None);

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.into()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// Another key beside the one that this path ends with.
    pub(super) fn sibling(&self, key: &str) -> Self {
        match &self.0 {
            Some(link) => link.before.key(key),
            None => self.key(key),
        }
    }

    /// What to call a mapping that stands here.
    pub(super) fn shown(&self) -> String {
        match self.0 {
            Some(_) => self.to_string(),
            None => "the top level".to_owned(),
        }
    }

    /// From the top down.
    pub(super) fn steps(&self) -> Vec<&Step> {
        let mut steps = Vec::new();
        let mut at = self;
        while let Some(link) = &at.0 {
            steps.push(&link.step);
            at = &link.before;
        }
        steps.reverse();
        steps
    }

    fn step(&self, step: Step) -> Self {
        let before = self.clone();
        Self(Some(Arc::new(Link { before, step })))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps().into_iter().enumerate() {
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
