//! YAML to a tree that remembers lines; what YAML allows and a config must not have is a mistake.

mod tree;

pub(super) use tree::{Entry, Node, Value};

use super::{
    error::Mistake,
    path::{KeyPath, clipped},
    scalar::{Scalar, ScalarKind, resolve},
};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use std::{borrow::Cow, collections::HashMap};

/// Deepest nesting; a config needs 6.
const MAX_DEPTH: usize = 32;

/// Most nodes that anchors and aliases may copy: without a bound ten lines can ask for a billion.
const MAX_COPIES: usize = 100_000;

/// A mistake at a line and path of one file.
pub(super) type Found = (u32, KeyPath, Mistake);

/// A YAML file's first document.
pub(super) struct Document {
    /// None where there is nothing but comments.
    pub(super) root: Option<Node>,
    pub(super) found: Vec<Found>,
    /// Whether there was only one.
    pub(super) complete: bool,
    /// Whether it has an anchor.
    pub(super) anchored: bool,
}

/// Reads YAML.
///
/// # Errors
/// The first thing that is not YAML.
pub(super) fn parse(text: &str, first_line: u32) -> Result<Document, ScanError> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        offset: first_line - 1,
        last_line: last_line(text, first_line),
        anchors: HashMap::new(),
        copies: 0,
        anchored: false,
        found: Vec::new(),
    };
    let mut root = None;
    let mut complete = true;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => {
                return Ok(Document {
                    root,
                    found: builder.found,
                    complete,
                    anchored: builder.anchored,
                });
            }
            Event::DocumentStart(_) => {
                let line = builder.line(span);
                let node = builder.node(&KeyPath::ROOT, 0)?;
                if root.is_none() {
                    root = Some(node);
                } else {
                    complete = false;
                    let remedy = "put it in a file of its own, in a directory that Weir is started with";
                    builder.mistake(
                        line,
                        &KeyPath::ROOT,
                        "a second YAML document (---) in one file",
                        remedy,
                    );
                }
            }
            _ => {}
        }
    }
}

/// Up to so many keys of a mapping are looked through for one that stands twice; of more there is an index.
const FEW_KEYS: usize = 16;

fn first_line(entries: &[Entry], index: &HashMap<String, u32>, key: &str) -> Option<u32> {
    if entries.len() <= FEW_KEYS {
        let mut entries = entries.iter();
        return entries.find(|entry| entry.key == key).map(|entry| entry.line);
    }
    index.get(key).copied()
}

fn last_line(text: &str, first_line: u32) -> u32 {
    let lines = u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX);
    lines.saturating_add(first_line - 1)
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    offset: u32,
    /// The parser counts one more than there is where something ends with the text.
    last_line: u32,
    anchors: HashMap<usize, Node>,
    copies: usize,
    anchored: bool,
    found: Vec<Found>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ScanError> {
        // The parser ends with StreamEnd, after which nobody asks.
        self.parser
            .next_event()
            .unwrap_or(Ok((Event::StreamEnd, Span::default())))
    }

    fn line(&self, span: Span) -> u32 {
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        line.saturating_add(self.offset).min(self.last_line)
    }

    fn mistake(&mut self, line: u32, path: &KeyPath, problem: impl Into<String>, remedy: impl Into<String>) {
        self.found
            .push((line, path.clone(), Mistake::new(problem, remedy)));
    }

    fn node(&mut self, path: &KeyPath, depth: usize) -> Result<Node, ScanError> {
        let (event, span) = self.next()?;
        self.node_from(event, span, path, depth)
    }

    fn node_from(
        &mut self,
        event: Event<'a>,
        span: Span,
        path: &KeyPath,
        depth: usize,
    ) -> Result<Node, ScanError> {
        if depth > MAX_DEPTH {
            return Err(ScanError::new_str(span.start, "nested too deeply"));
        }
        let line = self.line(span);
        let (anchor, value) = match event {
            Event::Alias(id) => return Ok(self.alias(id, line, path)),
            Event::Scalar(text, style, anchor, tag) => (
                anchor,
                Value::Scalar(self.scalar(text, style, tag.as_deref(), line, path)),
            ),
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq", line, path);
                (anchor, Value::List(self.list(path, depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map", line, path);
                (anchor, self.mapping(path, depth)?)
            }
            _ => return Err(ScanError::new_str(span.start, "unexpected end of the document")),
        };
        let node = Node { line, value };
        self.anchored |= anchor != 0;
        if anchor != 0 && self.may_copy(&node) {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, path: &KeyPath, depth: usize) -> Result<Vec<Node>, ScanError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(elements),
                (event, span) => {
                    elements.push(self.node_from(event, span, &path.index(elements.len()), depth + 1)?);
                }
            }
        }
    }

    fn mapping(&mut self, path: &KeyPath, depth: usize) -> Result<Value, ScanError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut unusable = false;
        let mut seen: HashMap<String, u32> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                let nothing_else = unusable && entries.is_empty();
                return Ok(if nothing_else {
                    Value::unusable()
                } else {
                    Value::Mapping(entries)
                });
            }
            let key_node = self.node_from(event, span, path, depth + 1)?;
            let line = key_node.line;
            let Value::Scalar(Scalar { typed: key, .. }) = key_node.value else {
                let value = self.node(path, depth + 1)?;
                self.not_a_key(&key_node, &value, path);
                unusable = true;
                continue;
            };
            let at = path.key(&key);
            let node = self.node(&at, depth + 1)?;
            if key == "<<" {
                let remedy =
                    "write the keys out, or reuse a whole value by an alias, such as `health_check: *name`";
                self.mistake(line, &at, "merge keys are not part of YAML 1.2", remedy);
            } else if let Some(first) = first_line(&entries, &seen, &key) {
                let problem = format!("this key stands here twice, first on line {first}");
                self.mistake(line, &at, problem, "keep one of the two");
            } else {
                if entries.len() == FEW_KEYS {
                    seen = entries
                        .iter()
                        .map(|entry| (entry.key.clone(), entry.line))
                        .collect();
                }
                if entries.len() >= FEW_KEYS {
                    seen.insert(key.clone(), line);
                }
                entries.push(Entry { key, line, node });
            }
        }
    }

    /// Most of these are IPv6 addresses inside a list in brackets: `[[2001:db8::1]:53]`.
    fn not_a_key(&mut self, key: &Node, value: &Node, path: &KeyPath) {
        if let (Value::List(parts), Value::Scalar(port)) = (&key.value, &value.value)
            && let [
                Node {
                    value: Value::Scalar(ip),
                    ..
                },
            ] = parts.as_slice()
            && ip.typed.parse::<std::net::Ipv6Addr>().is_ok()
        {
            let address = format!("[{}]:{}", ip.typed, clipped(&port.typed));
            let problem = format!("{address} without quotes: YAML takes the [ for the start of a list");
            return self.mistake(
                key.line,
                path,
                problem,
                format!("write \"{address}\", with the quotes"),
            );
        }
        let remedy = "write `key: value`, and quote a value that starts with [ or {";
        self.mistake(key.line, path, "a list or mapping in the place of a key", remedy);
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        line: u32,
        path: &KeyPath,
    ) -> Scalar {
        let as_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        if !as_text {
            self.refuse_tag(tag, "str", line, path);
        }
        let kind = if as_text || style != ScalarStyle::Plain {
            ScalarKind::Text
        } else {
            resolve(&text)
        };
        Scalar {
            typed: text.into_owned(),
            kind,
        }
    }

    /// Tags could only say what a config's shape says anyway.
    fn refuse_tag(&mut self, tag: Option<&Tag>, expected: &str, line: u32, path: &KeyPath) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            let name = if tag.is_yaml_core_schema() {
                format!("!!{}", tag.suffix)
            } else {
                tag.to_string()
            };
            self.mistake(
                line,
                path,
                format!("the YAML tag {} is not supported", clipped(&name)),
                "remove it; quote what should be text",
            );
        }
    }

    fn alias(&mut self, id: usize, line: u32, path: &KeyPath) -> Node {
        let node = self.anchors.get(&id).cloned();
        if let Some(node) = node
            && self.may_copy(&node)
        {
            return node;
        }
        if self.copies <= MAX_COPIES {
            let remedy = "use an anchor after the value it stands for has ended";
            self.mistake(line, path, "an alias inside the value it stands for", remedy);
        }
        Node {
            line,
            value: Value::unusable(),
        }
    }

    fn may_copy(&mut self, node: &Node) -> bool {
        let already = self.copies;
        self.copies = self.copies.saturating_add(node.count());
        if already <= MAX_COPIES && self.copies > MAX_COPIES {
            let problem = format!("aliases would copy more than {MAX_COPIES} values");
            self.mistake(node.line, &KeyPath::ROOT, problem, "write the values out");
        }
        self.copies <= MAX_COPIES
    }
}
