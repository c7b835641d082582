//! The new process's side, and that of `weir upgrade`.

use super::{
    channel::{self, Answer, Channel, Request, SocketKind},
    socket_path,
};
use rustix::net::{SocketAddrUnix, connect};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

/// The daemon answers at once, unless its control thread is at a large change.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the daemon before this one hands over.
pub struct Inheritance {
    /// The admin socket and its lock.
    pub admin: [OwnedFd; 2],
    /// The socket for upgrades.
    pub upgrade: OwnedFd,
    /// What the kernel steers connections to.
    pub steered: Vec<TcpListener>,
    /// What listens on addresses.
    pub listeners: Vec<(SocketAddr, TcpListener)>,
    /// That of `metrics.address`.
    pub metrics: Vec<(SocketAddr, TcpListener)>,
    /// That of `admin.address`.
    pub remote: Vec<(SocketAddr, TcpListener)>,
}

/// This process, before it is the daemon. Dropped early, the one before takes all back.
pub struct Successor(Channel);

/// Asks the daemon with this admin socket for what it has; none if there is no daemon.
///
/// # Errors
/// It refuses, or says what nobody understands.
pub fn take_over(admin_socket: &Path) -> io::Result<Option<(Successor, Inheritance)>> {
    let channel = match connected(admin_socket) {
        Ok(channel) => channel,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    channel.wait_at_most(ANSWER_TIMEOUT)?;
    let request = Request::TakeOver {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: process::id(),
    };
    channel.send(&request, &[])?;
    let inheritance = inherit(&channel)?;
    Ok(Some((Successor(channel), inheritance)))
}

impl Successor {
    /// Tells the daemon that this process serves; it leaves. One that has died meanwhile has left too.
    ///
    /// # Errors
    /// It took all back meanwhile, since this process took too long.
    pub fn ready(self) -> io::Result<()> {
        // One that took back has said so and closed this; one that died has only closed it.
        let _perhaps_gone = self.0.send(&Request::Ready, &[]);
        let answered = self.0.receive();
        match answered {
            Ok((Answer::Done { .. }, _)) => Ok(()),
            Ok((Answer::Refused(why), _)) => Err(io::Error::other(why)),
            Ok((answer, _)) => Err(unexpected(&answer)),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells it why this process does not.
    pub fn fail(self, why: &str) {
        let _gone = self.0.send(&Request::Failed(why.into()), &[]);
    }
}

/// Asks the daemon with this admin socket to start that program, or its own anew, and waits for the outcome: version and process
/// id of the new one.
///
/// # Errors
/// No daemon is there, or the upgrade failed and the daemon goes on.
pub fn request(admin_socket: &Path, program: Option<PathBuf>) -> io::Result<(String, u32)> {
    let channel = connected(admin_socket)?;
    channel.send(&Request::Upgrade(program), &[])?;
    match channel.receive()? {
        (Answer::Done { version, pid }, _) => Ok((version, pid)),
        (Answer::Refused(why), _) => Err(io::Error::other(why)),
        (answer, _) => Err(unexpected(&answer)),
    }
}

fn connected(admin_socket: &Path) -> io::Result<Channel> {
    let socket = channel::socket()?;
    connect(&socket, &SocketAddrUnix::new(socket_path(admin_socket))?)?;
    Ok(Channel::new(socket))
}

fn inherit(channel: &Channel) -> io::Result<Inheritance> {
    let (mut admin, mut lock, mut upgrade) = (None, None, None);
    let (mut steered, mut listeners, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    let mut remote = Vec::new();
    loop {
        let (answer, descriptors) = channel.receive()?;
        let offer = match answer {
            Answer::Sockets(offer) => offer,
            Answer::Refused(why) => return Err(io::Error::other(why)),
            answer => return Err(unexpected(&answer)),
        };
        if offer.kinds.len() != descriptors.len() {
            return Err(io::Error::other(
                "descriptors were lost; raise the limit of open files",
            ));
        }
        for (kind, descriptor) in offer.kinds.into_iter().zip(descriptors) {
            match kind {
                SocketKind::Admin => admin = Some(descriptor),
                SocketKind::AdminLock => lock = Some(descriptor),
                SocketKind::Upgrade => upgrade = Some(descriptor),
                SocketKind::Metrics(address) => metrics.push((address, descriptor.into())),
                SocketKind::Remote(address) => remote.push((address, descriptor.into())),
                SocketKind::Steered => steered.push(descriptor.into()),
                SocketKind::Listener(address) => listeners.push((address, descriptor.into())),
            }
        }
        if !offer.more {
            break;
        }
    }
    let (Some(admin), Some(lock), Some(upgrade)) = (admin, lock, upgrade) else {
        return Err(io::Error::other("the daemon kept its own sockets"));
    };
    Ok(Inheritance {
        admin: [admin, lock],
        upgrade,
        steered,
        listeners,
        metrics,
        remote,
    })
}

/// Whether the process at the other end has ended, and not just been silent.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("the daemon said {answer:?}"))
}
