//! What outlives the daemon: durable overrides, in a file of the state directory.

use super::overrides::Override;
use crate::model::{BackendAddr, ClusterName, Endpoint, EndpointId};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const NAME: &str = "overrides.json";

/// The shape of the file.
const VERSION: u32 = 1;

/// Longest file that is read: 100,000 endpoints take about a tenth of it.
const MAX_BYTES: u64 = 256 << 20;

type Kept = BTreeMap<EndpointId, Override>;

/// The file, and what it holds as far as this daemon knows.
pub(super) struct Saved {
    path: PathBuf,
    kept: Kept,
    /// It could not be read: it is put aside before another takes its place.
    broken: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    endpoints: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    cluster: String,
    address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drain: Option<bool>,
}

impl Saved {
    /// Reads what an earlier daemon kept, and a warning where that could not be: a start never depends on it.
    pub(super) fn open(directory: &Path) -> (Self, Option<String>) {
        let path = directory.join(NAME);
        let (kept, warning) = match read(&path) {
            Ok(kept) => (kept, None),
            Err(error) => {
                let warning = format!(
                    "{}: {error}; durable overrides are not in force: correct the file and start weir again, or remove it",
                    path.display()
                );
                (Kept::new(), Some(warning))
            }
        };
        let broken = warning.is_some();
        (Self { path, kept, broken }, warning)
    }

    /// What it holds.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Makes the file hold this, on the disk when this returns.
    ///
    /// # Errors
    /// The system's, with the file's name; it holds what it held before.
    pub(super) fn store(&mut self, kept: &Kept) -> Result<(), String> {
        if *kept == self.kept {
            return Ok(());
        }
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        if self.broken {
            let aside = self.path.with_extension("json.broken");
            fs::rename(&self.path, aside).map_err(failed)?;
            self.broken = false;
        }
        write(&self.path, kept).map_err(failed)?;
        self.kept.clone_from(kept);
        Ok(())
    }
}

fn read(path: &Path) -> Result<Kept, String> {
    let length = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err("it is no regular file".into()),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::new()),
        Err(error) => return Err(error.to_string()),
    };
    if length > MAX_BYTES {
        return Err(format!("it is longer than {} MiB", MAX_BYTES >> 20));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!(
            "it is of version {}, and {VERSION} is known here",
            content.version
        ));
    }
    let entries = content.endpoints.into_iter().map(|entry| {
        let id = EndpointId {
            cluster: ClusterName(entry.cluster.into()),
            address: BackendAddr(entry.address),
        };
        if let Some(weight) = entry.weight.filter(|weight| *weight > Endpoint::MAX_WEIGHT) {
            return Err(format!("{id}: weight {weight} is too great"));
        }
        let set = Override {
            weight: entry.weight,
            drain: entry.drain,
        };
        Ok((id, set))
    });
    entries.collect()
}

/// Beside it, to the disk, renamed over it, and the name to the disk: after a crash it is the old file or the new one.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let entries = kept.iter().map(|(id, set)| Entry {
        cluster: id.cluster.to_string(),
        address: id.address.0,
        weight: set.weight,
        drain: set.drain,
    });
    let content = Content {
        version: VERSION,
        endpoints: entries.collect(),
    };
    let new = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let mut text = serde_json::to_vec_pretty(&content)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, process};

    fn kept(weight: u32) -> Kept {
        let id = EndpointId {
            cluster: ClusterName("web".into()),
            address: BackendAddr("[2001:db8::1]:80".parse().unwrap()),
        };
        let set = Override {
            weight: Some(weight),
            drain: None,
        };
        Kept::from([(id, set)])
    }

    #[test]
    fn what_is_stored_is_read_again_and_a_broken_file_is_put_aside() {
        let directory = env::temp_dir().join(format!("weir-saved-{}", process::id()));
        let (mut saved, warning) = Saved::open(&directory);
        assert_eq!((saved.kept().len(), warning), (0, None));
        saved.store(&kept(3)).unwrap();
        let (saved, warning) = Saved::open(&directory);
        assert_eq!((saved.kept(), warning), (&kept(3), None));

        let path = directory.join(NAME);
        for broken in [
            "",
            "{",
            r#"{"version": 2, "endpoints": []}"#,
            r#"{"version": 1, "endpoints": [{"cluster": "web"}]}"#,
            r#"{"version": 1, "endpoints": [{"cluster": "web", "address": "192.0.2.1:80", "weight": 65536}]}"#,
        ] {
            fs::write(&path, broken).unwrap();
            let (mut saved, warning) = Saved::open(&directory);
            assert!(warning.unwrap().contains("overrides.json: "), "{broken}");
            saved.store(&kept(4)).unwrap();
            assert_eq!(
                fs::read_to_string(directory.join("overrides.json.broken")).unwrap(),
                broken
            );
            assert_eq!(Saved::open(&directory).0.kept(), &kept(4));
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_changes_nothing() {
        let (mut saved, warning) = Saved::open(Path::new("/proc/weir"));
        assert_eq!(warning, None);
        assert!(
            saved
                .store(&kept(3))
                .unwrap_err()
                .starts_with("/proc/weir/overrides.json: ")
        );
        assert!(saved.kept().is_empty());
    }
}
