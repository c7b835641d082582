//! An HTTP response as a client got it, and the request as the scripted backend saw it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `HTTP/1.1`, `HTTP/2`, …
    pub version: String,
    /// Its status code.
    pub status: u16,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Unframed.
    pub body: Vec<u8>,
    /// After a chunked body.
    pub trailers: Vec<(String, String)>,
    /// The 1xx before it: their status and headers.
    pub informational: Vec<(u16, Vec<(String, String)>)>,
}

/// A request, as [`super::Backend`]'s echo tells it.
#[derive(Debug)]
pub struct Seen(pub Value);

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        (self.headers.iter())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The first value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        first(&self.trailers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the backend saw.
    ///
    /// # Errors
    /// The answer is no echo; the message shows it.
    pub fn seen(&self) -> Result<Seen> {
        ensure!(
            self.status == 200,
            "the backend's echo was expected, not {} {}",
            self.status,
            self.text()
        );
        let value = serde_json::from_slice(&self.body)
            .with_context(|| format!("an echo was expected, not {}", self.text()))?;
        Ok(Seen(value))
    }

    /// Fails unless the status is this one; the message shows the answer.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "{status} was expected, not {} {:?} {}",
            self.status,
            self.headers,
            self.text()
        );
        Ok(self)
    }
}

impl Seen {
    /// A field that is a text: `method`, `target`, `version`, `body`, `server`, …
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.pairs("headers", name)
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The first value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.pairs("trailers", name).first().copied()
    }

    fn pairs(&self, list: &str, name: &str) -> Vec<&str> {
        let pairs = self.0[list].as_array().into_iter().flatten();
        pairs
            .filter(|pair| pair[0].as_str().is_some_and(|key| key.eq_ignore_ascii_case(name)))
            .filter_map(|pair| pair[1].as_str())
            .collect()
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    (pairs.iter())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Reads a head: the status line and the header lines, without the empty line.
pub(super) fn parse_head(text: &str) -> Result<Answer> {
    let mut lines = text.lines();
    let status_line = lines.next().unwrap_or_default();
    let mut words = status_line.split_whitespace();
    let version = words.next().unwrap_or_default().to_owned();
    let Some(status) = words.next().and_then(|word| word.parse().ok()) else {
        bail!("a status line was expected, not `{status_line}`");
    };
    Ok(Answer {
        version,
        status,
        headers: parse_fields(lines)?,
        ..Answer::default()
    })
}

/// Reads header lines or trailer lines.
pub(super) fn parse_fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>> {
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("a header was expected, not `{line}`"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect()
}
