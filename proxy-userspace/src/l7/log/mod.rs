//! Access logs: templates, and lines written off the request path.
//!
//! A listener's [`Format`] writes an [`Entry`] into a worker's own buffer ([`Logger`]); full buffers go to the one thread
//! of [`Writers`], which alone touches files. Whatever happens there, a worker never waits: it drops lines and counts them.

mod entry;
mod escape;
mod logger;
mod operator;
mod template;
mod time;
mod writer;

pub use entry::{Entry, Flags};
pub use logger::Logger;
pub use template::Template;
pub use writer::{OpenError, Sink, Writers};

use crate::model::l7::LogFormat;
use escape::Escape;

/// A line's form, compiled. The same for all workers.
#[derive(Debug)]
pub struct Format {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text(Template),
    /// `{"key":` or `,"key":`, escaped, and the value.
    Json(Vec<(Box<str>, Template)>),
}

impl Format {
    /// Compiles a form.
    ///
    /// # Errors
    /// What is wrong with which template.
    pub fn new(format: &LogFormat) -> Result<Self, String> {
        let kind = match format {
            LogFormat::Text(text) => Kind::Text(Template::parse(text.trim_end_matches(['\r', '\n']))?),
            LogFormat::Json(pairs) => {
                let pairs = pairs.iter().enumerate();
                let compiled = pairs.map(|(index, (key, template))| {
                    let template = Template::parse(template).map_err(|error| format!("{key}: {error}"))?;
                    let mut text = Vec::new();
                    text.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
                    Escape::Json.write(key.as_bytes(), &mut text);
                    text.extend_from_slice(b"\":");
                    Ok((String::from_utf8_lossy(&text).into(), template))
                });
                Kind::Json(compiled.collect::<Result<_, String>>()?)
            }
        };
        Ok(Self { kind })
    }

    /// Appends one line, with its newline.
    pub fn write_line(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Text(template) => template.write(entry, out),
            Kind::Json(pairs) => {
                if pairs.is_empty() {
                    out.push(b'{');
                }
                for (key, template) in pairs {
                    out.extend_from_slice(key.as_bytes());
                    template.write_json(entry, out);
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
