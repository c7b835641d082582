//! Notices that the config's files changed, or files that it names, however they were changed.
//!
//! Editors write in place or rename over, Kubernetes swaps a symlink beside the file, tools write
//! in several steps. So events only wake: what counts is the files' stamp (which file it is, its
//! size, its times), once it has stopped changing.

use super::{Handle, Trigger};
use crate::admin::Caller;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Notify, time};
use tracing::{debug, warn};

/// How long files must have stood still to be read.
const QUIET: Duration = Duration::from_millis(100);

/// Files that never stand still are read all the same, after this many looks.
const MOST_LOOKS: u32 = 10;

/// Events can be lost: network filesystems have none, and a directory that is replaced takes its
/// watch with it. A look at a few files costs next to nothing.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// The files that the last config named: certificates, keys, CAs, secrets. Control writes it, the watch reads it.
#[derive(Clone)]
pub struct ReferencedFiles(Arc<Mutex<Referenced>>);

struct Referenced {
    files: BTreeSet<PathBuf>,
    /// When reading them began.
    since: SystemTime,
}

impl ReferencedFiles {
    /// Those of the first config.
    pub(super) fn new(files: &[PathBuf], since: SystemTime) -> Self {
        let files = files.iter().cloned().collect();
        Self(Arc::new(Mutex::new(Referenced { files, since })))
    }

    /// Those of another config, also one that was refused: it may be right once they are.
    pub(super) fn set(&self, files: &[PathBuf], since: SystemTime) {
        let files = files.iter().cloned().collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Referenced { files, since };
    }
}

/// Watches a config file, or a directory of them, and the files that it names.
pub struct ConfigWatch {
    path: PathBuf,
    referenced: Option<ReferencedFiles>,
    stamp: Stamp,
    woken: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

impl ConfigWatch {
    /// Takes the stamp that later ones are compared with: call it before the config is read.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            referenced: None,
            stamp: Stamp::take(&files(path)),
            woken: Arc::new(Notify::new()),
            watcher: None,
            directories: BTreeSet::new(),
        }
    }

    /// Watches these too, whatever they are at the time.
    pub fn follow(&mut self, referenced: ReferencedFiles) {
        self.referenced = Some(referenced);
    }

    /// Asks for a reload after each change, until control is gone.
    pub async fn report_to(mut self, control: Handle) {
        self.begin();
        loop {
            self.changed().await;
            match control.reload(Trigger::Files, Caller::Files.into()).await {
                Err(refusal) if refusal.kind == super::RefusalKind::Stopping => return,
                // Control has logged what came of it.
                _ => {}
            }
        }
    }

    /// Begins to watch, and takes a first look at what was missed.
    fn begin(&mut self) {
        self.watcher = watcher(Arc::clone(&self.woken))
            .inspect_err(|error| {
                warn!("config files are looked at every {LOOK_ANYWAY:?}, not watched: {error}");
            })
            .ok();
        let files = self.files();
        self.follow_directories(&files);
        self.woken.notify_one();
    }

    /// Every file that counts now. What is new among those that the config names is known from now on, as it was
    /// read; what is no longer named is forgotten.
    fn files(&mut self) -> BTreeSet<PathBuf> {
        let mut all = files(&self.path);
        let Some(referenced) = &self.referenced else {
            return all;
        };
        let referenced = referenced.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |file: &PathBuf| all.contains(file) || referenced.files.contains(file);
        self.stamp.0.retain(|file, _| named(file));
        for file in &referenced.files {
            let known = &mut self.stamp.0;
            known
                .entry(file.clone())
                .or_insert_with(|| stamp_as_read(file, referenced.since));
        }
        all.extend(referenced.files.iter().cloned());
        all
    }

    async fn changed(&mut self) {
        loop {
            let _timeout = time::timeout(LOOK_ANYWAY, self.woken.notified()).await;
            let files = self.files();
            self.follow_directories(&files);
            let mut seen = Stamp::take(&files);
            if seen == self.stamp {
                // Something else in the directory; don't let it keep us busy.
                time::sleep(QUIET).await;
                continue;
            }
            for _ in 0..MOST_LOOKS {
                time::sleep(QUIET).await;
                let now = Stamp::take(&files);
                if now == seen {
                    break;
                }
                seen = now;
            }
            // Written and put back within the time: nothing to read.
            if seen != self.stamp {
                debug!("config files changed");
                self.stamp = seen;
                return;
            }
        }
    }

    /// Watches the directories that hold the files now: a link may point elsewhere than before.
    fn follow_directories(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = directories(&self.path, files);
        for gone in self.directories.difference(&wanted) {
            // It may have been deleted, and its watch with it.
            let _not_watched = watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // Again for those known already: the directory may have been replaced by another.
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(directory);
                }
                Err(error) => debug!("{}: not watched: {error}", directory.display()),
            }
        }
        self.directories = watched;
    }
}

fn watcher(woken: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an access too; the end of writing is the only one that matters.
        let idle =
            |kind| matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(_)));
        if !event.is_ok_and(|event| idle(event.kind)) {
            woken.notify_one();
        }
    })
}

/// The directories in which a change can change the config: that of the path as it was given, that
/// of the file it leads to, and the same for all other files.
fn directories(path: &Path, files: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    if path.is_dir() {
        found.insert(path.to_path_buf());
    }
    for file in files {
        let real = file.canonicalize().ok();
        for name in [Some(file), real.as_ref()].into_iter().flatten() {
            let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
            found.insert(parent.unwrap_or(Path::new(".")).to_path_buf());
        }
    }
    found
}

/// The path itself, and the YAML files in it if it is a directory; in order.
fn files(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::from([path.to_path_buf()]);
    if let Ok(entries) = fs::read_dir(path) {
        let names = entries.filter_map(io::Result::ok).map(|entry| entry.path());
        found.extend(names.filter(|name| {
            name.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        }));
    }
    found
}

/// What tells one state of the files from another without reading them.
#[derive(PartialEq, Eq, Debug)]
struct Stamp(BTreeMap<PathBuf, Option<FileStamp>>);

/// Device, inode, size, time of the last change of contents and of the last change of anything.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    fn take(files: &BTreeSet<PathBuf>) -> Self {
        Self(
            files
                .iter()
                .map(|file| (file.clone(), file_stamp(file)))
                .collect(),
        )
    }
}

fn file_stamp(file: &Path) -> Option<FileStamp> {
    // A directory counts by its files: others may come and go in it.
    let metadata = fs::metadata(file).ok().filter(|metadata| !metadata.is_dir())?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    ))
}

/// The stamp that a file had when it was read, some time after `since`. One that changed about then or later may have
/// been read as it was before, and gets a stamp like no other: it is read once more.
fn stamp_as_read(file: &Path, since: SystemTime) -> Option<FileStamp> {
    /// Times of files are those of the last tick of the kernel's clock.
    const GRANULARITY: Duration = Duration::from_millis(20);
    let stamp = file_stamp(file)?;
    let begin = since
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(GRANULARITY);
    let begin = (
        i64::try_from(begin.as_secs()).ok()?,
        i64::from(begin.subsec_nanos()),
    );
    Some(if stamp.4 >= begin {
        (0, 0, 0, (0, 0), (0, 0))
    } else {
        stamp
    })
}

#[cfg(test)]
mod tests;
