//! The listening sockets that connections are steered to.

use crate::kernel::KernelError;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

/// Connections that wait to be accepted; the kernel takes `net.core.somaxconn` where that is less.
const BACKLOG: i32 = 4_096;

/// One non-blocking socket a worker, for IPv4 and IPv6, to be registered and accepted from.
///
/// A listening socket has to have a port; these have one that the kernel chose, on the loopback address, where nobody
/// looks for it. They share it (SO_REUSEPORT): the kernel then accepts at each of them the SYN cookies that another one
/// sent. Connections that come to the port itself are no listener's, and should be closed.
///
/// # Errors
/// No file descriptors are left.
pub fn listening_sockets(count: usize) -> Result<Vec<TcpListener>, KernelError> {
    let opened = open(count, Domain::IPV6, Ipv6Addr::LOCALHOST.into()).or_else(|error| {
        // IPv6 may be off.
        match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                open(count, Domain::IPV4, Ipv4Addr::LOCALHOST.into())
            }
            _ => Err(error),
        }
    });
    opened.map_err(|error| KernelError::refused("opening the workers' sockets", error))
}

fn open(count: usize, domain: Domain, address: std::net::IpAddr) -> io::Result<Vec<TcpListener>> {
    let mut at = SocketAddr::new(address, 0);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_port(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        at = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok(sockets)
}
