//! The listening sockets that connections are steered to.

use crate::kernel::KernelError;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

/// Connections that wait to be accepted; the kernel takes `net.core.somaxconn` where that is less.
const BACKLOG: i32 = 4_096;

/// 127.0.0.1 as IPv6 has it. An IPv6 socket bound to it takes IPv4 connections too, from the kernel's point of view;
/// bound to ::1 it would be for IPv6 alone (`__inet6_bind` of net/ipv6/af_inet6.c). What address it is bound to makes no
/// difference to connections that are steered to it.
const MAPPED_LOOPBACK: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();

/// One non-blocking socket a worker, for IPv4 and IPv6, to be registered and accepted from.
///
/// A listening socket has to have a port; these have one that the kernel chose, on the loopback address, where nobody
/// looks for it. They share it (SO_REUSEPORT): the kernel then accepts at each of them the SYN cookies that another one
/// sent. `beside`: one that has the port already. Connections that come to the port itself are no listener's, and should be closed.
///
/// # Errors
/// No file descriptors are left.
pub fn listening_sockets(
    count: usize,
    beside: Option<&TcpListener>,
) -> Result<Vec<TcpListener>, KernelError> {
    let at = beside.and_then(|socket| socket.local_addr().ok());
    let first = |address: IpAddr| at.unwrap_or(SocketAddr::new(address, 0));
    let domain = match at {
        Some(SocketAddr::V4(_)) => Domain::IPV4,
        _ => Domain::IPV6,
    };
    let opened = open(count, domain, first(MAPPED_LOOPBACK.into())).or_else(|error| {
        // The kernel may be without IPv6.
        match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => open(count, Domain::IPV4, first(Ipv4Addr::LOCALHOST.into())),
            _ => Err(error),
        }
    });
    opened.map_err(|error| KernelError::refused("opening the workers' sockets", error))
}

fn open(count: usize, domain: Domain, mut at: SocketAddr) -> io::Result<Vec<TcpListener>> {
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
