//! Mistakes in a config: every one of them, each with its file, line, key and remedy.

use super::path::{KeyPath, printable};
use std::{collections::HashSet, fmt, path::PathBuf, time::SystemTime};

/// One mistake, or one warning: the two read the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file, as it was named on the command line or found in the directory.
    pub file: PathBuf,
    /// Counted from 1; none where the file could not be read at all.
    pub line: Option<u32>,
    /// Key path such as `listeners[0].forward.cluster`, counted from 0 as in JSON; empty for a mistake in the
    /// YAML itself.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// Every mistake in a config, in the order of files and lines; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    referenced_files: Vec<PathBuf>,
    read_since: SystemTime,
}

impl ConfigErrors {
    pub(super) fn new(
        errors: Vec<ConfigError>,
        referenced_files: Vec<PathBuf>,
        read_since: SystemTime,
    ) -> Self {
        Self {
            errors,
            referenced_files,
            read_since,
        }
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// The files that the config names, as far as it could be read: it may be right once one of them changes.
    pub fn referenced_files(&self) -> &[PathBuf] {
        &self.referenced_files
    }

    /// When reading began.
    pub fn read_since(&self) -> SystemTime {
        self.read_since
    }
}

impl fmt::Display for ConfigErrors {
    /// One mistake a line, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What was wrong with one value; whoever knows where the value stands adds the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Mistake {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Collects mistakes and warnings while a config is read.
#[derive(Default)]
pub(super) struct Report {
    files: Vec<PathBuf>,
    errors: Vec<(usize, ConfigError)>,
    warnings: Vec<(usize, ConfigError)>,
    blamed: HashSet<(usize, String)>,
}

impl Report {
    /// Makes a file known; its mistakes are reported after those of files made known before.
    pub(super) fn add_file(&mut self, file: PathBuf) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn error(&mut self, file: usize, line: Option<u32>, path: &KeyPath, mistake: Mistake) {
        let error = self.entry(file, line, path, mistake);
        self.blamed.insert((file, error.key.clone()));
        self.errors.push((file, error));
    }

    pub(super) fn warning(&mut self, file: usize, line: Option<u32>, path: &KeyPath, mistake: Mistake) {
        let warning = self.entry(file, line, path, mistake);
        self.warnings.push((file, warning));
    }

    /// Whether no mistake was found.
    pub(super) fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether there is a warning at this key, or at one below it.
    pub(super) fn warns_below(&self, file: usize, path: &KeyPath) -> bool {
        let path = path.to_string();
        (self.warnings.iter()).any(|(of, warning)| *of == file && warning.key.starts_with(&path))
    }

    /// Takes a key for wrong without a word: its value was given under another name.
    pub(super) fn blame(&mut self, file: usize, path: &KeyPath) {
        self.blamed.insert((file, path.to_string()));
    }

    /// Whether suggestions are still worth their cost, which grows with the number of names to choose from: after a
    /// thousand mistakes they are not what is wrong.
    pub(super) fn has_patience(&self) -> bool {
        const PATIENCE: usize = 1_000;
        self.errors.len() < PATIENCE
    }

    /// Whether a mistake was found at exactly this key: checks that need its value then stay
    /// silent instead of speaking of a default nobody asked for.
    pub(super) fn blames(&self, file: usize, path: &KeyPath) -> bool {
        !self.blamed.is_empty() && self.blamed.contains(&(file, path.to_string()))
    }

    /// The warnings, or the errors if there is one.
    pub(super) fn finish(mut self) -> Result<(Vec<PathBuf>, Vec<String>), Vec<ConfigError>> {
        if !self.errors.is_empty() {
            return Err(in_order(&mut self.errors));
        }
        let warnings = in_order(&mut self.warnings);
        Ok((self.files, warnings.iter().map(ToString::to_string).collect()))
    }

    fn entry(&self, file: usize, line: Option<u32>, path: &KeyPath, mistake: Mistake) -> ConfigError {
        ConfigError {
            file: self.files[file].clone(),
            line,
            key: path.to_string(),
            problem: printable(&mistake.problem),
            remedy: printable(&mistake.remedy),
        }
    }
}

/// By file and line; mistakes of one line stay in the order they were found. One that an alias
/// repeats is said once.
fn in_order(found: &mut Vec<(usize, ConfigError)>) -> Vec<ConfigError> {
    found.sort_by_key(|(file, error)| (*file, error.line));
    found.dedup();
    found.drain(..).map(|(_, error)| error).collect()
}
