//! Templates: text with Envoy's command operators, read once and written for every request.

use super::{
    Entry, Escape,
    operator::{Field, GrpcForm, Named, OTHERS, Operator, SIMPLE, Value},
    time::TimeFormat,
};
use std::str::FromStr;

/// Text with operators such as `%REQ(USER-AGENT)%`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(Box<str>),
    Operator {
        operator: Operator,
        /// Most bytes of its value.
        limit: Option<usize>,
    },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// An operator that isn't known, with the nearest one that is, or one without its end or with wrong arguments.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while let Some((before, operator)) = rest.split_once('%') {
            push_text(before, &mut parts);
            if let Some(after) = operator.strip_prefix('%') {
                push_text("%", &mut parts);
                rest = after;
                continue;
            }
            let (written, after) = Written::take(operator)?;
            match written.understand()? {
                Understood::Text(text) => push_text(&text, &mut parts),
                Understood::Operator(operator) => parts.push(Part::Operator {
                    operator,
                    limit: written.limit,
                }),
            }
            rest = after;
        }
        push_text(rest, &mut parts);
        Ok(Self { parts: parts.into() })
    }

    /// Appends the line of an entry, without a newline. What clients sent is escaped: it can't end a line or a quotation.
    pub fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.write_parts(entry, Escape::None, Escape::Text, out);
    }

    /// Appends a JSON value: of one operator alone its number or null, else a string.
    pub(super) fn write_json(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        if let [Part::Operator { operator, limit }] = &*self.parts {
            match operator.value(entry) {
                Value::Missing => return out.extend_from_slice(b"null"),
                number @ Value::Number(_) => return number.write(entry, *limit, Escape::Json, out),
                _ => {}
            }
        }
        out.push(b'"');
        self.write_parts(entry, Escape::Json, Escape::Json, out);
        out.push(b'"');
    }

    fn write_parts(&self, entry: &Entry<'_>, texts: Escape, values: Escape, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => texts.write(text.as_bytes(), out),
                Part::Operator { operator, limit } => match operator.value(entry) {
                    Value::Missing => out.push(b'-'),
                    value => value.write(entry, *limit, values, out),
                },
            }
        }
    }
}

/// Neighbouring texts become one.
fn push_text(text: &str, parts: &mut Vec<Part>) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => *last = format!("{last}{text}").into(),
        _ => parts.push(Part::Text(text.into())),
    }
}

/// An operator as it was typed: `NAME(ARGUMENTS):LIMIT`.
struct Written<'a> {
    name: &'a str,
    arguments: Option<&'a str>,
    limit: Option<usize>,
}

enum Understood {
    Text(String),
    Operator(Operator),
}

impl<'a> Written<'a> {
    /// Takes one off the begin of a text, behind its first `%`; returns what stands behind its last.
    fn take(text: &'a str) -> Result<(Self, &'a str), String> {
        let end = text.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
        let unfinished = || format!("%{name} has no % at its end; write a single percent sign as %%");
        let mut arguments = None;
        if let Some(inside) = rest.strip_prefix('(') {
            let (inside, after) = inside
                .split_once(')')
                .ok_or_else(|| format!("%{name}( has no )"))?;
            arguments = Some(inside);
            rest = after;
        }
        let mut limit = None;
        if let Some(number) = rest.strip_prefix(':') {
            let (number, after) = number.split_once('%').ok_or_else(unfinished)?;
            let parsed = number.parse();
            limit = Some(parsed.map_err(|_| format!("%{name}:{number}%: {number:?} is no number of bytes"))?);
            rest = after;
        } else {
            rest = rest.strip_prefix('%').ok_or_else(unfinished)?;
        }
        Ok((
            Self {
                name,
                arguments,
                limit,
            },
            rest,
        ))
    }

    fn understand(&self) -> Result<Understood, String> {
        let name = self.name;
        let operator = match name {
            "START_TIME" => {
                let format = TimeFormat::parse(self.arguments.unwrap_or_default());
                Operator::StartTime(format.map_err(|error| format!("%START_TIME%: {error}"))?)
            }
            "REQ" => Operator::Request(self.named()?),
            "RESP" => Operator::Response(self.named()?),
            "TRAILER" => Operator::Trailer(self.named()?),
            "GRPC_STATUS" => Operator::GrpcStatus(match self.arguments {
                None | Some("CAMEL_STRING") => GrpcForm::Camel,
                Some("SNAKE_STRING") => GrpcForm::Snake,
                Some("NUMBER") => GrpcForm::Number,
                Some(other) => {
                    return Err(format!(
                        "%GRPC_STATUS({other})%: use CAMEL_STRING, SNAKE_STRING or NUMBER"
                    ));
                }
            }),
            _ => {
                if let (Some(arguments), true) = (self.arguments, is_known(name)) {
                    return Err(format!("%{name}({arguments})%: it takes nothing in brackets"));
                }
                if name == "HOSTNAME" {
                    let hostname = rustix::system::uname();
                    return Ok(Understood::Text(hostname.nodename().to_string_lossy().into()));
                }
                let simple = SIMPLE.iter().find(|(known, _)| *known == name);
                match (name, simple) {
                    ("GRPC_STATUS_NUMBER", _) => Operator::GrpcStatus(GrpcForm::Number),
                    (_, Some((_, simple))) => Operator::Simple(*simple),
                    _ => return Err(unknown(name)),
                }
            }
        };
        Ok(Understood::Operator(operator))
    }

    /// `NAME` or `NAME?OTHER`.
    fn named(&self) -> Result<Named, String> {
        let operator = self.name;
        let arguments = self.arguments.unwrap_or_default();
        let (name, or) = match arguments.split_once('?') {
            Some((name, or)) => (name, Some(or)),
            None => (arguments, None),
        };
        let field = |name: &str| -> Result<Field, String> {
            match (operator, name.to_ascii_lowercase().as_str()) {
                ("REQ", ":method") => Ok(Field::Method),
                ("REQ", ":path") => Ok(Field::Path),
                ("REQ", ":authority" | "host") => Ok(Field::Authority),
                ("REQ", ":scheme") => Ok(Field::Scheme),
                ("RESP", ":status") => Ok(Field::Status),
                (_, name) => http::HeaderName::from_str(name).map(Field::Header).map_err(|_| {
                    format!("%{operator}({arguments})%: {name:?} is no header's name; write %{operator}(USER-AGENT)%")
                }),
            }
        };
        Ok(Named {
            name: field(name)?,
            or: or.map(field).transpose()?,
        })
    }
}

fn is_known(name: &str) -> bool {
    known().any(|known| known == name)
}

fn known() -> impl Iterator<Item = &'static str> {
    SIMPLE.iter().map(|(name, _)| *name).chain(OTHERS.iter().copied())
}

fn unknown(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let near = known().map(|known| (strsim::damerau_levenshtein(known, &upper), known));
    match near.min() {
        _ if name.is_empty() => "a % that begins no operator; write a single percent sign as %%".into(),
        Some((distance, near)) if distance <= near.len() / 2 => {
            format!("%{name}% is not known; did you mean %{near}%?")
        }
        _ => {
            let all: Vec<&str> = known().collect();
            format!("%{name}% is not known; use one of {}", all.join(" "))
        }
    }
}
