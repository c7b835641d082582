//! Listening sockets of the workers, where the kernel plane doesn't steer: one a worker and address, shared by SO_REUSEPORT.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// Connections that wait to be accepted; the kernel takes `net.core.somaxconn` where that is less.
const BACKLOG: i32 = 4_096;

/// A listening socket for one worker.
///
/// # Errors
/// The system's: the address is in use by another program, not local, or not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]:443` beside `0.0.0.0:443` is two listeners.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What to do about an error of [`listen`].
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there (`ss -ltnp`), or use another port",
        io::ErrorKind::AddrNotAvailable => {
            "use an address of this host, or run with the kernel plane, which needs none"
        }
        io::ErrorKind::PermissionDenied => {
            "use a port of 1024 or more, run as root, or give the binary CAP_NET_BIND_SERVICE"
        }
        _ => "see the error",
    }
}
