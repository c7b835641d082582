//! Looks at a connection's first bytes without taking them.

use super::scratch;
use rustix::net::{RecvFlags, recv};
use std::io;
use tokio::{io::Interest, net::TcpStream};

/// What came of it.
pub(super) enum Peeked<T> {
    /// The verdict.
    Found(T),
    /// The client closed before there was one.
    Closed,
    /// As many bytes as were allowed, and no verdict.
    TooLong,
}

/// Shows `judge` the bytes from the first one on, more of them each time, until it comes to a verdict. Bounded by
/// `most` bytes; the caller bounds the time.
///
/// # Errors
/// The connection failed.
pub(super) async fn peek<T>(
    stream: &TcpStream,
    most: usize,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Peeked<T>> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            scratch::with(|buffer| {
                let buffer = &mut buffer[..most.min(scratch::SIZE)];
                let (count, _) = recv(stream, &mut *buffer, RecvFlags::PEEK)?;
                if count == 0 {
                    return Ok(Peeked::Closed);
                }
                match judge(&buffer[..count]) {
                    Some(verdict) => Ok(Peeked::Found(verdict)),
                    None if count == buffer.len() => Ok(Peeked::TooLong),
                    None if ready.is_read_closed() => Ok(Peeked::Closed),
                    // Bytes that were peeked at leave the socket readable. This has the runtime wait for the next ones
                    // (its epoll is edge-triggered) instead of coming back at once.
                    None => Err(io::ErrorKind::WouldBlock.into()),
                }
            })
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
