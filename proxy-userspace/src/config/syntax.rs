//! From text to a tree; what is not YAML is cut out block by block, so that it hides no other mistake.

use super::{
    explain::explain,
    yaml::{self, Document, Node, Value},
};

/// Reads a file. Where it is not YAML, each block that starts at the left margin is read by
/// itself, so that one bad quote does not hide the mistakes below it.
pub(super) fn parse(text: &str) -> Document {
    let whole = match yaml::parse(text, 1) {
        Ok(document) => return document,
        Err(error) => error,
    };
    let mut root: Option<Node> = None;
    let mut found = Vec::new();
    let mut broken = 0;
    for block in blocks(text) {
        match yaml::parse(block.text, block.line) {
            Ok(document) => {
                found.extend(document.found);
                if let Some(node) = document.root {
                    join(&mut root, node);
                }
            }
            // The anchor may stand in another block.
            Err(error) if error.info().contains("unknown anchor") && text.contains('&') => {}
            Err(error) => {
                broken += 1;
                found.push(explain(block.text, block.line, &error));
            }
        }
    }
    if broken == 0 {
        found = vec![explain(text, 1, &whole)];
        root = None;
    }
    Document {
        root,
        found,
        complete: false,
    }
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
