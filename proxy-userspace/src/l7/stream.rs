//! A connection's bytes, plain or inside TLS, as the HTTP codecs and tunnels read and write them.

use super::{scratch, tcp};
use bytes::{Buf, Bytes, BytesMut};
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// What carries the bytes. One type for all keeps the codecs from being compiled several times.
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS with a client.
    Server(Box<server::TlsStream<TcpStream>>),
    /// TLS with an endpoint.
    Client(Box<client::TlsStream<TcpStream>>),
}

impl Transport {
    /// The socket beneath.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Server(stream) => stream.get_ref().0,
            Self::Client(stream) => stream.get_ref().0,
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Transport::Plain($stream) => $call,
            Transport::Server($stream) => $call,
            Transport::Client($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match (&mut *this, slices) {
            (Self::Plain(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Self::Plain(stream), _) if slices.iter().map(|slice| slice.len()).sum::<usize>() <= GATHERED => {
                poll_write_gathered(stream, cx, slices)
            }
            _ => each!(this, stream => Pin::new(stream).poll_write_vectored(cx, slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }
}

/// Writes of up to this many bytes are copied together: send(2) costs less than writev(2) by more than the copy.
const GATHERED: usize = 4 << 10;

fn poll_write_gathered(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    scratch::with(|buffer| {
        let mut length = 0;
        for slice in slices {
            buffer[length..length + slice.len()].copy_from_slice(slice);
            length += slice.len();
        }
        Pin::new(stream).poll_write(cx, &buffer[..length])
    })
}

impl tcp::Stream for Transport {
    fn socket(&self) -> Option<&TcpStream> {
        Some(Self::socket(self))
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// Told what happens on a client's connection, without a clock read or a lock.
pub trait Observer {
    /// Bytes came in.
    fn received(&self, bytes: usize);
    /// Bytes went out.
    fn sent(&self, bytes: usize);
}

/// A client's connection: what was read ahead of its codec comes first, and interim responses slip in between the
/// codec's writes.
pub struct Io<O> {
    transport: Transport,
    ahead: Bytes,
    interim: Rc<RefCell<BytesMut>>,
    observer: O,
}

impl<O: Observer> Io<O> {
    /// `ahead`: what was read already.
    pub fn new(transport: Transport, ahead: Bytes, observer: O) -> Self {
        Self {
            transport,
            ahead,
            interim: Rc::default(),
            observer,
        }
    }

    /// Where interim (1xx) responses are put, whole, while the codec waits for the final one. hyper's server has no
    /// way to send them; it flushes after every turn, and that is when they go out.
    pub fn interim(&self) -> Rc<RefCell<BytesMut>> {
        Rc::clone(&self.interim)
    }

    /// The transport, and what was read ahead and not yet used.
    pub fn into_parts(self) -> (Transport, Bytes) {
        (self.transport, self.ahead)
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.interim.borrow_mut();
        while !interim.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.observer.sent(written);
            interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<O: Observer + Unpin> AsyncRead for Io<O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.transport).poll_read(cx, buffer))?;
        } else {
            let taken = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(taken));
        }
        this.observer.received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<O: Observer + Unpin> AsyncWrite for Io<O> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut this.transport).poll_write(cx, data))?;
        this.observer.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut this.transport).poll_write_vectored(cx, slices))?;
        this.observer.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}
