//! Where maps, links and programs are pinned: `PIN/MAP`, `PIN/links/IFACE-PROGRAM`, `PIN/programs/PROGRAM`, and `PIN/next/MAP`
//! while the maps of an older layout are taken over.

use super::{KernelError, maps};
use rustix::{
    fs::{FlockOperation, flock, statfs},
    mount::{MountFlags, mount},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Directory of maps that are to take the places of an older layout's.
const NEXT: &str = "next";

/// The map that says what shape the others have.
pub(super) const LAYOUT: &str = "layout";

/// Where bpffs belongs.
const BPF_FS: &str = "/sys/fs/bpf";

/// The pin directory, present and on a bpffs.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// While maps of an older layout are taken over: those that go on as they are. All others are in `next` meanwhile.
    kept: Option<&'static [&'static str]>,
    /// Locked while a daemon has the maps, or a reader the events: two would undo each other's writes.
    _lock: fs::File,
}

impl Pins {
    /// Makes the directories, mounting bpffs on `/sys/fs/bpf` if it isn't and the path is there.
    pub(super) fn prepare(root: &Path) -> Result<Self, KernelError> {
        if root.starts_with(BPF_FS) && !is_bpffs(Path::new(BPF_FS)) {
            mount("bpf", BPF_FS, "bpf", MountFlags::empty(), None).map_err(|error| {
                KernelError::missing(
                    format!("no bpffs on {BPF_FS}, and mounting it failed: {error}"),
                    format!("run `mount -t bpf bpf {BPF_FS}` as root, or use --no-kernel"),
                )
            })?;
        }
        for directory in [root.to_path_buf(), root.join("links"), root.join("programs")] {
            fs::create_dir_all(&directory).map_err(|error| not_permitted(&directory, &error))?;
        }
        if !is_bpffs(root) {
            return Err(KernelError::missing(
                format!("{} is not on a bpffs", root.display()),
                format!("set kernel.pin_path to a directory under {BPF_FS}"),
            ));
        }
        let lock = fs::File::open(root).map_err(|error| not_permitted(root, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            KernelError::missing(
                format!("another weir has the maps in {}", root.display()),
                "stop it first, or give this one another kernel.pin_path and other interfaces",
            )
        })?;
        Ok(Self {
            root: root.to_path_buf(),
            kept: None,
            _lock: lock,
        })
    }

    /// Of a plane that is loaded, for the one reader of its events. The lock is on `event_losses`: bpffs knows no ordinary
    /// files, and the pin of a ring buffer can't be opened.
    pub(super) fn of_reader(root: &Path) -> Result<Self, KernelError> {
        let path = root.join("event_losses");
        let lock = fs::File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KernelError::missing(
                format!("no kernel plane with events is loaded under {}", root.display()),
                "start one with `weir run CONFIG`, or name its directory with --pin-path",
            ),
            _ => KernelError::missing(format!("{}: {error}", path.display()), "run as root"),
        })?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            KernelError::missing(
                format!("another weir monitor reads the events of {}", root.display()),
                "stop it first: an event is read once",
            )
        })?;
        Ok(Self {
            root: root.to_path_buf(),
            kept: None,
            _lock: lock,
        })
    }

    /// Waits for the lock that whoever changes a part of `settings` holds meanwhile.
    pub(super) fn lock_settings(&self) -> Result<fs::File, KernelError> {
        let path = self.map("settings");
        let lock = fs::File::open(&path).map_err(|error| not_permitted(&path, &error))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| not_permitted(&path, &error.into()))?;
        Ok(lock)
    }

    /// Path of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        match self.kept {
            Some(kept) if !kept.contains(&name) => self.next().join(name),
            _ => self.root.join(name),
        }
    }

    /// Path of the map that a daemon before this one left, maybe in an older layout.
    pub(super) fn left(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn next(&self) -> PathBuf {
        self.root.join(NEXT)
    }

    /// Whether maps are being taken over, or a daemon died of it.
    pub(super) fn has_next(&self) -> bool {
        self.next().exists()
    }

    /// From here on all maps but the `kept` ones are made in `next`, beside those of an older layout.
    pub(super) fn begin_next(&mut self, kept: &'static [&'static str]) -> Result<(), KernelError> {
        self.discard_next()?;
        fs::create_dir(self.next()).map_err(|error| not_permitted(&self.next(), &error))?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Gives up what is in `next`.
    pub(super) fn discard_next(&mut self) -> Result<(), KernelError> {
        self.kept = None;
        for path in entries(&self.next())? {
            fs::remove_file(&path).map_err(|error| not_permitted(&path, &error))?;
        }
        remove_directory(&self.next())
    }

    /// Puts the maps in `next` into the older ones' places, one by one and each at once. After the first, `layout`, the directory is
    /// this layout's: a daemon that finds others still in `next` goes on with this. Nothing where there is no `next`.
    pub(super) fn take_next(&mut self) -> Result<(), KernelError> {
        self.kept = None;
        let mut paths = entries(&self.next())?;
        paths.sort_by_key(|path| !path.ends_with(LAYOUT));
        for path in paths {
            if let Some(name) = path.file_name() {
                fs::rename(&path, self.root.join(name)).map_err(|error| not_permitted(&path, &error))?;
            }
        }
        remove_directory(&self.next())
    }

    /// Path of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// Path of the link of a program on an interface, or `netns`. bpffs allows no dots in names, and interfaces
    /// may have them.
    pub(super) fn link(&self, interface: &str, program: &str) -> PathBuf {
        self.root
            .join("links")
            .join(format!("{}-{program}", interface.replace('.', "_")))
    }

    /// Unpins the links that are not among `wanted`, which detaches their programs.
    pub(super) fn keep_links(&self, wanted: &[PathBuf]) -> Result<(), KernelError> {
        let directory = self.root.join("links");
        for path in entries(&directory)? {
            if !wanted.contains(&path) {
                fs::remove_file(&path).map_err(|error| not_permitted(&path, &error))?;
            }
        }
        Ok(())
    }
}

/// Removes links first, so that packets pass before maps vanish, then programs and maps. Before any of it `first` removes
/// what only the maps know of. Returns what was removed.
pub(super) fn unload(
    root: &Path,
    first: impl FnOnce(&Path) -> Result<Vec<String>, KernelError>,
) -> Result<Vec<String>, KernelError> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    if !is_bpffs(root) {
        return Err(KernelError::missing(
            format!("{} is not on a bpffs: nothing of weir's is there", root.display()),
            "name the directory of kernel.pin_path",
        ));
    }
    let ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| matches!(name, "links" | "programs" | NEXT) || maps::NAMES.contains(&name))
    };
    let top = entries(root)?;
    if let Some(foreign) = top.iter().find(|path| !ours(path)) {
        return Err(KernelError::missing(
            format!("{} is not weir's: nothing was removed", foreign.display()),
            "name the directory of kernel.pin_path, or remove what is foreign",
        ));
    }
    let mut removed = first(root)?;
    let mut files = entries(&root.join("links"))?;
    files.extend(entries(&root.join("programs"))?);
    files.extend(entries(&root.join(NEXT))?);
    files.extend(
        maps::NAMES
            .iter()
            .map(|name| root.join(name))
            .filter(|path| path.exists()),
    );
    for path in files {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path.display().to_string()),
            // Another `weir unload` was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(not_permitted(&path, &error)),
        }
    }
    for directory in ["links", "programs", NEXT] {
        remove_directory(&root.join(directory))?;
    }
    remove_directory(root)?;
    Ok(removed)
}

/// Removes an empty directory, if it is there.
fn remove_directory(directory: &Path) -> Result<(), KernelError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(not_permitted(directory, &error)),
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, KernelError> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(not_permitted(directory, &error)),
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type as u64 == BPF_FS_MAGIC)
}

fn not_permitted(path: &Path, error: &io::Error) -> KernelError {
    KernelError::missing(
        format!("{}: {error}", path.display()),
        format!("run as root with a bpffs mounted on {BPF_FS}, or use --no-kernel"),
    )
}
