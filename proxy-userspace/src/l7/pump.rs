//! Writes a body into an HTTP/2 stream as its window allows.

use super::error::Fault;
use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body on its way into a stream. Ends when the last byte was handed to the stream, or with the stream.
pub struct Pump<B> {
    stream: SendStream<Bytes>,
    body: B,
    waiting: Bytes,
    is_last: bool,
}

/// Why a body was not sent to its end.
#[derive(thiserror::Error, Debug)]
pub enum Stopped {
    /// The peer reset the stream, or its connection is gone.
    #[error("the peer reset the stream")]
    ByPeer,
    /// The body failed; the stream was reset.
    #[error("{0}")]
    ByBody(Fault),
}

impl<B: Body<Data = Bytes, Error = Fault> + Unpin> Pump<B> {
    /// Nothing is sent yet.
    pub fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            waiting: Bytes::new(),
            is_last: false,
        }
    }

    /// Sends what waits; true when the stream is ended by it.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        while !self.waiting.is_empty() {
            // A repeated request for capacity replaces the last.
            self.stream.reserve_capacity(self.waiting.len());
            let capacity = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    _ => return Poll::Ready(Err(Stopped::ByPeer)),
                },
                capacity => capacity,
            };
            let now = self.waiting.split_to(capacity.min(self.waiting.len()));
            let ends = self.is_last && self.waiting.is_empty();
            if self.stream.send_data(now, ends).is_err() {
                return Poll::Ready(Err(Stopped::ByPeer));
            }
            if ends {
                return Poll::Ready(Ok(true));
            }
        }
        Poll::Ready(Ok(false))
    }
}

impl<B: Body<Data = Bytes, Error = Fault> + Unpin> Future for Pump<B> {
    type Output = Result<(), Stopped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this.poll_waiting(cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(stopped)) => return Poll::Ready(Err(stopped)),
                Poll::Pending => {
                    return match this.stream.poll_reset(cx) {
                        Poll::Ready(_) => Poll::Ready(Err(Stopped::ByPeer)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
            let frame = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    return match this.stream.poll_reset(cx) {
                        Poll::Ready(_) => Poll::Ready(Err(Stopped::ByPeer)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            };
            match frame {
                None => {
                    let sent = this.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(sent.map_err(|_| Stopped::ByPeer));
                }
                Some(Err(fault)) => {
                    this.stream.send_reset(reset_reason(fault));
                    return Poll::Ready(Err(Stopped::ByBody(fault)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.is_last = this.body.is_end_stream();
                        if data.is_empty() && this.is_last {
                            let sent = this.stream.send_data(data, true);
                            return Poll::Ready(sent.map_err(|_| Stopped::ByPeer));
                        }
                        this.waiting = data;
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            let sent = this.stream.send_trailers(trailers);
                            return Poll::Ready(sent.map_err(|_| Stopped::ByPeer));
                        }
                    }
                },
            }
        }
    }
}

/// What the other side is told of a body that ended early.
fn reset_reason(fault: Fault) -> Reason {
    match fault {
        Fault::ClientGone => Reason::CANCEL,
        Fault::BodyTooLarge => Reason::NO_ERROR,
        _ => Reason::INTERNAL_ERROR,
    }
}
