//! Files that a config names: certificates, keys, CAs, secrets, lists of prefixes.

use super::{
    Checks, Place,
    guard::{self, Listed},
};
use crate::{
    config::{error::Mistake, limits, raw, suggest::shown},
    model::l7::PemBytes,
};
use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was read, each file once.
#[derive(Default)]
pub(super) struct Files {
    read: HashMap<PathBuf, Result<Arc<[u8]>, Mistake>>,
    named: BTreeSet<PathBuf>,
    /// Lists of prefixes, each parsed once however many services name it.
    listed: HashMap<PathBuf, Listed>,
}

impl Files {
    /// Every file that was named, also those that could not be read: once they can, the config may be right.
    pub(super) fn named(self) -> Vec<PathBuf> {
        self.named.into_iter().collect()
    }
}

impl Checks<'_> {
    /// The contents of a file, relative to the directory of the config file; or its mistake reported.
    pub(super) fn file(&mut self, place: &Place<'_>, typed: &raw::FilePath) -> Option<PemBytes> {
        let path = self.path_of(place, typed);
        let typed = typed.0.as_str();
        self.files.named.insert(path.clone());
        let known = self.files.read.get(&path).cloned();
        let contents = known.unwrap_or_else(|| {
            let contents = read(&path, typed);
            self.files.read.insert(path.clone(), contents.clone());
            contents
        });
        let bytes = self.parsed(place, contents)?;
        Some(PemBytes {
            path: Some(path.into()),
            bytes,
        })
    }
}

impl Checks<'_> {
    /// The prefixes that a file lists; none if it can't be read, which is reported.
    pub(super) fn prefixes(&mut self, place: &Place<'_>, typed: &raw::FilePath) -> Option<Listed> {
        let path = self.path_of(place, typed);
        if let Some(listed) = self.files.listed.get(&path) {
            return Some(listed.clone());
        }
        let listed = guard::listed(&self.file(place, typed)?.bytes);
        self.files.listed.insert(path, listed.clone());
        Some(listed)
    }

    fn path_of(&self, place: &Place<'_>, typed: &raw::FilePath) -> PathBuf {
        let config = &self.report.files()[place.document.file];
        config.parent().unwrap_or(Path::new("")).join(&typed.0)
    }
}

fn read(path: &Path, typed: &str) -> Result<Arc<[u8]>, Mistake> {
    let unreadable = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => format!("check the path: it was looked for at {}", path.display()),
            io::ErrorKind::PermissionDenied => "check who may read it, as root or by its mode".to_owned(),
            _ => "check the file and its disk".to_owned(),
        };
        Mistake::new(format!("{} can't be read: {error}", shown(typed)), remedy)
    };
    // A pipe or device would be waited for, or never end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        let problem = format!("{} is not a regular file", shown(typed));
        return Err(Mistake::new(problem, "name a file"));
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path)
        .map_err(unreadable)?
        .take(limits::MAX_REFERENCED_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limits::MAX_REFERENCED_BYTES {
        let problem = format!(
            "{} is larger than {} MiB",
            shown(typed),
            limits::MAX_REFERENCED_BYTES >> 20
        );
        return Err(Mistake::new(problem, "name a smaller file"));
    }
    if bytes.is_empty() {
        let remedy = "write it anew; a file that is being written looks like this";
        return Err(Mistake::new(format!("{} is empty", shown(typed)), remedy));
    }
    Ok(bytes.into())
}
