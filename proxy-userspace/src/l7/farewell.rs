//! The end of an HTTP/2 connection in two steps, without the loss of a stream that is on its way.
//!
//! The codec sends a GOAWAY for all streams and a PING, takes the PING's answer for the moment after which no more streams come (RFC 9113,
//! section 6.8), and passes over those that do: a WINDOW_UPDATE for one of them ends the whole connection with PROTOCOL_ERROR. But a client may
//! answer the PING ahead of streams that it has begun and not yet sent, as gRPC's do. So the answer is held back for a moment, as Envoy waits between its
//! two GOAWAYs (`drain_timeout`): what comes meanwhile is served.

use bytes::BytesMut;
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long the PING's answer is held back. What a client had begun is on its way with the answer, or right behind it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of a frame's header (RFC 9113, section 4.1).
const HEAD: usize = 9;

/// A PING's length, type and first flag (section 6.7).
const PING: (usize, u8, u8) = (8, 6, 1);

/// Bytes of the client's connection preface, which comes before the first frame (section 3.4).
const PREFACE: usize = 24;

/// What a client sends, from the connection's first byte on.
pub struct Farewell<T> {
    inner: T,
    frames: Frames,
    parting: Option<Box<Parting>>,
}

/// Where in a frame the bytes that were passed on ended.
struct Frames {
    /// Bytes of its payload still to come.
    left: usize,
    /// The bytes of its header that came.
    head: [u8; HEAD],
    filled: usize,
}

/// The connection has been told to end.
#[derive(Default)]
struct Parting {
    /// What came and isn't sorted: less than a frame's header, or than a PING.
    input: BytesMut,
    /// What the codec gets.
    output: BytesMut,
    answer: PingAnswer,
}

#[derive(Default)]
enum PingAnswer {
    #[default]
    Awaited,
    Held(BytesMut, Pin<Box<Sleep>>),
    Passed,
}

impl<T> Farewell<T> {
    /// The codec's reading end.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            frames: Frames {
                left: PREFACE,
                head: [0; HEAD],
                filled: 0,
            },
            parting: None,
        }
    }

    /// The codec is about to send its PING, the only one it sends.
    pub fn begin(&mut self) {
        self.parting.get_or_insert_default();
    }
}

impl Frames {
    fn is_between(&self) -> bool {
        self.left == 0 && self.filled == 0
    }

    /// Follows bytes that were passed on.
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Takes the rest of a payload or of a header, as far as it is there; returns of how many bytes.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            return taken;
        }
        let taken = (HEAD - self.filled).min(bytes.len());
        self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == HEAD {
            self.left = length(&self.head);
            self.filled = 0;
        }
        taken
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

impl Parting {
    /// Moves what came to the output, all but the PING's answer.
    fn sort(&mut self, frames: &mut Frames) {
        while !self.input.is_empty() {
            if frames.is_between() {
                if self.input.len() < HEAD {
                    return;
                }
                let (ping, kind, flag) = PING;
                let is_answer =
                    (length(&self.input), self.input[3]) == (ping, kind) && self.input[4] & flag != 0;
                if is_answer && matches!(self.answer, PingAnswer::Awaited) {
                    if self.input.len() < HEAD + ping {
                        return;
                    }
                    let answer = self.input.split_to(HEAD + ping);
                    self.answer = PingAnswer::Held(answer, Box::pin(sleep(PATIENCE)));
                    continue;
                }
            }
            let taken = frames.step(&self.input);
            self.output.extend_from_slice(&self.input.split_to(taken));
        }
    }

    /// Passes the PING's answer on, when its time has come or nothing follows it.
    fn release(&mut self, cx: &mut Context<'_>, frames: &Frames, is_over: bool) {
        if let PingAnswer::Held(answer, time) = &mut self.answer
            && frames.is_between()
            && (time.as_mut().poll(cx).is_ready() || is_over)
        {
            self.output.extend_from_slice(answer);
            self.answer = PingAnswer::Passed;
        }
    }

    fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        (inner, frames): (&mut T, &mut Frames),
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut is_over = false;
        loop {
            self.release(cx, frames, is_over);
            if is_over {
                // Half a header is all that can be left.
                self.output.extend_from_slice(&self.input.split());
            }
            if !self.output.is_empty() {
                let taken = self.output.len().min(buffer.remaining());
                buffer.put_slice(&self.output.split_to(taken));
                return Poll::Ready(Ok(()));
            }
            if is_over {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 4 << 10];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut *inner).poll_read(cx, &mut read))?;
            is_over = read.filled().is_empty();
            self.input.extend_from_slice(read.filled());
            self.sort(frames);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Farewell<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(parting) = &mut this.parting {
            return parting.poll_read(cx, (&mut this.inner, &mut this.frames), buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.frames.follow(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Farewell<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A frame of zeroes.
    fn frame(kind: u8, flags: u8, stream: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, stream];
        frame.resize(HEAD + length, 0);
        frame
    }

    async fn read(farewell: &mut Farewell<tokio::io::DuplexStream>, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        farewell.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// In pieces of every size: headers, payloads and the answer are cut anywhere, also where it begins.
    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_last_however_bytes_are_cut() {
        for piece in 1..60 {
            let (mut client, end) = tokio::io::duplex(1 << 16);
            let mut farewell = Farewell::new(end);
            let before = [vec![0; PREFACE], frame(4, 0, 0, 12), frame(1, 5, 1, 300)].concat();
            let (early, late) = before.split_at(before.len() - 200 - piece);
            client.write_all(early).await.unwrap();
            assert_eq!(read(&mut farewell, early.len()).await, early);
            farewell.begin();
            let (unasked, answer) = (frame(6, 0, 0, 8), frame(6, 1, 0, 8));
            let behind = [frame(1, 5, 3, 40), frame(8, 0, 3, 4), frame(0, 1, 5, 0)].concat();
            let sent = [late, &unasked, &answer, &behind].concat();
            let expected = [late, &unasked, &behind, &answer].concat();
            let sending = tokio::spawn(async move {
                for bytes in sent.chunks(piece) {
                    client.write_all(bytes).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client
            });
            assert!(read(&mut farewell, expected.len()).await == expected, "{piece}");
            let mut client = sending.await.unwrap();
            // A second one is nobody's business, and the end is the end.
            client.write_all(&answer).await.unwrap();
            assert_eq!(read(&mut farewell, answer.len()).await, answer);
            client.write_all(&[0, 0]).await.unwrap();
            drop(client);
            let mut rest = Vec::new();
            farewell.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, [0, 0]);
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_not_waited_for() {
        let (mut client, end) = tokio::io::duplex(1 << 10);
        let mut farewell = Farewell::new(end);
        farewell.begin();
        let sent = [vec![0; PREFACE], frame(6, 1, 0, 8)].concat();
        client.write_all(&sent).await.unwrap();
        drop(client);
        let mut bytes = Vec::new();
        farewell.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, sent);
    }
}
