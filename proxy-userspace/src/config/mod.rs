//! The config: what a user typed, checked until every mistake is known, then the model.

mod address;
mod again;
mod duration;
mod error;
mod explain;
mod limits;
mod listen;
mod name;
mod path;
mod prime;
mod raw;
mod scalar;
mod schema;
mod source;
mod structure;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

pub use error::{ConfigError, ConfigErrors};
pub use schema::schema;

use crate::model::{Clusters, DaemonSettings, Service, l7::Listener};
use again::{Known, LeftOut};
use error::{Mistake, Report};
use path::KeyPath;
use std::{
    cell::OnceCell,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use validate::Document;

/// Reads a duration from the command line as from a config: `2s`, `500ms`.
pub(crate) fn duration(typed: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    duration::parse(typed, bounds).map_err(|mistake| format!("{}; {}", mistake.problem, mistake.remedy))
}

/// A config without mistakes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// L4 services, in the order of files and lines.
    pub services: Vec<Service>,
    /// L7 listeners, in the order of files and lines.
    pub listeners: Vec<Listener>,
    /// By name; every endpoint's health is still unknown.
    pub clusters: Clusters,
    /// What the daemon reads once at start.
    pub settings: DaemonSettings,
    /// The files it came from, in the order they were read.
    pub files: Vec<PathBuf>,
    /// Files it names: certificates, keys, CAs, secrets. A change of one is a change of the config.
    pub referenced_files: Vec<PathBuf>,
    /// When reading began: what changed later may not be in here.
    pub read_since: SystemTime,
    /// What is legal and yet likely not meant; each with file, line, key and remedy.
    pub warnings: Vec<String>,
}

/// Reads a config: one file, or every `*.yaml` and `*.yml` of a directory in the order of their
/// names, as if their lists were one.
///
/// # Errors
/// Every mistake in it, each with file, line, key and remedy.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let reading = read(path, &schema::schema(), None);
    reading.outcome.map(|(loaded, _)| loaded)
}

/// A reader that knows what it read last: the same, faster where most routes are as they were.
#[derive(Default)]
pub struct Reader {
    schema: OnceCell<serde_json::Value>,
    known: Known,
}

impl Reader {
    /// Reads a config. Only one without mistakes is remembered.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&mut self, path: &Path) -> Result<Loaded, ConfigErrors> {
        let schema = self.schema.get_or_init(schema::schema);
        let reading = Some(read(path, schema, Some(&self.known))).filter(|reading| reading.is_sure);
        let reading = reading.unwrap_or_else(|| read(path, schema, None));
        let (loaded, known) = reading.outcome?;
        self.known = known;
        Ok(loaded)
    }
}

/// What came of reading a config.
struct Reading {
    outcome: Result<(Loaded, Known), ConfigErrors>,
    /// Whether it would be the same if nothing had been known.
    is_sure: bool,
}

fn read(path: &Path, schema: &serde_json::Value, known: Option<&Known>) -> Reading {
    let read_since = SystemTime::now();
    let mut report = Report::default();
    let texts = source::read(path, &mut report);
    read_texts(texts, report, schema, known, read_since)
}

/// Reads files' texts, each with its number in the report.
fn read_texts(
    texts: Vec<(usize, Option<String>)>,
    mut report: Report,
    schema: &serde_json::Value,
    known: Option<&Known>,
    read_since: SystemTime,
) -> Reading {
    let alone = texts.len() == 1;
    let read_one = |(file, text): &(usize, Option<String>)| {
        let Some(text) = text else {
            return Document::unread(*file);
        };
        let short = known.and_then(|known| known.shorten(&report.files()[*file], text));
        let short_text = short.as_ref().map_or(text, |short| &short.text);
        let document = document(*file, short_text, alone, schema, &mut report);
        Document {
            left_out: short.map(|short| short.left_out).unwrap_or_default(),
            ..document
        }
    };
    let documents: Vec<Document> = texts.iter().map(read_one).collect();
    finish(&documents, texts, report, read_since)
}

/// The model, if nothing was wrong.
fn finish(
    documents: &[Document],
    texts: Vec<(usize, Option<String>)>,
    mut report: Report,
    read_since: SystemTime,
) -> Reading {
    let model = validate::validate(documents, &mut report);
    let known = if report.is_sound() {
        Known::of(texts, documents, &model.listeners, &report)
    } else {
        Known::default()
    };
    let fits = |document: &Document| {
        document.left_out.is_nothing()
            || (report.is_sound() && document.left_out.fits(&document.root, &report, document.file))
    };
    let is_sure = documents.iter().all(fits);
    let outcome = match report.finish() {
        Err(errors) => Err(ConfigErrors::new(errors, model.referenced_files, read_since)),
        Ok((files, warnings)) => Ok((
            Loaded {
                services: model.services,
                listeners: model.listeners,
                clusters: model.clusters,
                settings: model.settings,
                files,
                referenced_files: model.referenced_files,
                read_since,
                warnings,
            },
            known,
        )),
    };
    Reading { outcome, is_sure }
}

/// Reads one file as far as its mistakes allow.
fn document(
    file: usize,
    text: &str,
    alone: bool,
    schema: &serde_json::Value,
    report: &mut Report,
) -> Document {
    let yaml::Document {
        root,
        found,
        complete,
        anchored,
    } = syntax::parse(text);
    for (line, path, mistake) in found {
        report.error(file, Some(line), &path, mistake);
    }
    let Some(mut root) = root else {
        if !complete {
            return Document::unread(file);
        }
        // A file that was cut to nothing while it was written must not pass for an empty config;
        // in a directory one with comments alone is somebody's way to switch it off.
        if alone || text.trim().is_empty() {
            let remedy = "write one, or `listeners: []` if nothing is to be forwarded";
            report.error(
                file,
                Some(1),
                &KeyPath::ROOT,
                Mistake::new("the file holds no config", remedy),
            );
        }
        return Document {
            complete: true,
            ..Document::unread(file)
        };
    };
    let value = structure::check(schema, file, &mut root, report);
    let raw = serde_json::from_value(value).unwrap_or_else(|error| {
        // Unreachable while the schema is generated from the raw types; said rather than sworn.
        let mistake = Mistake::new(
            format!("could not be read: {error}"),
            "report this as a bug of Weir",
        );
        report.error(file, Some(root.line), &KeyPath::ROOT, mistake);
        raw::Config::default()
    });
    Document {
        file,
        root,
        raw,
        complete,
        anchored,
        left_out: LeftOut::default(),
    }
}
