//! One value against what should stand in its place.

use crate::config::{
    duration,
    error::Mistake,
    path::{KeyPath, clipped},
    scalar::{Scalar, ScalarKind},
    schema::{Shape, typed},
    suggest::{self, nearest, shown},
    yaml::Value as Yaml,
};
use serde_json::{Value, json};
use std::{fmt, rc::Rc};

/// What a value should be, and where.
pub(super) struct Expected<'a, 'k> {
    pub(super) shapes: Rc<[Shape<'a>]>,
    /// What stands before the value.
    pub(super) lead: Lead<'k>,
    /// The value as the schema has it; none for any text.
    pub(super) example: Option<&'a Value>,
    pub(super) line: u32,
    pub(super) path: KeyPath,
}

/// What stands before a value.
#[derive(Clone, Copy)]
pub(super) enum Lead<'k> {
    /// A key, known or the user's.
    Key(&'k str),
    /// The dash of a list's element.
    Dash,
}

impl fmt::Display for Lead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{}: ", clipped(key)),
            Self::Dash => f.write_str("- "),
        }
    }
}

impl Expected<'_, '_> {
    /// How to write the value rightly.
    pub(super) fn write(&self, value: &str) -> String {
        format!("write `{}{value}`", self.lead)
    }

    pub(super) fn write_example(&self) -> String {
        self.write(&self.example())
    }

    /// The value as a user could type it.
    fn example(&self) -> String {
        self.example.map_or_else(|| "text".to_owned(), typed)
    }
}

/// The scalar's value as JSON, if that is what should stand here.
pub(super) fn scalar(scalar: &Scalar, expected: &Expected<'_, '_>) -> Result<Value, Mistake> {
    let shapes = &*expected.shapes;
    if scalar.kind == ScalarKind::Null {
        return Err(Mistake::new("no value", expected.write_example()));
    }
    let integer = shapes.iter().find(|shape| shape.is("integer"));
    if let (Some(shape), ScalarKind::Integer(_)) = (integer, scalar.kind) {
        return whole_number(scalar, *shape, expected);
    }
    if let Some(shape) = shapes.iter().find(|shape| shape.is("number")) {
        return number(scalar, *shape, expected);
    }
    if shapes.iter().any(|shape| shape.keywords.contains_key("const")) {
        return choice(scalar, expected);
    }
    if scalar.kind == ScalarKind::Text && shapes.iter().any(|shape| shape.is("string")) {
        return Ok(json!(scalar.typed));
    }
    if let Some(shape) = integer {
        return whole_number(scalar, *shape, expected);
    }
    if shapes.iter().any(|shape| shape.is("boolean")) {
        return truth(scalar, expected);
    }
    if shapes.iter().any(|shape| shape.definition == "Duration") {
        return Err(duration::not_a_duration(&scalar.typed));
    }
    let problem = format!(
        "{} stands where {} should",
        scalar_described(scalar),
        wanted(shapes)
    );
    Err(Mistake::new(problem, remedy_for_scalar(scalar, expected)))
}

fn remedy_for_scalar(scalar: &Scalar, expected: &Expected<'_, '_>) -> String {
    let typed = scalar.typed.trim();
    let port = matches!(scalar.kind, ScalarKind::Integer(Some(1..=65_535)));
    if port
        && expected
            .shapes
            .iter()
            .any(|shape| shape.definition == "ListenAddress")
    {
        return expected.write(&format!("0.0.0.0:{typed}"));
    }
    // `endpoints: 192.0.2.1:53, 192.0.2.2:53` is one text to YAML. A list of mappings is another matter.
    if !expected.example().starts_with("[{")
        && expected.shapes.iter().any(|shape| shape.is("array"))
        && !typed.contains(['"', '[', ']', '{', '}', '\n'])
    {
        return expected.write(&format!("[{}]", clipped(typed)));
    }
    match expected.shapes.first().map(|shape| shape.definition) {
        Some(
            "Name" | "InterfaceName" | "Text" | "HostPattern" | "RegexText" | "FilePath" | "ServerIdText",
        ) => expected.write(&format!("\"{}\"", clipped(typed))),
        _ => expected.write_example(),
    }
}

/// One of a few words.
fn choice(scalar: &Scalar, expected: &Expected<'_, '_>) -> Result<Value, Mistake> {
    let words: Vec<&str> = expected
        .shapes
        .iter()
        .filter_map(|shape| shape.keywords.get("const")?.as_str())
        .collect();
    // `min_version: 1.2` is a number to YAML, and leaves no doubt.
    if matches!(scalar.kind, ScalarKind::Text | ScalarKind::Float) && words.contains(&scalar.typed.as_str()) {
        return Ok(json!(scalar.typed));
    }
    let definition = expected.shapes.first().map_or("", |shape| shape.definition);
    if suggest::is_later_value(definition, &scalar.typed) {
        let problem = format!("{} is not in this version yet", shown(&scalar.typed));
        return Err(Mistake::new(problem, expected.write(&words.join(" or "))));
    }
    // Tools for YAML 1.1 write `off` as false.
    let off = matches!(
        scalar.typed.to_lowercase().as_str(),
        "false" | "no" | "none" | "never" | "disabled"
    );
    let meant = words
        .iter()
        .copied()
        .find(|word| off && *word == "off")
        .or_else(|| suggest::other_value(definition, &scalar.typed))
        .or_else(|| match words.as_slice() {
            [only] => Some(*only),
            _ => nearest(&scalar.typed, words.iter().copied()),
        });
    let problem = format!("{} is not {}", shown(&scalar.typed), one_of(&words));
    let remedy = match meant {
        Some(word) => expected.write(&typed(&json!(word))),
        None => format!(
            "write one of these, such as `{}{}`",
            expected.lead,
            expected.example()
        ),
    };
    Err(Mistake::new(problem, remedy))
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn whole_number(scalar: &Scalar, shape: Shape<'_>, expected: &Expected<'_, '_>) -> Result<Value, Mistake> {
    let minimum = shape.bound("minimum").unwrap_or(0);
    let maximum = shape.bound("maximum").unwrap_or(i64::MAX);
    let bounds = format!("write a whole number from {minimum} to {maximum}");
    if let ScalarKind::Integer(number) = scalar.kind {
        let small = number.map_or(scalar.typed.starts_with('-'), |number| number < minimum);
        let size = if small { "small" } else { "great" };
        return match number {
            Some(number) if (minimum..=maximum).contains(&number) => Ok(json!(number)),
            _ => Err(Mistake::new(
                format!("{} is too {size}", clipped(&scalar.typed)),
                bounds,
            )),
        };
    }
    let digits = scalar.typed.replace(['_', ',', ' ', '\'', '%'], "");
    // `1e6` and `1.0` are whole, though YAML calls them floats.
    let float = digits
        .parse::<f64>()
        .ok()
        .filter(|float| float.fract() == 0.0 && float.abs() < 1e15);
    let meant = digits.parse::<i64>().ok().or(float.map(|float| float as i64));
    let meant = meant.filter(|number| (minimum..=maximum).contains(number));
    let remedy = meant.map_or(bounds, |number| expected.write(&number.to_string()));
    Err(Mistake::new(
        format!("{} stands where a whole number should", scalar_described(scalar)),
        remedy,
    ))
}

/// A number that need not be whole.
fn number(scalar: &Scalar, shape: Shape<'_>, expected: &Expected<'_, '_>) -> Result<Value, Mistake> {
    let bound = |name| shape.keywords.get(name).and_then(Value::as_f64);
    let (least, most) = (
        bound("minimum").unwrap_or(0.0),
        bound("maximum").unwrap_or(f64::MAX),
    );
    let within = |number: &f64| (least..=most).contains(number);
    let parsed = scalar.typed.parse::<f64>().ok();
    if matches!(scalar.kind, ScalarKind::Integer(_) | ScalarKind::Float) {
        return match parsed.filter(within) {
            Some(number) => Ok(json!(number)),
            None => Err(Mistake::new(
                format!("{} is not from {least} to {most}", clipped(&scalar.typed)),
                format!(
                    "write a number from {least} to {most}, such as `{}{}`",
                    expected.lead,
                    expected.example()
                ),
            )),
        };
    }
    // `1%`, and numbers in quotes.
    let percent = scalar
        .typed
        .trim()
        .strip_suffix('%')
        .and_then(|typed| typed.trim().parse::<f64>().ok());
    let meant = percent.map(|percent| percent / 100.0).or(parsed).filter(within);
    let remedy = meant.map_or_else(
        || expected.write_example(),
        |number| expected.write(&number.to_string()),
    );
    Err(Mistake::new(
        format!("{} stands where a number should", scalar_described(scalar)),
        remedy,
    ))
}

fn truth(scalar: &Scalar, expected: &Expected<'_, '_>) -> Result<Value, Mistake> {
    if let ScalarKind::Bool(value) = scalar.kind {
        return Ok(json!(value));
    }
    let remedy = match scalar.typed.to_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => expected.write("true"),
        "no" | "off" | "n" | "0" | "false" => expected.write("false"),
        _ => format!("{} or `{}false`", expected.write("true"), expected.lead),
    };
    Err(Mistake::new(
        format!("{} stands where true or false should", scalar_described(scalar)),
        remedy,
    ))
}

pub(super) fn described(value: &Yaml) -> String {
    match value {
        Yaml::Mapping(_) => "a mapping (key: value)".to_owned(),
        Yaml::List(_) => "a list".to_owned(),
        Yaml::Scalar(scalar) => scalar_described(scalar),
    }
}

fn scalar_described(scalar: &Scalar) -> String {
    match scalar.kind {
        ScalarKind::Null | ScalarKind::Unusable => "nothing".to_owned(),
        ScalarKind::Bool(_) => format!("the word {}", clipped(&scalar.typed)),
        ScalarKind::Integer(_) | ScalarKind::Float => format!("the number {}", clipped(&scalar.typed)),
        ScalarKind::Text => format!("the text {}", shown(&scalar.typed)),
    }
}

/// What a value should be, with its article.
pub(super) fn wanted(shapes: &[Shape<'_>]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for shape in shapes {
        let word = match shape.definition {
            "Duration" => "a duration",
            "ListenAddress" | "EndpointAddress" => "an address with port",
            "Ipv4Text" => "an IPv4 address",
            "Ipv6Text" => "an IPv6 address",
            "Name" => "a name",
            "InterfaceName" => "an interface's name",
            "PortRange" => "a range of ports",
            "AbsolutePath" | "FilePath" | "PathText" => "a path",
            "HostPattern" => "a host",
            "HeaderNameText" => "a header's name",
            "RegexText" => "a regular expression",
            _ if shape.is("object") => "a mapping (key: value)",
            _ if shape.is("array") => "a list",
            _ if shape.is("integer") => "a whole number",
            _ if shape.is("number") => "a number",
            _ if shape.is("boolean") => "true or false",
            _ if shape.keywords.contains_key("const") => "one of a few words",
            _ if shape.is("string") => "a text",
            _ => "one of a few words",
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}
