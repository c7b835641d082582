//! The audit log: a line for every change, granted or refused, and who asked for it.

use super::Origin;
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tracing::{error, info};

/// What is asked for has names in it that the caller typed; more of a change or a reason than this is cut off.
const LONGEST_BYTES: usize = 500;

/// Writes to the log, and to a file if one is configured. The control thread alone writes: a line a change is nothing to wait for.
#[derive(Default)]
pub struct Audit {
    file: Option<AuditFile>,
}

struct AuditFile {
    path: PathBuf,
    open: Mutex<Option<File>>,
    /// Lines that could not be written, and why the last of them could not; none once one could.
    lost: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    who: &'a str,
    from: &'a str,
    what: &'a str,
    outcome: &'a str,
    generation: Option<u64>,
    error: Option<&'a str>,
}

/// Why there is no audit log.
#[derive(thiserror::Error, Debug)]
#[error(
    "{}: {error}; make its directory and let weir write there, or change admin.audit_log",
    path.display()
)]
pub struct AuditError {
    path: PathBuf,
    error: io::Error,
}

impl Audit {
    /// Opens the file, if there is to be one: made with mode 0600, else appended to.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: Option<&Path>) -> Result<Self, AuditError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let open = append_to(path).map_err(|error| AuditError {
            path: path.into(),
            error,
        })?;
        let file = AuditFile {
            path: path.into(),
            open: Mutex::new(Some(open)),
            lost: AtomicU64::new(0),
            trouble: Mutex::default(),
        };
        Ok(Self { file: Some(file) })
    }

    /// After a rotation: opens the file by its name again.
    pub fn reopen(&self) {
        if let Some(file) = &self.file {
            *file.lock() = file.opened();
        }
    }

    /// Changes that are in the log alone, since the file could not be written.
    pub fn lost(&self) -> u64 {
        self.file
            .as_ref()
            .map_or(0, |file| file.lost.load(Ordering::Relaxed))
    }

    /// Why the file can't be written, as of the last change.
    pub fn trouble(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        let trouble = file.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost();
        trouble.as_ref().map(|trouble| {
            format!("{trouble}; {lost} of its lines are in weir's own log alone; make room: the next change is written again")
        })
    }

    /// One change. `outcome` is the generation that is wanted then, if there is one, or what was refused.
    pub fn write(&self, origin: &Origin, what: &str, outcome: Result<Option<u64>, &str>) {
        let (who, from) = (origin.caller.to_string(), origin.place());
        // As values, so that the formatter quotes them: names in paths are the caller's.
        let (who, from) = (who.as_str(), from.as_str());
        let what = &what[..what.floor_char_boundary(LONGEST_BYTES)];
        let generation = outcome.ok().flatten();
        let error = outcome
            .err()
            .map(|error| &error[..error.floor_char_boundary(LONGEST_BYTES)]);
        let outcome = if error.is_none() { "granted" } else { "refused" };
        match error {
            None => info!(who, from, what, outcome, generation, "audit"),
            Some(error) => info!(who, from, what, outcome, error, "audit"),
        }
        if let Some(file) = &self.file {
            file.append(&Line {
                time: now(),
                who,
                from,
                what,
                outcome,
                generation,
                error,
            });
        }
    }
}

impl AuditFile {
    fn append(&self, line: &Line<'_>) {
        let mut open = self.lock();
        let written = match open.take() {
            Some(file) => Ok(file),
            None => append_to(&self.path),
        };
        let written = written.and_then(|mut file| write(&mut file, line).map(|()| file));
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(file) => {
                *open = Some(file);
                trouble.take();
            }
            Err(error) => {
                let text = format!("audit log {}: {error}", self.path.display());
                error!("{text}");
                trouble.replace(text);
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn opened(&self) -> Option<File> {
        append_to(&self.path)
            .map_err(|error| error!("audit log {}: {error}", self.path.display()))
            .ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of the line or nothing of it.
fn write(file: &mut File, line: &Line<'_>) -> io::Result<()> {
    let text = serde_json::to_string(line)? + "\n";
    let before = file.metadata()?.len();
    file.write_all(text.as_bytes()).inspect_err(|_| {
        let _nothing_was_written = file.set_len(before);
    })
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// RFC 3339, UTC, to the millisecond.
fn now() -> String {
    jiff::Timestamp::try_from(SystemTime::now()).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}
