//! One probe by TCP: does the backend answer?

use crate::descriptors;
use rustix::io::Errno;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

/// What one probe met; in one short phrase, where it met trouble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The backend answered.
    Passed,
    /// It did not, or with a refusal.
    Failed(String),
    /// This host could not ask: says nothing about the backend. Without this, running out of file
    /// descriptors here would take every backend everywhere out at once.
    NotAsked(String),
}

/// Connects and resets. Costs neither side anything that stays: the handshake's last ACK is held
/// back (TCP_QUICKACK off) and the close sends a reset in its place (SO_LINGER 0), so the backend's
/// kernel drops the half-open connection, its server never accepts it nor logs a client that said
/// nothing, and this host keeps no socket in TIME_WAIT, of which thousands of endpoints would make
/// tens of thousands. A listener with a full accept queue does not answer and so fails the probe.
pub(super) async fn tcp_connect(address: SocketAddr, mark: Option<u32>, timeout: Duration) -> Outcome {
    let socket = match open(address, mark) {
        Ok(socket) => socket,
        Err(error) => return Outcome::NotAsked(format!("{address}: not probed: {error}")),
    };
    match time::timeout(timeout, socket.connect(address)).await {
        Ok(Ok(_closed_at_once)) => Outcome::Passed,
        Ok(Err(error)) => failure(&error, address),
        Err(_) => Outcome::Failed(format!("{address}: no answer within {timeout:?}")),
    }
}

/// A connection that is reset when it is dropped before its end: this host keeps nothing in TIME_WAIT.
///
/// # Errors
/// What the probe met.
pub(super) async fn connect(address: SocketAddr, mark: Option<u32>) -> Result<TcpStream, Outcome> {
    let socket = open_plain(address, mark)
        .and_then(|socket| socket.set_zero_linger().map(|()| socket))
        .map_err(|error| Outcome::NotAsked(format!("{address}: not probed: {error}")))?;
    socket
        .connect(address)
        .await
        .map_err(|error| failure(&error, address))
}

fn open_plain(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    descriptors::ask()?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(mark) = mark {
        socket2::SockRef::from(&socket).set_mark(mark)?;
    }
    Ok(socket)
}

fn open(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = open_plain(address, mark)?;
    socket.set_zero_linger()?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false)?;
    Ok(socket)
}

/// What an error of the system says of the backend.
pub(super) fn failure(error: &io::Error, address: SocketAddr) -> Outcome {
    match Errno::from_io_error(error) {
        // No free port, no memory: ours, not the backend's.
        Some(Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => {
            Outcome::NotAsked(format!("{address}: not probed: {error}"))
        }
        Some(Errno::CONNREFUSED) => Outcome::Failed(format!("{address}: connection refused")),
        Some(Errno::HOSTUNREACH) => Outcome::Failed(format!("{address}: host unreachable")),
        Some(Errno::NETUNREACH) => Outcome::Failed(format!("{address}: network unreachable")),
        _ => Outcome::Failed(format!("{address}: {error}")),
    }
}
