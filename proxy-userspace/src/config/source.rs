//! The files of a config: which, in which order, and their text.

use super::{
    error::{Mistake, Report},
    limits,
    path::KeyPath,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Reads a file, or the files of a directory in the order of their names; each with its number
/// in the report. What can't be read is reported.
pub(super) fn read(path: &Path, report: &mut Report) -> Vec<(usize, Option<String>)> {
    let files = if path.is_dir() {
        directory(path, report)
    } else {
        vec![path.to_owned()]
    };
    let mut texts = Vec::new();
    for path in files {
        let text = text(&path);
        let file = report.add_file(path);
        let text = text.map_err(|(line, mistake)| report.error(file, line, &KeyPath::ROOT, mistake));
        texts.push((file, text.ok()));
    }
    texts
}

fn directory(path: &Path, report: &mut Report) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut files: Vec<PathBuf> = match &entries {
        Ok(entries) => entries
            .iter()
            .map(fs::DirEntry::path)
            .filter(|path| is_config(path))
            .collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    let mistake = match entries {
        Err(error) => cannot_be_read(&error),
        Ok(_) if files.is_empty() => Mistake::new(
            "the directory holds no *.yaml or *.yml file",
            "put the config there, or name its file",
        ),
        Ok(_) => return files,
    };
    let file = report.add_file(path.to_owned());
    report.error(file, None, &KeyPath::ROOT, mistake);
    files
}

/// Editors' and version control's files start with a dot. A Kubernetes ConfigMap's files are links into such a
/// directory, and are followed.
fn is_config(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml");
    !hidden && extension && !path.is_dir()
}

fn text(path: &Path) -> Result<String, (Option<u32>, Mistake)> {
    let metadata = fs::metadata(path).map_err(|error| (None, cannot_be_read(&error)))?;
    // A pipe or device would be waited for, or never end.
    if !metadata.is_file() {
        return Err((
            None,
            Mistake::new("not a regular file", "name a file or a directory"),
        ));
    }
    if metadata.len() > limits::MAX_FILE_BYTES {
        let problem = format!("larger than {} MiB", limits::MAX_FILE_BYTES >> 20);
        return Err((
            None,
            Mistake::new(problem, "split it into files of one directory"),
        ));
    }
    let bytes = fs::read(path).map_err(|error| (None, cannot_be_read(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let mistake = Mistake::new("a byte that is not UTF-8", "save the file as UTF-8");
        (Some(u32::try_from(line).unwrap_or(u32::MAX)), mistake)
    })
}

fn cannot_be_read(error: &io::Error) -> Mistake {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check who may read it, as root or by its mode",
        _ => "check the file and its disk",
    };
    Mistake::new(format!("can't be read: {error}"), remedy)
}
