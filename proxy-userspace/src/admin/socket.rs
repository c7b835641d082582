//! The admin socket: root's alone, and one live daemon's at a time.

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tracing::warn;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 64;

/// A listening socket. Dropping it removes its file.
pub struct AdminSocket {
    shared: AdminShare,
    path: PathBuf,
    /// Another process has it: its file stays.
    given_away: Arc<AtomicBool>,
}

/// What another process is handed: the socket, whichever it is then, and its lock.
#[derive(Clone)]
pub struct AdminShare {
    listener: Arc<Mutex<UnixListener>>,
    /// Locked as long as the daemon lives; the kernel releases it however the daemon ends. The
    /// file stays: removing it would let two daemons each lock a file of that name.
    lock: Arc<File>,
}

impl AdminShare {
    fn new(listener: UnixListener, lock: File) -> Self {
        Self {
            listener: Arc::new(Mutex::new(listener)),
            lock: Arc::new(lock),
        }
    }

    /// The socket and its lock, for another process: locked is what either of them has open.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub fn duplicates(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.listener()?.into(), self.lock.try_clone()?.into()])
    }

    fn listener(&self) -> io::Result<UnixListener> {
        self.listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_clone()
    }
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A live daemon has it.
    #[error("another weir is running (pid {pid}) on {path}; stop it, or set another admin.socket")]
    Taken {
        /// The daemon's process id, as far as it is known.
        pid: String,
        /// The socket.
        path: String,
    },
    /// Something else than a socket is in its place.
    #[error("{0} is not a socket; remove it, or set another admin.socket")]
    NotASocket(String),
    /// Its directory is somebody else's.
    #[error(
        "{directory} belongs to the user with id {owner}; write `admin: {{ socket: PATH }}` with another directory"
    )]
    Foreign {
        /// The directory.
        directory: String,
        /// Its owner's id.
        owner: u32,
    },
    /// The system's error.
    #[error(
        "{what}: {error}; run as root, or write `admin: {{ socket: PATH }}` with a path you may write to"
    )]
    System {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
}

impl AdminSocket {
    /// Makes the socket with mode 0600, in a directory of mode 0700 if there is none yet. The socket
    /// of a dead daemon is replaced.
    ///
    /// # Errors
    /// A live daemon has it, or the system's error.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let shown = path.display();
        let failed = |what: String| move |error: io::Error| SocketError::System { what, error };
        if let Some(directory) = path.parent() {
            (DirBuilder::new().recursive(true).mode(0o700).create(directory))
                .map_err(failed(format!("making {}", directory.display())))?;
            refuse_foreign(directory)?;
        }
        let lock = lock(path)?;
        remove_dead(path)?;
        let listener = bind_private(path).map_err(failed(format!("listening on {shown}")))?;
        Ok(Self {
            shared: AdminShare::new(listener, lock),
            path: path.into(),
            given_away: Arc::default(),
        })
    }

    /// That of the process before this one, and its lock. The file is that process's until [`AdminSocket::own`].
    pub fn inherited([listener, lock]: [OwnedFd; 2], path: &Path) -> Self {
        Self {
            shared: AdminShare::new(listener.into(), lock.into()),
            path: path.into(),
            given_away: Arc::new(AtomicBool::new(true)),
        }
    }

    /// This process is the daemon: the lock names it, and the file goes with it.
    ///
    /// # Errors
    /// The system's.
    pub fn own(&mut self) -> io::Result<()> {
        self.given_away.store(false, Ordering::Relaxed);
        let mut lock = &*self.shared.lock;
        lock.rewind()?;
        lock.set_len(0)?;
        writeln!(lock, "{}", process::id())
    }

    /// The socket and its lock, to be handed to another process later.
    pub fn share(&self) -> AdminShare {
        self.shared.clone()
    }

    /// The listening socket once more.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.shared.listener()
    }

    /// If somebody removed its file: a new one, and a new socket behind it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn renew(&self) -> io::Result<Option<UnixListener>> {
        let is_gone =
            matches!(fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        if !is_gone || self.given_away.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let listener = bind_private(&self.path)?;
        let another = listener.try_clone()?;
        *self
            .shared
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = listener;
        warn!("{} was removed, and made again", self.path.display());
        Ok(Some(another))
    }

    /// Set, it leaves the file to another process.
    pub fn given_away(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.given_away)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.given_away.load(Ordering::Relaxed) {
            return;
        }
        // Without it the next daemon finds a dead socket and replaces it.
        let _removed = fs::remove_file(&self.path);
    }
}

fn refuse_foreign(directory: &Path) -> Result<(), SocketError> {
    let metadata = fs::metadata(directory).map_err(|error| SocketError::System {
        what: format!("looking at {}", directory.display()),
        error,
    })?;
    let owner = metadata.uid();
    if is_foreign(owner, rustix::process::geteuid().as_raw()) {
        return Err(SocketError::Foreign {
            directory: directory.display().to_string(),
            owner,
        });
    }
    Ok(())
}

/// Whoever owns a directory can put another socket in the place of ours, and in /tmp anybody may have made it first.
/// Root has no default there: such a directory was chosen.
fn is_foreign(owner: u32, user: u32) -> bool {
    user != 0 && owner != 0 && owner != user
}

fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |error: io::Error| SocketError::System {
        what: format!("locking {}", name.display()),
        error,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&name).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(SocketError::Taken {
                pid: pid.trim().into(),
                path: path.display().to_string(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", process::id()).map_err(failed)?;
    Ok(file)
}

/// Removes what a dead daemon left. That nobody answers is checked too: locks are advice.
fn remove_dead(path: &Path) -> Result<(), SocketError> {
    let shown = path.display().to_string();
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(shown));
    }
    if let Ok(stream) = UnixStream::connect(path) {
        let pid = sockopt::socket_peercred(&stream).map(|peer| peer.pid.as_raw_nonzero().to_string());
        return Err(SocketError::Taken {
            pid: pid.unwrap_or_else(|_| "unknown".into()),
            path: shown,
        });
    }
    fs::remove_file(path).map_err(|error| SocketError::System {
        what: format!("removing {shown}"),
        error,
    })
}

/// Linux gives the file the mode that the socket has when it is bound (`unix_bind`), so that there
/// is no moment in which others may connect, and no process-wide umask to change.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("weir-socket-{name}-{}", process::id()))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_and_one_at_a_time() {
        let directory = directory("one");
        let path = directory.join("admin.sock");
        let first = AdminSocket::bind(&path).unwrap();
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        let error = AdminSocket::bind(&path).err().unwrap().to_string();
        let expected = format!(
            "another weir is running (pid {}) on {}",
            process::id(),
            path.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "the first one is unharmed");
        drop(first);
        assert!(!path.exists());
        drop(AdminSocket::bind(&path).unwrap());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_dead_socket_is_replaced_a_live_one_without_a_lock_is_not() {
        let directory = directory("dead");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("admin.sock");
        let dead = UnixListener::bind(&path).unwrap();
        let error = AdminSocket::bind(&path).err().unwrap();
        assert!(matches!(error, SocketError::Taken { pid, .. } if pid == process::id().to_string()));
        drop(dead);
        drop(AdminSocket::bind(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(matches!(
            AdminSocket::bind(&path),
            Err(SocketError::NotASocket(_))
        ));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn whose_directories_are_refused() {
        for (owner, user, refused) in [
            (0, 1_000, false),
            (1_000, 1_000, false),
            (1_001, 1_000, true),
            // Root chose it.
            (1_000, 0, false),
        ] {
            assert_eq!(is_foreign(owner, user), refused, "of {owner}, for {user}");
        }
    }
}
