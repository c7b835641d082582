//! What outlives a process: the bpffs mount, pinned maps, temporary folders; and sweeping them.

use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Names of what a lab leaves start with this, then the process id and a number.
pub const PREFIX: &str = "weir-lab-";

/// Where bpffs is mounted on every distribution.
const BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPFFS_MAGIC: u64 = 0xcafe_4a11;

/// A folder on the bpffs for a daemon's pins; mounts the bpffs if need be.
pub fn pin_path(name: &str) -> Result<PathBuf> {
    // Two mounts on top of each other would hide the first one's pins: one process at a time.
    let lock_path = std::env::temp_dir().join("weir-lab.lock");
    let lock = File::create(&lock_path).with_context(|| format!("create {}", lock_path.display()))?;
    lock.lock().context("lock the mounting of bpffs")?;
    let mounted = rustix::fs::statfs(BPFFS).context("/sys/fs/bpf: a kernel without BPF?")?;
    if mounted.f_type as u64 != BPFFS_MAGIC {
        rustix::mount::mount("bpf", BPFFS, "bpf", rustix::mount::MountFlags::empty(), None)
            .context("mount bpffs on /sys/fs/bpf")?;
    }
    Ok(Path::new(BPFFS).join(name))
}

/// Removes the pins whose names start with a lab's name.
pub fn remove_of(lab: &str) {
    remove_where(Path::new(BPFFS), |name| {
        name == lab || name.starts_with(&format!("{lab}-"))
    });
}

/// Removes what labs of dead processes left.
pub fn sweep() -> Result<()> {
    let is_left = |name: &str| {
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        id.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists())
    };
    remove_where(Path::new(BPFFS), is_left);
    remove_where(&std::env::temp_dir(), is_left);
    Ok(())
}

/// Removes the folders in `parent` with such names. Best effort: another process may be at it too.
fn remove_where(parent: &Path, matches: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(&matches) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
