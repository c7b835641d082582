//! The config: what a user typed, checked until every mistake is known, then the model.

mod address;
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
use error::{Mistake, Report};
use path::KeyPath;
use std::{
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
    let read_since = SystemTime::now();
    let mut report = Report::default();
    let schema = schema::schema();
    let mut documents = Vec::new();
    let texts = source::read(path, &mut report);
    let alone = texts.len() == 1;
    for (file, text) in texts {
        documents.push(match text {
            Some(text) => document(file, &text, alone, &schema, &mut report),
            None => Document::unread(file),
        });
    }
    finish(&documents, report, read_since)
}

/// The model, if nothing was wrong.
fn finish(
    documents: &[Document],
    mut report: Report,
    read_since: SystemTime,
) -> Result<Loaded, ConfigErrors> {
    let model = validate::validate(documents, &mut report);
    let (files, warnings) = match report.finish() {
        Ok(sound) => sound,
        Err(errors) => return Err(ConfigErrors::new(errors, model.referenced_files, read_since)),
    };
    Ok(Loaded {
        services: model.services,
        listeners: model.listeners,
        clusters: model.clusters,
        settings: model.settings,
        files,
        referenced_files: model.referenced_files,
        read_since,
        warnings,
    })
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
    }
}
