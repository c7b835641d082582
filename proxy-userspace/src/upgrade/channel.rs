//! Messages between the processes: JSON, and file descriptors beside it.

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

/// The kernel takes 253 descriptors in one message (SCM_MAX_FD of include/net/scm.h).
pub(super) const DESCRIPTORS: usize = 64;

/// Longer than any message: 64 descriptors are named in each.
const MESSAGE_BYTES: usize = 64 << 10;

/// Between this process and another; each message is one packet.
pub struct Channel(OwnedFd);

/// What the other process wants.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To be the daemon.
    TakeOver {
        /// Its version.
        version: String,
        /// Its id, in its own pid namespace.
        pid: u32,
    },
    /// It serves: the older one may leave.
    Ready,
    /// It can't, for this reason.
    Failed(String),
    /// That the daemon starts this program, or its own anew, and hands over to it.
    Upgrade(Option<PathBuf>),
}

/// What the daemon answers.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Descriptors; the last message says so.
    Sockets(Offer),
    /// It leaves; the other is the daemon now.
    Done {
        /// The version that left, or that was upgraded to.
        version: String,
        /// That process's id.
        pid: u32,
    },
    /// No, and nothing changed.
    Refused(String),
}

/// Descriptors that come beside a message, in this order.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What they are.
    pub kinds: Vec<SocketKind>,
    /// Whether more messages follow.
    pub more: bool,
}

/// What a descriptor is.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// The admin API's socket.
    Admin,
    /// The lock that says whose it is.
    AdminLock,
    /// The socket for upgrades.
    Upgrade,
    /// That of `metrics.address`.
    Metrics(SocketAddr),
    /// That of `admin.address`.
    Remote(SocketAddr),
    /// A worker's, that the kernel steers connections to.
    Steered,
    /// A worker's, that listens on an address.
    Listener(SocketAddr),
}

/// A socket of packets, for either side.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

impl Channel {
    /// Over a connected socket of packets.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// A call waits for the other side this long at most.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(time))?;
        set_socket_timeout(&self.0, Timeout::Send, Some(time))?;
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other process is gone or doesn't read.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// The other process is gone, says nothing in time, or says what nobody understands.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut text = vec![0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let parts = &mut [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(io::Error::other("a message was cut short"));
        }
        Ok((serde_json::from_slice(&text[..received.bytes])?, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
