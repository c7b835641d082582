//! Real files, changed in the ways that editors, shells and Kubernetes change them.

use super::*;
use std::{
    os::unix::fs::symlink,
    process,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio::runtime;

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "weir-watch-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Well before the look that is taken anyway.
const SOON: Duration = Duration::from_secs(3);

/// Makes the watch, does it, and tells whether it was noticed.
fn notices(path: &Path, action: impl FnOnce()) -> bool {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut watch = ConfigWatch::new(path);
    watch.begin();
    runtime.block_on(async move {
        action();
        time::timeout(SOON, watch.changed()).await.is_ok()
    })
}

#[test]
fn written_in_place() {
    let directory = Directory::new();
    let file = directory.path("weir.yaml");
    fs::write(&file, "a").unwrap();
    assert!(notices(&file, || fs::write(&file, "b").unwrap()));
}

#[test]
fn renamed_over() {
    let directory = Directory::new();
    let file = directory.path("weir.yaml");
    fs::write(&file, "a").unwrap();
    assert!(notices(&file, || {
        fs::write(directory.path("new"), "a").unwrap();
        fs::rename(directory.path("new"), &file).unwrap();
    }));
}

#[test]
fn deleted() {
    let directory = Directory::new();
    let file = directory.path("weir.yaml");
    fs::write(&file, "a").unwrap();
    assert!(notices(&file, || fs::remove_file(&file).unwrap()));
}

#[test]
fn kubernetes_swaps_a_link() {
    let directory = Directory::new();
    for version in ["..1", "..2"] {
        fs::create_dir(directory.path(version)).unwrap();
        fs::write(directory.path(version).join("weir.yaml"), "a").unwrap();
    }
    symlink("..1", directory.path("..data")).unwrap();
    let file = directory.path("weir.yaml");
    symlink("..data/weir.yaml", &file).unwrap();
    assert!(notices(&file, || {
        symlink("..2", directory.path("..data_tmp")).unwrap();
        fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    }));
}

#[test]
fn the_file_a_link_leads_to() {
    let (directory, elsewhere) = (Directory::new(), Directory::new());
    let real = elsewhere.path("real.yaml");
    fs::write(&real, "a").unwrap();
    let file = directory.path("weir.yaml");
    symlink(&real, &file).unwrap();
    assert!(notices(&file, || fs::write(&real, "b").unwrap()));
}

#[test]
fn a_file_comes_into_a_directory() {
    let directory = Directory::new();
    fs::write(directory.path("a.yaml"), "a").unwrap();
    assert!(notices(&directory.0, || fs::write(directory.path("b.yml"), "b").unwrap()));
}

#[test]
fn neighbours_do_not_matter() {
    let directory = Directory::new();
    let file = directory.path("weir.yaml");
    fs::write(&file, "a").unwrap();
    assert!(!notices(&file, || fs::write(directory.path("notes.txt"), "b").unwrap()));
    assert!(!notices(&directory.0, || {
        fs::read(&file).unwrap();
        fs::write(directory.path("other.txt"), "b").unwrap();
    }));
}

/// The same for a file that the config names: watched from after the first read.
fn notices_referenced(
    directory: &Directory,
    named: &Path,
    since: SystemTime,
    action: impl FnOnce(&ReferencedFiles),
) -> bool {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let file = directory.path("weir.yaml");
    fs::write(&file, "a").unwrap();
    let mut watch = ConfigWatch::new(&file);
    let referenced = ReferencedFiles::new(&[named.to_path_buf()], since);
    watch.follow(referenced.clone());
    watch.begin();
    runtime.block_on(async move {
        action(&referenced);
        time::timeout(SOON, watch.changed()).await.is_ok()
    })
}

/// A time after all that was written so far.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

#[test]
fn a_certificate_is_replaced() {
    let (directory, elsewhere) = (Directory::new(), Directory::new());
    let certificate = elsewhere.path("web.pem");
    fs::write(&certificate, "a").unwrap();
    assert!(!notices_referenced(&directory, &certificate, later(), |_| {}));
    assert!(notices_referenced(&directory, &certificate, later(), |_| {
        fs::write(elsewhere.path("new"), "b").unwrap();
        fs::rename(elsewhere.path("new"), &certificate).unwrap();
    }));
}

#[test]
fn a_missing_certificate_comes() {
    let directory = Directory::new();
    let certificate = directory.path("web.pem");
    assert!(notices_referenced(&directory, &certificate, later(), |_| {
        fs::write(&certificate, "b").unwrap();
    }));
}

#[test]
fn a_certificate_that_changed_while_it_was_read_is_read_again() {
    let directory = Directory::new();
    let certificate = directory.path("web.pem");
    let before = SystemTime::now();
    fs::write(&certificate, "a").unwrap();
    assert!(notices_referenced(&directory, &certificate, before, |_| {}));
}

#[test]
fn a_certificate_that_is_no_longer_named_does_not_matter() {
    let directory = Directory::new();
    let certificate = directory.path("web.pem");
    fs::write(&certificate, "a").unwrap();
    assert!(!notices_referenced(
        &directory,
        &certificate,
        later(),
        |referenced| {
            referenced.set(&[], later());
            fs::write(&certificate, "b").unwrap();
        }
    ));
}
