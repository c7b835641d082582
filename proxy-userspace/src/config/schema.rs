//! The JSON Schema of a config, generated from the raw types.

use super::raw;
use serde_json::{Map, Value};
use std::mem;

/// The schema that `weir schema` prints and every file is held against: JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::Config).to_value();
    tidy(&mut schema);
    schema
}

/// Keywords in the order a reader wants them; others follow.
const KEYWORD_ORDER: [&str; 6] = ["$schema", "title", "description", "$ref", "type", "default"];

/// Makes a generated schema say what a file may hold.
///
/// Raw values are optional so that mistakes can take them away, which schemars shows as "or
/// null"; in a file a key without a value is a mistake. Descriptions lose the line breaks of the
/// source.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    if let Some(types) = object.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(alternatives) = object.get_mut("anyOf").and_then(Value::as_array_mut) {
        alternatives.retain(|alternative| alternative["type"] != "null");
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
    for keyword in ["properties", "$defs"] {
        let schemas = object.get_mut(keyword).and_then(Value::as_object_mut);
        schemas.into_iter().flat_map(Map::values_mut).for_each(tidy);
    }
    for keyword in ["anyOf", "oneOf"] {
        object
            .get_mut(keyword)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(tidy);
    }
    if let Some(items) = object.get_mut("items") {
        tidy(items);
    }
    let mut entries: Vec<(String, Value)> = mem::take(object).into_iter().collect();
    entries.sort_by_key(|(key, _)| {
        KEYWORD_ORDER
            .iter()
            .position(|name| name == key)
            .unwrap_or(KEYWORD_ORDER.len())
    });
    object.extend(entries);
}

/// One of the shapes a value may have: a definition without `$ref`, `anyOf` or `oneOf` at its top.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    /// Name of the definition, such as `Duration`; empty for shapes without one.
    pub(super) definition: &'a str,
    pub(super) keywords: &'a Map<String, Value>,
}

impl<'a> Shape<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.keywords.get("type").is_some_and(|found| found == name)
    }

    pub(super) fn properties(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let properties = self.keywords.get("properties").and_then(Value::as_object);
        properties
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn property(&self, key: &str) -> Option<&'a Value> {
        self.known(key).map(|(_, value)| value)
    }

    /// A key that is among the properties, and its schema.
    pub(super) fn known(&self, key: &str) -> Option<(&'a str, &'a Value)> {
        let properties = self.keywords.get("properties")?.as_object()?;
        properties
            .get_key_value(key)
            .map(|(key, value)| (key.as_str(), value))
    }

    /// What the values of a mapping are whose keys are the user's.
    pub(super) fn any_name(&self) -> Option<&'a Value> {
        self.keywords
            .get("additionalProperties")
            .filter(|schema| schema.is_object())
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let names = self.keywords.get("required").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn bound(&self, keyword: &str) -> Option<i64> {
        self.keywords.get(keyword).and_then(Value::as_i64)
    }
}

/// Every shape that a schema allows.
pub(super) fn shapes<'a>(root: &'a Value, schema: &'a Value) -> Vec<Shape<'a>> {
    let mut shapes = Vec::new();
    collect(root, schema, "", 0, &mut shapes);
    shapes
}

fn collect<'a>(
    root: &'a Value,
    schema: &'a Value,
    definition: &'a str,
    depth: u8,
    into: &mut Vec<Shape<'a>>,
) {
    // References of the generated schema don't go in circles; the bound makes sure.
    if depth > 8 {
        return;
    }
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix("#/$defs/"))
    {
        return collect(root, &root["$defs"][name], name, depth + 1, into);
    }
    let alternatives = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    if let Some(alternatives) = alternatives {
        for alternative in alternatives {
            collect(root, alternative, definition, depth + 1, into);
        }
    } else if let Some(keywords) = schema.as_object() {
        into.push(Shape { definition, keywords });
    }
}

/// A value from the schema's examples as it would be typed, on one line.
pub(super) fn typed(example: &Value) -> String {
    match example {
        Value::String(text) => quoted_if_needed(text),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(typed).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", typed(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// Quotes for what YAML would take for something else than text, or readers of YAML 1.1 would.
fn quoted_if_needed(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':');
    let other = matches!(
        text,
        "off" | "on" | "yes" | "no" | "true" | "false" | "null" | "~" | ""
    );
    let numeric = text.parse::<f64>().is_ok();
    if !other && !numeric && text.chars().all(plain) && !text.contains("::") {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    }
}
