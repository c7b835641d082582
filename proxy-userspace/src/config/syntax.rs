//! From text to a tree, past what is not YAML: a mistake there must not hide the others.

use super::{
    explain::{Repair, explain},
    yaml::{self, Document, Found, Node, Value},
};
use saphyr_parser::ScanError;
use std::borrow::Cow;

/// Most mistakes of a text that are repaired to read on: each costs another pass.
const MAX_REPAIRS: usize = 20;

/// Reads a file. Where it is not YAML and cannot be repaired, each block that starts at the left
/// margin is read by itself, so that one bad quote does not hide the mistakes below it.
pub(super) fn parse(text: &str) -> Document {
    let whole = match repaired(text, 1) {
        Ok(document) => return document,
        Err(unread) => unread,
    };
    let mut root: Option<Node> = None;
    let mut found = Vec::new();
    let mut broken = false;
    for block in blocks(text) {
        match repaired(block.text, block.line) {
            Ok(document) => {
                found.extend(document.found);
                if let Some(node) = document.root {
                    join(&mut root, node);
                }
            }
            // The anchor may stand in another block.
            Err(unread) if unread.last.info().contains("unknown anchor") && text.contains('&') => {}
            Err(unread) => {
                broken = true;
                found.extend(unread.found);
            }
        }
    }
    if !broken {
        (root, found) = (None, whole.found);
    }
    Document {
        root,
        found,
        complete: false,
        anchored: text.contains('&'),
    }
}

/// A text that could not be read, and why.
struct Unread {
    found: Vec<Found>,
    last: ScanError,
}

/// Reads a text, past mistakes that leave no doubt about what was meant.
fn repaired(text: &str, first_line: u32) -> Result<Document, Unread> {
    let mut text = Cow::Borrowed(text);
    let mut found = Vec::new();
    loop {
        let last = match yaml::parse(&text, first_line) {
            Ok(mut document) => {
                document.found.splice(0..0, found);
                return Ok(document);
            }
            Err(error) => error,
        };
        let explained = explain(&text, first_line, &last);
        found.push(explained.found);
        match explained.repair {
            Some(repair) if found.len() <= MAX_REPAIRS => text = Cow::Owned(apply(&text, &repair)),
            _ => return Err(Unread { found, last }),
        }
    }
}

fn apply(text: &str, repair: &Repair) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .map(|(number, line)| {
            if number == repair.line {
                Cow::Owned(line.replacen(&repair.from, &repair.to, 1))
            } else {
                Cow::Borrowed(line)
            }
        })
        .collect()
}

struct Block<'a> {
    text: &'a str,
    line: u32,
}

/// Splits at lines that start with a key at the left margin.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block { text: "", line: 1 }];
    let (mut start, mut offset) = (0, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let starts = line.starts_with(|c: char| c.is_alphanumeric() || c == '"' || c == '\'' || c == '_');
        if starts || line.starts_with("---") {
            start = offset;
            blocks.push(Block {
                text: "",
                line: number,
            });
        }
        offset += line.len();
        if let Some(block) = blocks.last_mut() {
            block.text = &text[start..offset];
        }
    }
    blocks
}

/// Adds the keys of another block. A key that is there already is left out: it was said to be
/// written twice or will be, once the YAML is right.
fn join(root: &mut Option<Node>, node: Node) {
    match root {
        None => *root = Some(node),
        Some(Node {
            value: Value::Mapping(entries),
            ..
        }) => {
            if let Value::Mapping(more) = node.value {
                for entry in more {
                    if entries.iter().all(|known| known.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        Some(_) => {}
    }
}
