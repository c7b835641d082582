//! The tree: what stands in a file, each value with its line.

use crate::config::{
    path::{KeyPath, Step},
    scalar::{Scalar, ScalarKind},
};

/// A value and the line it starts on.
#[derive(Clone, Debug)]
pub(in crate::config) struct Node {
    pub(in crate::config) line: u32,
    pub(in crate::config) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(in crate::config) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(in crate::config) struct Entry {
    pub(in crate::config) key: String,
    pub(in crate::config) line: u32,
    pub(in crate::config) node: Node,
}

impl Value {
    pub(super) fn unusable() -> Self {
        Self::Scalar(Scalar {
            typed: String::new(),
            kind: ScalarKind::Unusable,
        })
    }
}

impl Node {
    /// What stands in a file that could not be read.
    pub(in crate::config) fn empty() -> Self {
        Self {
            line: 1,
            value: Value::Mapping(Vec::new()),
        }
    }

    /// The line to show for a path: that of the scalar, or of the key of a list or mapping; of
    /// the last part of the path that exists, where the rest is missing.
    pub(in crate::config) fn line_at(&self, path: &KeyPath) -> u32 {
        let mut node = self;
        let mut line = self.line;
        for step in path.steps() {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Mapping(entries)) => entries
                    .iter()
                    .find(|entry| *entry.key == **key)
                    .map(|entry| (&entry.node, entry.shown_line())),
                (Step::Index(index), Value::List(elements)) => elements.get(*index).map(|e| (e, e.line)),
                _ => None,
            };
            let Some((child, child_line)) = next else {
                return line;
            };
            (node, line) = (child, child_line);
        }
        line
    }

    /// The value at a path.
    pub(in crate::config) fn at(&self, path: &KeyPath) -> Option<&Self> {
        path.steps()
            .into_iter()
            .try_fold(self, |node, step| match (step, &node.value) {
                (Step::Key(key), Value::Mapping(entries)) => {
                    let entry = entries.iter().find(|entry| *entry.key == **key);
                    entry.map(|entry| &entry.node)
                }
                (Step::Index(index), Value::List(elements)) => elements.get(*index),
                _ => None,
            })
    }

    pub(super) fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(elements) => elements.iter().map(Self::count).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
        }
    }
}

impl Entry {
    /// A scalar's own line, else the key's: a list starts on the line after its key.
    pub(in crate::config) fn shown_line(&self) -> u32 {
        match self.node.value {
            Value::Scalar(ref scalar) if scalar.kind != ScalarKind::Null => self.node.line,
            _ => self.line,
        }
    }
}
