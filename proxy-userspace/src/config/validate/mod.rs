//! From what was typed to the model: values, and what they must agree on with each other.

mod action;
mod admin;
mod clusters;
mod cross;
mod files;
mod guard;
mod http;
mod listeners;
mod log;
mod matching;
mod overlap;
mod pem;
mod ports;
mod quic;
mod routes;
mod self_signed;
mod services;
mod settings;
mod tcp;
mod text;
mod tls;
mod tracing;
mod upstream;

use super::{
    again::LeftOut,
    duration,
    error::{Mistake, Report},
    path::KeyPath,
    raw,
    yaml::Node,
};
use crate::model::{Clusters, DaemonSettings, Service, l7::Listener};
use files::Files;
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// One file after its structure was checked.
pub(super) struct Document {
    /// Its number in the report.
    pub(super) file: usize,
    pub(super) root: Node,
    pub(super) raw: raw::Config,
    /// Whether all of it could be read.
    pub(super) complete: bool,
    /// Whether it has an anchor.
    pub(super) anchored: bool,
    /// What isn't in `root` and `raw`, being as it was the last time.
    pub(super) left_out: LeftOut,
}

impl Document {
    /// A file of which nothing could be read.
    pub(super) fn unread(file: usize) -> Self {
        Self {
            file,
            root: Node::empty(),
            raw: raw::Config::default(),
            complete: false,
            anchored: false,
            left_out: LeftOut::default(),
        }
    }
}

/// The model; worth something only if the report has no error.
pub(super) struct Model {
    pub(super) services: Vec<Service>,
    pub(super) listeners: Vec<Listener>,
    pub(super) clusters: Clusters,
    pub(super) settings: DaemonSettings,
    pub(super) referenced_files: Vec<PathBuf>,
}

/// Checks every value that is there, however many others are wrong.
pub(super) fn validate(documents: &[Document], report: &mut Report) -> Model {
    let complete = documents
        .iter()
        .all(|document| document.complete && all_named(document, report));
    let paths = report.files().iter().map(|path| path.as_path().into()).collect();
    let mut checks = Checks {
        report,
        complete,
        paths,
        files: Files::default(),
        traces: documents.iter().any(|document| document.raw.tracing.is_some()),
    };
    let settings = settings::read(documents, &mut checks);
    let clusters = clusters::read(documents, &mut checks);
    let listeners = listeners::read(documents, &mut checks);
    cross::check(documents, &settings, &clusters, &listeners, &mut checks);
    Model {
        services: (listeners.services.into_iter())
            .filter_map(|service| service.service())
            .collect(),
        listeners: (listeners.l7.into_iter())
            .filter_map(|listener| listener.model)
            .collect(),
        clusters: (clusters.into_iter())
            .filter_map(|cluster| cluster.model())
            .map(|cluster| (cluster.name.clone(), Arc::new(cluster)))
            .collect(),
        settings,
        referenced_files: checks.files.named(),
    }
}

/// Whether every cluster of a file could be read with its name.
fn all_named(document: &Document, report: &Report) -> bool {
    let list = document.raw.clusters.as_deref().unwrap_or_default();
    let named =
        |cluster: &Option<raw::Cluster>| cluster.as_ref().is_some_and(|cluster| cluster.name.is_some());
    !report.blames(document.file, &KeyPath::ROOT.key("clusters")) && list.iter().all(named)
}

/// A value's place: what a message about it needs.
#[derive(Clone)]
struct Place<'a> {
    document: &'a Document,
    path: KeyPath,
}

impl<'a> Place<'a> {
    fn root(document: &'a Document) -> Self {
        Self {
            document,
            path: KeyPath::ROOT,
        }
    }

    fn key(&self, key: &str) -> Self {
        Self {
            document: self.document,
            path: self.path.key(key),
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            document: self.document,
            path: self.path.index(index),
        }
    }

    fn line(&self) -> u32 {
        let line = self.document.root.line_at(&self.path);
        self.document.left_out.whole_line(line)
    }
}

/// A list's elements that could be read, with their places.
fn elements<'a, T>(
    list: Option<&'a raw::List<T>>,
    place: Place<'a>,
) -> impl Iterator<Item = (Place<'a>, &'a T)> {
    let numbered = list.into_iter().flatten().enumerate();
    numbered.filter_map(move |(index, element)| Some((place.index(index), element.as_ref()?)))
}

/// Where mistakes and warnings go.
struct Checks<'a> {
    report: &'a mut Report,
    /// Whether every file could be read: only then is something that is nowhere missing.
    complete: bool,
    /// The config's files by their numbers.
    paths: Vec<Arc<Path>>,
    files: Files,
    /// Whether requests are traced, as far as is typed.
    traces: bool,
}

impl Checks<'_> {
    fn error(&mut self, place: &Place<'_>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report.error(
            place.document.file,
            Some(place.line()),
            &place.path,
            Mistake::new(problem, remedy),
        );
    }

    fn warning(&mut self, place: &Place<'_>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report.warning(
            place.document.file,
            Some(place.line()),
            &place.path,
            Mistake::new(problem, remedy),
        );
    }

    /// The value of a text, or its mistake reported.
    fn parsed<T>(&mut self, place: &Place<'_>, parsed: Result<T, Mistake>) -> Option<T> {
        parsed
            .map_err(|mistake| self.error(place, mistake.problem, mistake.remedy))
            .ok()
    }

    /// A duration within bounds, or the default where nothing was typed.
    fn duration(
        &mut self,
        place: &Place<'_>,
        typed: Option<&raw::Duration>,
        bounds: &RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let parsed = typed.and_then(|typed| self.parsed(place, duration::parse(&typed.0, bounds)));
        parsed.unwrap_or(default)
    }

    /// Whether something was wrong with one of these keys.
    fn blames_any(&self, place: &Place<'_>, keys: &[&str]) -> bool {
        let file = place.document.file;
        keys.iter()
            .any(|key| self.report.blames(file, &place.path.key(key)))
    }

    /// Reports that more than one of these keys was typed.
    fn at_most_one(&mut self, place: &Place<'_>, keys: &[(&str, bool)]) {
        let mut typed = keys.iter().filter(|(_, typed)| *typed);
        let Some((first, _)) = typed.next() else { return };
        for (key, _) in typed {
            let here = place.key(key);
            let pointer = self.pointer(&here, &place.key(first));
            let problem = format!("`{key}` beside `{first}` {pointer}");
            self.error(&here, problem, "keep one of the two");
        }
    }

    /// The same, and that none of them was.
    fn exactly_one(&mut self, place: &Place<'_>, keys: &[(&str, bool)], remedy: &str) {
        self.at_most_one(place, keys);
        let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        if keys.iter().any(|(_, typed)| *typed) || self.blames_any(place, &names) {
            return;
        }
        let (last, most) = names.split_last().unwrap_or((&"", &[]));
        let problem = format!("one of {} and {last} is missing", most.join(", "));
        self.error(place, problem, remedy);
    }

    /// The value, or the default where nothing was typed; none where what was typed is wrong.
    fn or_default<T>(&self, place: &Place<'_>, value: Option<T>, default: T) -> Option<T> {
        value.or_else(|| (!self.report.blames(place.document.file, &place.path)).then_some(default))
    }

    /// How to point from one place to another: by its line, and its file if that is another.
    fn pointer(&self, from: &Place<'_>, to: &Place<'_>) -> String {
        if from.document.file == to.document.file {
            format!("on line {}", to.line())
        } else {
            format!(
                "at {}:{}",
                self.report.files()[to.document.file].display(),
                to.line()
            )
        }
    }
}
