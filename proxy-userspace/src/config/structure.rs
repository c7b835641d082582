//! Holds a tree against the schema: unknown and missing keys, wrong types, numbers out of bounds.

mod value;

use super::{
    error::{Mistake, Report},
    path::{KeyPath, clipped},
    scalar::{Scalar, ScalarKind},
    schema::{Shape, shapes, typed},
    suggest::{self, Level, Meant, shown},
    yaml::{Entry, Node, Value as Yaml},
};
use serde_json::{Map, Value, json};
use std::{collections::HashMap, ptr, rc::Rc};
use value::{Expected, Lead, described, wanted};

/// Reports every structural mistake of a file and returns what is left without them, which
/// always fits the raw types: a wrong value leaves a gap in its mapping, or a null in its list.
pub(super) fn check(schema: &Value, file: usize, root: &mut Node, report: &mut Report) -> Value {
    let Some(keywords) = schema.as_object() else {
        return json!({});
    };
    let mut checker = Checker {
        schema,
        file,
        report,
        levels: Vec::new(),
        known_shapes: HashMap::new(),
    };
    let shape = Shape {
        definition: "Config",
        keywords,
    };
    match &mut root.value {
        Yaml::Mapping(entries) => checker.mapping(entries, root.line, shape, &KeyPath::ROOT),
        other => {
            let problem = format!("{} stands where keys should", described(other));
            checker.mistake(
                root.line,
                &KeyPath::ROOT,
                problem,
                "start with `listeners:` at the left margin",
            );
            json!({})
        }
    }
}

struct Checker<'a> {
    schema: &'a Value,
    file: usize,
    report: &'a mut Report,
    levels: Vec<Level<'a>>,
    /// By the schema's address, since most values of a config have one of a few.
    known_shapes: HashMap<*const Value, Rc<[Shape<'a>]>>,
}

impl<'a> Checker<'a> {
    fn shapes(&mut self, schema: &'a Value) -> Rc<[Shape<'a>]> {
        let root = self.schema;
        let known = self.known_shapes.entry(ptr::from_ref(schema));
        Rc::clone(known.or_insert_with(|| shapes(root, schema).into()))
    }

    fn mistake(&mut self, line: u32, path: &KeyPath, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report
            .error(self.file, Some(line), path, Mistake::new(problem, remedy));
    }

    fn mapping(&mut self, entries: &mut [Entry], line: u32, shape: Shape<'a>, path: &KeyPath) -> Value {
        self.levels.push(Level {
            path: path.clone(),
            shape,
        });
        let mut kept = Map::with_capacity(entries.len());
        let mut meant = Vec::new();
        let mut previous = None;
        for index in 0..entries.len() {
            if shape.any_name().is_none() && shape.property(&entries[index].key).is_none() {
                self.unknown_key(entries, index, path, previous, &mut meant);
            }
            let entry = &mut entries[index];
            if let Some(schema) = shape.any_name() {
                let expected = Expected {
                    shapes: self.shapes(schema),
                    lead: Lead::Key(&entry.key),
                    example: None,
                    line: entry.shown_line(),
                    path: path.key(&entry.key),
                };
                if let Some(value) = self.value(&mut entry.node, schema, &expected) {
                    kept.insert(entry.key.clone(), value);
                }
                continue;
            }
            let Some((key, property)) = shape.known(&entry.key) else {
                continue;
            };
            previous = Some(key);
            let expected = Expected {
                shapes: self.shapes(property),
                lead: Lead::Key(key),
                example: Some(&property["examples"][0]),
                line: entry.shown_line(),
                path: path.key(key),
            };
            if let Some(value) = self.value(&mut entry.node, property, &expected) {
                kept.insert(key.to_owned(), value);
            }
        }
        let is_there = |key: &str| entries.iter().any(|entry| entry.key == key);
        for key in shape
            .required()
            .filter(|key| !is_there(key) && !meant.contains(key))
        {
            let example = shape.property(key).map(|schema| typed(&schema["examples"][0]));
            let remedy = format!("add `{key}: {}`", example.unwrap_or_default());
            self.mistake(line, &path.key(key), "missing", remedy);
        }
        self.levels.pop();
        Value::Object(kept)
    }

    /// Reports it. Where it is but a wrong name, the right one is put in its place, so that its
    /// value is checked too.
    fn unknown_key(
        &mut self,
        entries: &mut [Entry],
        index: usize,
        path: &KeyPath,
        previous: Option<&str>,
        meant: &mut Vec<&'a str>,
    ) {
        let entry = &entries[index];
        let is_there = |key: &str| entries.iter().any(|entry| entry.key == key);
        let (mistake, key) = if self.report.has_patience() {
            suggest::unknown_key(self.schema, &self.levels, &entry.key, previous)
        } else {
            (Mistake::new("unknown key", "remove it"), Meant::None)
        };
        self.report
            .error(self.file, Some(entry.line), &path.key(&entry.key), mistake);
        match key {
            Meant::Renamed(key) if !is_there(key) && !meant.contains(&key) => {
                entries[index].key = key.to_owned();
                meant.push(key);
            }
            Meant::Renamed(key) | Meant::Reshaped(key) if !is_there(key) || meant.contains(&key) => {
                self.report.blame(self.file, &path.key(key));
                meant.push(key);
            }
            _ => {}
        }
    }

    fn value(&mut self, node: &mut Node, schema: &'a Value, expected: &Expected<'a, '_>) -> Option<Value> {
        match &mut node.value {
            Yaml::Mapping(entries) => {
                let shape = expected.shapes.iter().find(|shape| shape.is("object")).copied();
                let Some(shape) = shape else {
                    return self.wrong_type(node, expected);
                };
                Some(self.mapping(entries, expected.line, shape, &expected.path))
            }
            Yaml::List(elements) => {
                let shape = expected.shapes.iter().find(|shape| shape.is("array")).copied();
                let Some(shape) = shape else {
                    return self.wrong_type(node, expected);
                };
                // Where one value or a list may stand, the example is one value.
                let example = &schema["examples"][0];
                let element = if example.is_array() { &example[0] } else { example };
                self.list(elements, shape, element, expected)
            }
            Yaml::Scalar(Scalar {
                kind: ScalarKind::Unusable,
                ..
            }) => None,
            Yaml::Scalar(scalar) => match value::scalar(scalar, expected) {
                Ok(value) => Some(value),
                Err(mistake) => {
                    self.report
                        .error(self.file, Some(expected.line), &expected.path, mistake);
                    None
                }
            },
        }
    }

    fn list(
        &mut self,
        elements: &mut [Node],
        shape: Shape<'a>,
        example: &'a Value,
        expected: &Expected<'a, '_>,
    ) -> Option<Value> {
        let minimum = shape.bound("minItems").unwrap_or(0);
        if elements.is_empty() && minimum > 0 {
            self.mistake(
                expected.line,
                &expected.path,
                "the list is empty",
                expected.write_example(),
            );
            return None;
        }
        let schema = shape.keywords.get("items")?;
        let mut kept = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter_mut().enumerate() {
            let expected = Expected {
                shapes: self.shapes(schema),
                lead: Lead::Dash,
                example: Some(example),
                line: element.line,
                path: expected.path.index(index),
            };
            kept.push(self.value(element, schema, &expected).unwrap_or(Value::Null));
        }
        Some(Value::Array(kept))
    }

    fn wrong_type(&mut self, node: &Node, expected: &Expected<'a, '_>) -> Option<Value> {
        let remedy = match &node.value {
            Yaml::List(elements) => {
                without_brackets(elements, &expected.shapes).or_else(|| self.plural(expected))
            }
            Yaml::Mapping(entries) => self.missing_dash(entries, &expected.shapes),
            Yaml::Scalar(_) => None,
        };
        let problem = format!(
            "{} stands where {} should",
            described(&node.value),
            wanted(&expected.shapes)
        );
        self.mistake(
            expected.line,
            &expected.path,
            problem,
            remedy.unwrap_or_else(|| expected.write_example()),
        );
        None
    }

    /// For a list in the place of a value that has a key for several beside it: `hosts` for `host`.
    fn plural(&self, expected: &Expected<'a, '_>) -> Option<String> {
        let Lead::Key(key) = expected.lead else {
            return None;
        };
        let key = format!("{key}s");
        self.levels.last()?.shape.property(&key)?;
        Some(format!("write `{key}` for several"))
    }

    /// For a mapping in the place of a list of mappings.
    fn missing_dash(&self, entries: &[Entry], wanted: &[Shape<'a>]) -> Option<String> {
        let elements = wanted.iter().find_map(|shape| shape.keywords.get("items"))?;
        let element = shapes(self.schema, elements)
            .into_iter()
            .find(|shape| shape.is("object"))?;
        let first = &entries.first()?.key;
        if element.property(first).is_some() {
            return Some(format!(
                "start each element with a dash: `- {}: …`",
                clipped(first)
            ));
        }
        element.property("name")?;
        Some(format!(
            "start each element with a dash and its name: `- name: {}`",
            clipped(first)
        ))
    }
}

/// For a list of one in the place of a single value.
fn without_brackets(elements: &[Node], wanted: &[Shape<'_>]) -> Option<String> {
    let [
        Node {
            value: Yaml::Scalar(only),
            ..
        },
    ] = elements
    else {
        return None;
    };
    let single = wanted.iter().all(|shape| !shape.is("object"));
    single.then(|| format!("write {} without brackets or dash", shown(&only.typed)))
}
