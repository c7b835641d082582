//! The daemon's side: a thread that starts the next process where asked to, hands over to whoever asks, and takes back.

use super::channel::{self, Answer, Channel, DESCRIPTORS, Offer, Request, SocketKind};
use crate::{
    admin::AdminShare,
    control::{HandedOver, Step},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, fchmod},
    net::{SocketAddrUnix, SocketFlags, accept_with, bind, listen},
};
use std::{
    env,
    ffi::OsString,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

/// Processes that wait to be accepted.
const BACKLOG: i32 = 8;

/// A process says at once what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a process that was started is looked at, until it has asked for the sockets.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Listens for the next process. Dropping it removes its file, unless that process has it.
pub struct UpgradeSocket {
    listener: OwnedFd,
    path: PathBuf,
    given_away: bool,
}

impl UpgradeSocket {
    /// Makes it, with mode 0600. Whoever holds the lock of the admin socket may replace what a dead daemon left.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = channel::socket()?;
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, BACKLOG)?;
        let mut socket = Self::inherited(socket, path);
        socket.own();
        Ok(socket)
    }

    /// That of the process before this one, whose file it is until [`UpgradeSocket::own`].
    pub fn inherited(listener: OwnedFd, path: &Path) -> Self {
        Self {
            listener,
            path: path.into(),
            given_away: true,
        }
    }

    /// This process is the daemon: the file goes with it.
    pub fn own(&mut self) {
        self.given_away = false;
    }
}

impl Drop for UpgradeSocket {
    fn drop(&mut self) {
        if !self.given_away {
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// How the next process is started: as this one was.
pub struct Heir {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// What makes a process ask the daemon before it.
const TAKE_OVER: &str = "--take-over";

impl Heir {
    /// This process's own program, by the path that it was started from: what stands there later is the new one.
    ///
    /// # Errors
    /// The system's.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments: Vec<OsString> = env::args_os()
            .skip(1)
            .filter(|argument| argument != TAKE_OVER)
            .collect();
        arguments.push(TAKE_OVER.into());
        Ok(Self {
            program: env::current_exe()?,
            arguments,
        })
    }

    fn start(&self, other: Option<&Path>) -> io::Result<Child> {
        let program = other.unwrap_or(&self.program);
        let child = Command::new(program)
            .args(&self.arguments)
            // The service manager's watchdog is the new process's to feed then (sd_watchdog_enabled(3)).
            .env_remove("WATCHDOG_PID")
            .spawn();
        child
            .map_err(|error| io::Error::new(error.kind(), format!("starting {}: {error}", program.display())))
    }
}

/// All that is handed over, and whom to ask.
pub struct Estate {
    /// Where the next process asks.
    pub socket: UpgradeSocket,
    /// The admin socket and its lock.
    pub admin: AdminShare,
    /// Sockets at the addresses of `metrics` and `admin`.
    pub addressed: Vec<(SocketKind, OwnedFd)>,
    /// Control.
    pub steps: mpsc::Sender<Step>,
    /// How the next process is started.
    pub heir: Heir,
    /// Until then it has to serve.
    pub ready_timeout: Duration,
}

/// A process that was started, and who waits for it.
struct Started {
    child: Child,
    asker: Channel,
    since: Instant,
}

impl Started {
    /// Why it won't come.
    fn fault(&mut self, limit: Duration) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(format!(
                "the new process ended ({status}) before it served; its log says why"
            )),
            Ok(None) if self.since.elapsed() >= limit => Some(format!(
                "the new process did not ask for the sockets within {limit:?}"
            )),
            Ok(None) => None,
            Err(error) => Some(format!("the new process can't be watched: {error}")),
        }
    }

    fn end(mut self) -> Channel {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        self.asker
    }
}

/// Serves requests until the daemon has been handed over. Blocks: for a thread of its own.
pub fn serve(mut estate: Estate) {
    let mut started: Option<Started> = None;
    loop {
        match next(&estate.socket.listener, started.is_some()) {
            Ok(Some(channel)) => {
                if estate.attend(channel, &mut started) {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                error!("upgrades are not possible any more: {error}");
                return;
            }
        }
        let fault = started
            .as_mut()
            .and_then(|started| started.fault(estate.ready_timeout));
        if let Some(why) = fault
            && let Some(started) = started.take()
        {
            refuse(&started.end(), why);
        }
    }
}

/// The next process that connects, or none after a while.
fn next(listener: &OwnedFd, look: bool) -> io::Result<Option<Channel>> {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    match poll(&mut polled, look.then_some(&LOOK)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let channel = Channel::new(accept_with(listener, SocketFlags::CLOEXEC)?);
    channel.wait_at_most(REQUEST_TIMEOUT)?;
    Ok(Some(channel))
}

/// Why there is no other daemon, and whom to tell that those who wait know it.
struct Failure {
    why: String,
    told: Option<oneshot::Sender<()>>,
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self {
            why: why.into(),
            told: None,
        }
    }
}

fn refuse(channel: &Channel, why: String) {
    error!("upgrade: {why}; this process goes on");
    // Who has gone away doesn't want to know.
    let _gone = channel.send(&Answer::Refused(why), &[]);
}

impl Estate {
    /// Whether the daemon is another process now.
    fn attend(&mut self, channel: Channel, started: &mut Option<Started>) -> bool {
        match channel.receive() {
            Ok((Request::TakeOver { version, pid }, _)) => match self.hand_over(&channel, &version, pid) {
                Ok(()) => {
                    if let Some(started) = started.take() {
                        let _gone = started.asker.send(&Answer::Done { version, pid }, &[]);
                    }
                    return true;
                }
                Err(Failure { why, told }) => {
                    if let Some(started) = started.take() {
                        let _gone = started.end().send(&Answer::Refused(why.clone()), &[]);
                    }
                    refuse(&channel, why);
                    if let Some(told) = told {
                        let _ended = told.send(());
                    }
                }
            },
            Ok((Request::Upgrade(_), _)) if started.is_some() => {
                refuse(&channel, "an upgrade is under way already".into());
            }
            Ok((Request::Upgrade(program), _)) => match self.heir.start(program.as_deref()) {
                Ok(child) => {
                    info!("upgrade: process {} was started", child.id());
                    *started = Some(Started {
                        child,
                        asker: channel,
                        since: Instant::now(),
                    });
                }
                Err(error) => refuse(&channel, error.to_string()),
            },
            Ok((request, _)) => refuse(&channel, format!("{request:?} before anything was handed over")),
            // A process of another kind, or one that was killed.
            Err(_) => {}
        }
        false
    }

    fn hand_over(&mut self, channel: &Channel, version: &str, pid: u32) -> Result<(), Failure> {
        info!("upgrade: version {version} (process {pid}) takes over");
        let (sender, sockets) = oneshot::channel();
        let stopping = |_| Failure::from("weir is stopping");
        (self.steps.blocking_send(Step::HandOver(sender))).map_err(|_| "weir is stopping")?;
        let sockets = (sockets.blocking_recv().map_err(stopping)?).map_err(|why| Failure::from(&*why))?;
        let handed = self.offer(channel, &sockets).and_then(|()| {
            channel.wait_at_most(self.ready_timeout)?;
            channel.receive()
        });
        drop(sockets);
        let why = match handed {
            Ok((Request::Ready, _)) => {
                let (sender, gone) = oneshot::channel();
                (self.steps.blocking_send(Step::Leave(sender))).map_err(|_| "weir is stopping")?;
                gone.blocking_recv().map_err(stopping)?;
                self.socket.given_away = true;
                let done = Answer::Done {
                    version: env!("CARGO_PKG_VERSION").into(),
                    pid: std::process::id(),
                };
                // If it has died in this moment, whoever starts the next one finds maps and locks free.
                let _gone = channel.send(&done, &[]);
                return Ok(());
            }
            Ok((Request::Failed(why), _)) => format!("the new process failed: {why}"),
            Ok((request, _)) => format!("the new process said {request:?} instead of being ready"),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                format!("the new process did not serve within {:?}", self.ready_timeout)
            }
            Err(error) => format!("the new process went away before it served: {error}"),
        };
        let (sender, back) = oneshot::channel();
        let (told, receiver) = oneshot::channel();
        (self.steps.blocking_send(Step::TakeBack(sender, receiver))).map_err(|_| "weir is stopping")?;
        back.blocking_recv().map_err(stopping)?;
        Err(Failure {
            why,
            told: Some(told),
        })
    }

    fn offer(&self, channel: &Channel, sockets: &HandedOver) -> io::Result<()> {
        let [admin, lock] = self.admin.duplicates()?;
        let own = [
            (SocketKind::Admin, admin.as_fd()),
            (SocketKind::AdminLock, lock.as_fd()),
            (SocketKind::Upgrade, self.socket.listener.as_fd()),
        ];
        let workers = sockets.iter().map(|(address, socket)| {
            let kind = address.map_or(SocketKind::Steered, SocketKind::Listener);
            (kind, socket.as_fd())
        });
        let addressed = (self.addressed.iter()).map(|(kind, socket)| (*kind, socket.as_fd()));
        let all: Vec<(SocketKind, BorrowedFd<'_>)> =
            own.into_iter().chain(addressed).chain(workers).collect();
        let messages = all.len().div_ceil(DESCRIPTORS);
        for (number, some) in all.chunks(DESCRIPTORS).enumerate() {
            let offer = Offer {
                kinds: some.iter().map(|(kind, _)| *kind).collect(),
                more: number + 1 < messages,
            };
            let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|(_, descriptor)| *descriptor).collect();
            channel.send(&Answer::Sockets(offer), &descriptors)?;
        }
        Ok(())
    }
}
