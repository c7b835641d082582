//! One direction of a proxied connection: what is read from one side is written to the other.

use super::{Stream, splice::Pipe};
use crate::l7::scratch;
use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::ReadBuf;

/// A read of this much belongs to a stream rather than to messages.
const LARGE: usize = 16 << 10;

/// A pipe pays once this much came in large reads in a row.
const RUN: usize = 64 << 10;

/// Small reads in a row after which a stream is taken to have become messages.
const SMALL: u8 = 8;

/// What is moved before the worker's other connections have their turn.
const TURN: usize = 1 << 20;

/// Which side failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The one that is read from.
    Read,
    /// The one that is written to.
    Write,
}

/// How far it is.
#[derive(Clone, Copy, Default, Debug)]
enum Stage {
    /// Bytes are read and written.
    #[default]
    Open,
    /// All is read; the end is being passed on.
    Ending,
    /// The end was passed on, or it failed.
    Over(Result<(), Failure>),
}

/// One direction.
#[derive(Default, Debug)]
pub(super) struct Direction {
    stage: Stage,
    /// What was read and couldn't be written at once, and how much of it was written since. No memory while empty.
    rest: Vec<u8>,
    written: usize,
    /// What the kernel moves through. None while nothing is in it.
    pipe: Option<Pipe>,
    /// Bytes of large reads in a row.
    run: usize,
    /// Small reads in a row.
    small: u8,
    /// Whether the other side may hold written bytes back until a flush.
    unflushed: bool,
    bytes: u64,
}

/// What a step came to; pending where it can't go on.
type Step<T> = Poll<Result<T, Failure>>;

impl Direction {
    /// Bytes that the side written to has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves what can be moved. Ready when the end was passed on, or a side failed; then again with each call.
    pub(super) fn poll<F: Stream, T: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Step<()> {
        if let Stage::Over(result) = self.stage {
            return Poll::Ready(result);
        }
        let result = ready!(self.run(cx, from, to));
        self.stage = Stage::Over(result);
        (self.rest, self.pipe) = (Vec::new(), None);
        Poll::Ready(result)
    }

    fn run<F: Stream, T: Stream>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Step<()> {
        let start = self.bytes;
        loop {
            ready!(self.write_out(cx, to))?;
            if matches!(self.stage, Stage::Ending) {
                return end(cx, to);
            }
            if self.bytes - start > TURN as u64 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = if self.run >= RUN && from.is_plain() && to.is_plain() {
                self.splice(cx, from, to)
            } else {
                self.copy(cx, from, to)
            };
            match read {
                Poll::Ready(more) => {
                    if !more? {
                        self.stage = Stage::Ending;
                    }
                }
                Poll::Pending => {
                    ready!(self.flush(cx, to))?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes what an earlier step left, in the pipe or in memory.
    fn write_out<T: Stream>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Step<()> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            let Some(socket) = to.socket() else {
                return Poll::Ready(Err(Failure::Write));
            };
            let count = ready!(pipe.drain(cx, socket)).map_err(|_| Failure::Write)?;
            self.bytes += count as u64;
        }
        while self.written < self.rest.len() {
            let count = ready!(write(cx, to, &self.rest[self.written..]))?;
            self.written += count;
            self.bytes += count as u64;
            self.unflushed = true;
        }
        if !self.rest.is_empty() {
            (self.rest, self.written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the worker's buffer and writes it at once; what isn't taken is kept. Whether there may be more.
    fn copy<F: Stream, T: Stream>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Step<bool> {
        scratch::with(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|_| Failure::Read)?;
            let mut data = buffer.filled();
            if data.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.judge(data.len());
            while !data.is_empty() {
                match write(cx, to, data) {
                    Poll::Ready(count) => {
                        let count = count?;
                        self.bytes += count as u64;
                        self.unflushed = true;
                        data = &data[count..];
                    }
                    Poll::Pending => {
                        self.rest = data.to_vec();
                        break;
                    }
                }
            }
            Poll::Ready(Ok(true))
        })
    }

    /// Has the kernel move once. Whether there may be more.
    fn splice<F: Stream, T: Stream>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Step<bool> {
        let Some(mut pipe) = self.pipe.take().or_else(Pipe::take) else {
            // No file descriptor is left for a pipe: try again after the next run.
            self.run = 0;
            return self.copy(cx, from, to);
        };
        let Some(socket) = from.socket() else {
            return Poll::Ready(Err(Failure::Read));
        };
        let filled = pipe.fill(cx, socket);
        match filled {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.judge(count);
                self.pipe = Some(pipe);
                Poll::Ready(Ok(true))
            }
            // It is empty: another connection may use it.
            Poll::Ready(Ok(_)) => {
                pipe.give_back();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Failure::Read)),
            Poll::Pending => {
                pipe.give_back();
                Poll::Pending
            }
        }
    }

    /// Takes note of a read's size: many large ones in a row are a stream, many small ones are messages.
    fn judge(&mut self, count: usize) {
        if count >= LARGE {
            self.small = 0;
            self.run = self.run.saturating_add(count);
        } else {
            self.small = self.small.saturating_add(1);
            if self.run < RUN || self.small >= SMALL {
                self.run = 0;
            }
        }
    }

    fn flush<T: Stream>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Step<()> {
        if mem::take(&mut self.unflushed) && !to.is_plain() {
            let flushed = Pin::new(to).poll_flush(cx);
            self.unflushed = flushed.is_pending();
            ready!(flushed).map_err(|_| Failure::Write)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn write<T: Stream>(cx: &mut Context<'_>, to: &mut T, data: &[u8]) -> Step<usize> {
    Poll::Ready(match ready!(Pin::new(to).poll_write(cx, data)) {
        Ok(0) | Err(_) => Err(Failure::Write),
        Ok(count) => Ok(count),
    })
}

/// Passes the end on.
fn end<T: Stream>(cx: &mut Context<'_>, to: &mut T) -> Step<()> {
    Poll::Ready(match ready!(Pin::new(to).poll_shutdown(cx)) {
        Ok(()) => Ok(()),
        // It has closed both ways by itself.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        Err(_) => Err(Failure::Write),
    })
}
