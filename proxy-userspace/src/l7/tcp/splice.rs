//! Pipes that the kernel moves bytes through, from one socket to another (splice(2)), without a copy in user space.

use rustix::{
    fd::OwnedFd,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
};
use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// What a pipe is asked to hold. A page of it holds one fragment of a packet, full or not: with 8 streams at a time 1 MiB
/// moved twice as much per CPU-second as 256 KiB did. An empty pipe of this size costs 10 KiB.
const SIZE: usize = 1 << 20;

/// A pipe that holds less than the kernel's default is not worth its system calls.
const LEAST: usize = 64 << 10;

/// Empty pipes a worker keeps for the next stream.
const KEPT: usize = 32;

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one; none where the process has no file descriptor left, or its user too many pipes.
    pub(super) fn take() -> Option<Self> {
        if let Some(pipe) = IDLE.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // An unprivileged user with many pipes gets no larger ones, and then only tiny ones (pipe(7),
        // pipe-user-pages-soft).
        let size = fcntl_setpipe_size(&into, SIZE).or_else(|_| fcntl_getpipe_size(&into));
        if size.is_ok_and(|size| size < LEAST) {
            return None;
        }
        Some(Self { out, into, held: 0 })
    }

    /// Keeps it for another stream, if it is empty and few are kept.
    pub(super) fn give_back(self) {
        if self.is_empty() {
            IDLE.with_borrow_mut(|idle| {
                if idle.len() < KEPT {
                    idle.push(self);
                }
            });
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what has come on the socket into the pipe, which must be empty: else a full pipe would look like a socket
    /// without bytes. Zero at the socket's end.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &self.into, None, SIZE, FLAGS)?)
            });
            if let Some(count) = unless_blocked(moved)? {
                self.held = count;
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Moves what is in the pipe to the socket, as much as it takes.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&self.out, None, to, None, self.held, FLAGS)?)
            });
            match unless_blocked(moved)? {
                Some(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Some(count) => {
                    self.held = self.held.saturating_sub(count);
                    return Poll::Ready(Ok(count));
                }
                None => {}
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
