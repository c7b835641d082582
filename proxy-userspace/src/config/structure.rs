//! Holds a tree against the schema: unknown and missing keys, wrong types, numbers out of bounds.

use super::{
    error::{Mistake, Report},
    path::KeyPath,
    schema::{Shape, shapes, typed},
    suggest::{self, Level, nearest, shown},
    yaml::{Entry, Node, Scalar, ScalarKind, Value as Yaml},
};
use serde_json::{Map, Value, json};

/// Reports every structural mistake of a file and returns what is left without them, which
/// always fits the raw types: a wrong value leaves a gap in its mapping, or a null in its list.
pub(super) fn check(schema: &Value, file: usize, root: &Node, report: &mut Report) -> Value {
    let Some(keywords) = schema.as_object() else {
        return json!({});
    };
    let mut checker = Checker {
        schema,
        file,
        report,
        levels: Vec::new(),
    };
    let shape = Shape {
        definition: "Config",
        keywords,
    };
    match &root.value {
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
}

/// What a value should be, and where.
struct Expected<'a> {
    shapes: Vec<Shape<'a>>,
    /// The value with its key or dash, as a user could type it.
    example: String,
    line: u32,
    path: KeyPath,
}

impl<'a> Checker<'a> {
    fn mistake(&mut self, line: u32, path: &KeyPath, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report
            .error(self.file, Some(line), path, Mistake::new(problem, remedy));
    }

    fn mapping(&mut self, entries: &[Entry], line: u32, shape: Shape<'a>, path: &KeyPath) -> Value {
        let name = if path.steps().is_empty() {
            "the top level".to_owned()
        } else {
            path.to_string()
        };
        self.levels.push(Level { name, shape });
        let mut kept = Map::new();
        let mut later = false;
        for entry in entries {
            let at = path.key(&entry.key);
            let Some(property) = shape.property(&entry.key) else {
                later |= suggest::is_later_key(shape.definition, &entry.key);
                let mistake = suggest::unknown_key(self.schema, &self.levels, &entry.key);
                self.report.error(self.file, Some(entry.line), &at, mistake);
                continue;
            };
            let expected = Expected {
                shapes: shapes(self.schema, property),
                example: format!("{}: {}", entry.key, typed(&property["examples"][0])),
                line: entry.shown_line(),
                path: at,
            };
            if let Some(value) = self.value(&entry.node, property, &expected) {
                kept.insert(entry.key.clone(), value);
            }
        }
        for key in shape.required() {
            // A listener with `tls` was meant to have no `forward`.
            if !later && entries.iter().all(|entry| entry.key != key) {
                let example = shape.property(key).map(|schema| typed(&schema["examples"][0]));
                let remedy = format!("add `{key}: {}`", example.unwrap_or_default());
                self.mistake(line, &path.key(key), "missing", remedy);
            }
        }
        self.levels.pop();
        Value::Object(kept)
    }

    fn value(&mut self, node: &Node, schema: &'a Value, expected: &Expected<'a>) -> Option<Value> {
        match &node.value {
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
                self.list(elements, shape, &schema["examples"][0][0], expected)
            }
            Yaml::Scalar(scalar) => match self.scalar(scalar, expected) {
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
        elements: &[Node],
        shape: Shape<'a>,
        example: &Value,
        expected: &Expected<'a>,
    ) -> Option<Value> {
        let minimum = shape.bound("minItems").unwrap_or(0);
        if elements.is_empty() && minimum > 0 {
            self.mistake(
                expected.line,
                &expected.path,
                "the list is empty",
                format!("write `{}`", expected.example),
            );
            return None;
        }
        let schema = shape.keywords.get("items")?;
        let mut kept = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let expected = Expected {
                shapes: shapes(self.schema, schema),
                example: format!("- {}", typed(example)),
                line: element.line,
                path: expected.path.index(index),
            };
            kept.push(self.value(element, schema, &expected).unwrap_or(Value::Null));
        }
        Some(Value::Array(kept))
    }

    fn wrong_type(&mut self, node: &Node, expected: &Expected<'a>) -> Option<Value> {
        let mut remedy = format!("write `{}`", expected.example);
        if let Yaml::List(elements) = &node.value
            && let [
                Node {
                    value: Yaml::Scalar(only),
                    ..
                },
            ] = elements.as_slice()
            && expected.shapes.iter().all(|shape| !shape.is("object"))
        {
            remedy = format!("write {} without brackets or dash", shown(&only.typed));
        }
        let problem = format!(
            "{} stands where {} should",
            described(&node.value),
            wanted(&expected.shapes)
        );
        self.mistake(expected.line, &expected.path, problem, remedy);
        None
    }

    fn scalar(&mut self, scalar: &Scalar, expected: &Expected<'a>) -> Result<Value, Mistake> {
        let shapes = &expected.shapes;
        let remedy = format!("write `{}`", expected.example);
        if scalar.kind == ScalarKind::Null {
            return Err(Mistake::new("no value", remedy));
        }
        if shapes.iter().any(|shape| shape.keywords.contains_key("const")) {
            return choice(scalar, expected);
        }
        if scalar.kind == ScalarKind::Text && shapes.iter().any(|shape| shape.is("string")) {
            return Ok(json!(scalar.typed));
        }
        if let Some(shape) = shapes.iter().find(|shape| shape.is("integer")) {
            return whole_number(scalar, *shape, remedy);
        }
        if shapes.iter().any(|shape| shape.is("boolean")) {
            return truth(scalar, expected);
        }
        let problem = format!(
            "{} stands where {} should",
            scalar_described(scalar),
            wanted(shapes)
        );
        Err(Mistake::new(
            problem,
            remedy_for_scalar(scalar, expected).unwrap_or(remedy),
        ))
    }
}

fn remedy_for_scalar(scalar: &Scalar, expected: &Expected<'_>) -> Option<String> {
    if expected.shapes.iter().any(|shape| shape.is("array")) {
        let key = expected.example.split(':').next().unwrap_or_default();
        return Some(match scalar.typed.trim() {
            // `endpoints: 192.0.2.1:53, 192.0.2.2:53` is one text to YAML.
            typed if !typed.contains(['"', '[', '{', '\n']) => format!("write `{key}: [{typed}]`"),
            _ => format!("write `{}`", expected.example),
        });
    }
    match expected.shapes.first()?.definition {
        "Duration" => Some(format!("add a unit: {0}s, or {0}ms, {0}m, {0}h", scalar.typed)),
        "Name" | "InterfaceName" => Some(format!("quote it: \"{}\"", scalar.typed)),
        _ => None,
    }
}

/// One of a few words.
fn choice(scalar: &Scalar, expected: &Expected<'_>) -> Result<Value, Mistake> {
    let words = || {
        expected
            .shapes
            .iter()
            .filter_map(|shape| shape.keywords.get("const")?.as_str())
    };
    if scalar.kind == ScalarKind::Text && words().any(|word| word == scalar.typed) {
        return Ok(json!(scalar.typed));
    }
    let key = expected.example.split(':').next().unwrap_or_default();
    if scalar.kind == ScalarKind::Bool(false) && words().any(|word| word == "off") {
        return Err(Mistake::new(
            "false is not a word",
            format!("write `{key}: \"off\"`"),
        ));
    }
    let definition = expected.shapes.first().map_or("", |shape| shape.definition);
    let all: Vec<&str> = words().collect();
    let problem = format!("{} is not {}", shown(&scalar.typed), one_of(&all));
    if suggest::is_later_value(definition, &scalar.typed) {
        let problem = format!("{} is not in this version yet", shown(&scalar.typed));
        return Err(Mistake::new(
            problem,
            format!("write `{key}: {}`", all.join(" or ")),
        ));
    }
    match nearest(&scalar.typed, words()).or(all.first().copied().filter(|_| all.len() == 1)) {
        Some(word) => Err(Mistake::new(
            problem,
            format!("write `{key}: {}`", typed(&json!(word))),
        )),
        None => Err(Mistake::new(
            problem,
            format!("write one of these, such as `{}`", expected.example),
        )),
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn whole_number(scalar: &Scalar, shape: Shape<'_>, remedy: String) -> Result<Value, Mistake> {
    let minimum = shape.bound("minimum").unwrap_or(0);
    let maximum = shape.bound("maximum").unwrap_or(i64::MAX);
    match scalar.kind {
        ScalarKind::Integer(Some(number)) if (minimum..=maximum).contains(&number) => Ok(json!(number)),
        ScalarKind::Integer(number) => {
            let negative = scalar.typed.starts_with('-');
            let (word, bound) = if negative || number.is_some_and(|number| number < minimum) {
                ("least", minimum)
            } else {
                ("greatest", maximum)
            };
            let problem = format!("{} is out of bounds", shown(&scalar.typed));
            Err(Mistake::new(
                problem,
                format!("write a whole number from {minimum} to {maximum}: the {word} is {bound}"),
            ))
        }
        _ => {
            let digits: String = scalar
                .typed
                .chars()
                .filter(|c| !matches!(c, '_' | ',' | ' ' | '\''))
                .collect();
            let problem = format!("{} stands where a whole number should", scalar_described(scalar));
            match digits.parse::<i64>() {
                Ok(number) => Err(Mistake::new(
                    problem,
                    format!("write {number}, without quotes or separators"),
                )),
                Err(_) => Err(Mistake::new(problem, remedy)),
            }
        }
    }
}

fn truth(scalar: &Scalar, expected: &Expected<'_>) -> Result<Value, Mistake> {
    if let ScalarKind::Bool(value) = scalar.kind {
        return Ok(json!(value));
    }
    let problem = format!("{} stands where true or false should", scalar_described(scalar));
    let key = expected.example.split(':').next().unwrap_or_default();
    let remedy = match scalar.typed.to_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => format!("write `{key}: true`"),
        "no" | "off" | "n" | "0" | "false" => format!("write `{key}: false`"),
        _ => format!("write `{key}: true` or `{key}: false`"),
    };
    Err(Mistake::new(problem, remedy))
}

fn described(value: &Yaml) -> String {
    match value {
        Yaml::Mapping(_) => "a mapping (key: value)".to_owned(),
        Yaml::List(_) => "a list".to_owned(),
        Yaml::Scalar(scalar) => scalar_described(scalar),
    }
}

fn scalar_described(scalar: &Scalar) -> String {
    let kind = match scalar.kind {
        ScalarKind::Null => return "nothing".to_owned(),
        ScalarKind::Bool(_) | ScalarKind::Integer(_) | ScalarKind::Float => {
            return format!(
                "the {} {}",
                if matches!(scalar.kind, ScalarKind::Bool(_)) {
                    "word"
                } else {
                    "number"
                },
                super::path::clipped(&scalar.typed)
            );
        }
        ScalarKind::Text => "the text",
    };
    format!("{kind} {}", shown(&scalar.typed))
}

/// What a value should be, with its article.
fn wanted(shapes: &[Shape<'_>]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for shape in shapes {
        let word = match shape.definition {
            "Duration" => "a duration",
            "SocketAddress" => "an address with port",
            "Ipv4Text" => "an IPv4 address",
            "Ipv6Text" => "an IPv6 address",
            "Name" => "a name",
            "InterfaceName" => "an interface's name",
            "PortRange" => "a range of ports",
            "AbsolutePath" => "a path",
            _ if shape.is("object") => "a mapping (key: value)",
            _ if shape.is("array") => "a list",
            _ if shape.is("integer") => "a whole number",
            _ if shape.is("boolean") => "true or false",
            _ => "one of a few words",
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}
