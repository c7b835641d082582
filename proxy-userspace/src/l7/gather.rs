//! An HTTP/2 codec's writes gathered into few: h2 writes and flushes every DATA frame of 256 bytes or more by itself,
//! which would be a system call and a TLS record for each of the streams that share a connection.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes gathered at most: one TLS record's.
const ROOM: usize = 16 << 10;

/// Buffers kept for the worker's connections. One holds a buffer only while something waits in it.
const SPARE: usize = 32;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A stream whose writes and flushes wait for [`Gather::poll_send`]. Clones share it: one is the codec's, the other is
/// for whoever polls the codec.
pub struct Gather<T>(Rc<RefCell<Gathered<T>>>);

struct Gathered<T> {
    inner: T,
    /// What waits; no memory while empty.
    waiting: Vec<u8>,
    /// How much of it was written.
    written: usize,
    unflushed: bool,
}

impl<T> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    /// Nothing waits.
    pub fn new(inner: T) -> Self {
        Self(Rc::new(RefCell::new(Gathered {
            inner,
            waiting: Vec::new(),
            written: 0,
            unflushed: false,
        })))
    }

    /// Tells the stream beneath something.
    pub fn with(&self, tell: impl FnOnce(&mut T)) {
        tell(&mut self.0.borrow_mut().inner);
    }

    /// Sends what waits. To be called whenever the codec was polled and has nothing more to do.
    ///
    /// # Errors
    /// The stream's.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        if self.written > 0 {
            self.written = 0;
            give_back(std::mem::take(&mut self.waiting));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the bytes, unless they are too many for the buffer: then the stream does, after what waits.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        self.unflushed = true;
        if self.waiting.len() + bytes > ROOM {
            ready!(self.poll_waiting(cx))?;
        }
        if bytes > ROOM {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        }
        if self.waiting.capacity() == 0 {
            self.waiting = take();
        }
        for slice in slices {
            self.waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<T> Drop for Gathered<T> {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.waiting));
    }
}

fn take() -> Vec<u8> {
    BUFFERS
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Vec::with_capacity(ROOM))
}

fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    BUFFERS.with_borrow_mut(|spare| {
        if buffer.capacity() > 0 && spare.len() < SPARE {
            spare.push(buffer);
        }
    });
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(data)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.borrow_mut();
        ready!(gathered.poll_send(cx))?;
        Pin::new(&mut gathered.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::AsyncReadExt;

    /// What was sent, as far as it went.
    async fn sent(end: &mut tokio::io::DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        end.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn waits_until_it_is_sent() {
        let (inner, mut end) = tokio::io::duplex(1 << 10);
        let gather = Gather::new(inner);
        let cx = &mut Context::from_waker(Waker::noop());
        for word in ["one ", "two "] {
            let written = Pin::new(&mut gather.clone()).poll_write(cx, word.as_bytes());
            assert!(matches!(written, Poll::Ready(Ok(4))));
            assert!(Pin::new(&mut gather.clone()).poll_flush(cx).is_ready());
        }
        let mut bytes = [0; 16];
        assert!(
            Pin::new(&mut end)
                .poll_read(cx, &mut ReadBuf::new(&mut bytes))
                .is_pending()
        );
        assert!(gather.poll_send(cx).is_ready());
        drop(gather);
        assert_eq!(sent(&mut end).await, b"one two ");
    }

    #[tokio::test]
    async fn order_and_bytes_hold_when_the_stream_is_full() {
        let (inner, mut end) = tokio::io::duplex(100);
        let gather = Gather::new(inner);
        let mut writer = gather.clone();
        let expected: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let writing = async {
            let mut rest = &expected[..];
            // Some fit, some don't, and some are larger than the buffer.
            for length in [1, 500, ROOM - 1, ROOM, ROOM + 1, 7].iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let now = &rest[..rest.len().min(*length)];
                let written = std::future::poll_fn(|cx| {
                    Pin::new(&mut writer).poll_write_vectored(cx, &[IoSlice::new(now)])
                });
                rest = &rest[written.await.unwrap()..];
            }
            std::future::poll_fn(|cx| Pin::new(&mut writer).poll_shutdown(cx))
                .await
                .unwrap();
        };
        let ((), bytes) = tokio::join!(writing, sent(&mut end));
        assert!(bytes == expected);
    }
}
