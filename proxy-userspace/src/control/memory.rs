//! The guard of memory: looks at how much the process has, says so to the workers, and tells of every change.

use crate::{admin::status::MemoryStatus, l7::Shortage};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::{error, info, warn};

/// How often it is looked at: what arrives between two looks is what a limit has to have room for.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Where the control groups of systemd, Kubernetes and others are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the process may have, and what it has.
pub(super) struct Memory {
    /// Kept open: it can be read when there are no descriptors left.
    statm: Option<File>,
    /// Most bytes that the control group may have.
    group: Option<u64>,
    shortage: Shortage,
}

impl Memory {
    pub(super) fn open() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
            group: group_limit(),
            shortage: Shortage::None,
        }
    }

    /// The group's limit may be changed at any time.
    pub(super) fn look_at_group(&mut self) {
        self.group = group_limit();
    }

    /// Whether there is something to guard.
    pub(super) fn is_guarded(&self, configured: Option<u64>) -> bool {
        self.limit(configured).is_some() || self.shortage != Shortage::None
    }

    /// How short it is now, if that is another than before.
    pub(super) fn look(&mut self, configured: Option<u64>) -> Option<Shortage> {
        let resident = self.resident();
        let limit = self.limit(configured);
        let before = self.shortage;
        let now = limit.map_or(Shortage::None, |limit| next(before, resident, limit));
        if now == before {
            return None;
        }
        self.shortage = now;
        let used = format!("memory: {} of {} MiB", resident >> 20, limit.unwrap_or(0) >> 20);
        match now {
            Shortage::None => info!("{used}: enough again"),
            Shortage::Near => warn!("{used}: idle connections are closed sooner"),
            Shortage::Full => error!("{used}: new L7 connections are closed until it is less; {REMEDY}"),
        }
        Some(now)
    }

    pub(super) fn status(&self, configured: Option<u64>) -> MemoryStatus {
        MemoryStatus {
            resident_bytes: self.resident(),
            limit_bytes: self.limit(configured),
            shortage: match self.shortage {
                Shortage::None => "none",
                Shortage::Near => "near",
                Shortage::Full => "full",
            }
            .into(),
        }
    }

    /// The config's, else the group's less a twentieth: at that one the kernel kills.
    fn limit(&self, configured: Option<u64>) -> Option<u64> {
        configured.or_else(|| self.group.map(|limit| limit - limit / 20))
    }

    /// Bytes in memory; 0 where they can't be read.
    fn resident(&self) -> u64 {
        let mut text = [0; 128];
        let read = self
            .statm
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
        // Pages: size, resident, …
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * rustix::param::page_size() as u64
    }
}

const REMEDY: &str = "raise limits.memory_bytes or the control group's limit, or lower max_connections";

/// A level is left lower than it was entered, so that it isn't left and entered ten times a second.
fn next(before: Shortage, resident: u64, limit: u64) -> Shortage {
    let percent = resident.saturating_mul(100) / limit.max(1);
    let (near, full) = match before {
        Shortage::None => (90, 100),
        Shortage::Near => (85, 100),
        Shortage::Full => (85, 95),
    };
    match percent {
        _ if percent >= full => Shortage::Full,
        _ if percent >= near => Shortage::Near,
        _ => Shortage::None,
    }
}

/// The least limit of the control groups that this process is in.
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_files(&groups)
        .into_iter()
        .filter_map(|file| limit_of(fs::read_to_string(file)))
        .min()
}

/// Files with the limits of these groups and of those that they are in, by /proc/self/cgroup: versions 1 and 2 (cgroups(7)). In a
/// container the path may be the host's, of which only the last group is to be seen, at the root.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            Some("") => (PathBuf::from(CGROUPS), "memory.max"),
            Some(names) if names.split(',').any(|name| name == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(group).join(name)));
    }
    files
}

/// None for `max` (version 2), and for the greatest number of pages (version 1).
fn limit_of(text: io::Result<String>) -> Option<u64> {
    let bytes = text.ok()?.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_lower_than_it_was_entered() {
        let mut shortage = Shortage::None;
        let (none, near, full) = (Shortage::None, Shortage::Near, Shortage::Full);
        let table = [
            (89, none),
            (90, near),
            (86, near),
            (99, near),
            (100, full),
            (96, full),
            (94, near),
            (100, full),
            (84, none),
            (250, full),
            (0, none),
        ];
        for (percent, expected) in table {
            shortage = next(shortage, percent * 10, 1_000);
            assert_eq!(shortage, expected, "{percent}");
        }
    }

    #[test]
    fn limits_of_both_versions_are_found_and_those_that_are_none_are_not() {
        let version_2 = limit_files("0::/system.slice/weir.service\n");
        let expected = [
            "/sys/fs/cgroup/system.slice/weir.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(version_2, expected.map(PathBuf::from));
        let version_1 = limit_files("5:memory:/a\n3:cpu,cpuacct:/b\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(version_1, expected.map(PathBuf::from));
        for (text, limit) in [
            ("536870912\n", Some(512 << 20)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("", None),
        ] {
            assert_eq!(limit_of(Ok(text.into())), limit, "{text}");
        }
    }

    #[test]
    fn what_the_process_has_is_read() {
        let memory = Memory::open();
        assert!(memory.resident() > 1 << 20);
        assert_eq!(memory.limit(Some(7)), Some(7));
    }
}
