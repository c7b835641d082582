//! A request's body on its way to an endpoint, and what its other half wants to know of it.

use super::poll_stream;
use crate::l7::{error::Fault, grpc_web};
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// What the request's other half wants to know about its body while it is being sent on.
pub struct Upload {
    received: Cell<u64>,
    limit: Cell<u64>,
    /// When its last byte, or the last so far, came.
    latest: Cell<Instant>,
    finished: Cell<bool>,
    fault: Cell<Option<Fault>>,
}

impl Upload {
    /// Whether all of it came.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// When its latest byte came.
    pub fn latest(&self) -> Instant {
        self.latest.get()
    }

    /// Its bytes so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Why it was cut off.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }
}

/// A request's body on its way to an endpoint.
pub struct RequestBody {
    kind: RequestKind,
    upload: Option<Rc<Upload>>,
}

enum RequestKind {
    Empty,
    H1(Incoming),
    H2(RecvStream),
    Web(Box<grpc_web::Decoder>),
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            kind: RequestKind::Empty,
            upload: None,
        }
    }

    /// From a client that speaks HTTP/1.1, with a bound in bytes.
    pub fn h1(incoming: Incoming, limit: Option<u64>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self::from_kind(RequestKind::H1(incoming), limit)
    }

    /// From a client that speaks HTTP/2, with a bound in bytes.
    pub fn h2(stream: RecvStream, limit: Option<u64>) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Self::from_kind(RequestKind::H2(stream), limit)
    }

    /// gRPC-Web's body as gRPC's.
    pub fn decoded(self, is_text: bool) -> Self {
        let upload = self.upload.clone();
        Self {
            kind: RequestKind::Web(Box::new(grpc_web::Decoder::new(self, is_text))),
            upload,
        }
    }

    fn from_kind(kind: RequestKind, limit: Option<u64>) -> Self {
        Self {
            kind,
            upload: Some(Rc::new(Upload {
                received: Cell::new(0),
                limit: Cell::new(limit.unwrap_or(u64::MAX)),
                latest: Cell::new(Instant::now()),
                finished: Cell::new(false),
                fault: Cell::new(None),
            })),
        }
    }

    /// The client's end of a tunnel.
    pub fn tunnel(stream: RecvStream) -> Self {
        Self {
            kind: RequestKind::H2(stream),
            upload: None,
        }
    }

    /// Cut off with a fault when it is longer.
    pub fn limit(&self, bytes: u64) {
        if let Some(upload) = &self.upload {
            upload.limit.set(bytes);
        }
    }

    /// How it goes; none where there is nothing to send.
    pub fn upload(&self) -> Option<&Rc<Upload>> {
        self.upload.as_ref()
    }

    /// The tunnel's end of an HTTP/2 stream.
    pub fn into_stream(self) -> Option<RecvStream> {
        match self.kind {
            RequestKind::H2(stream) => Some(stream),
            _ => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            RequestKind::Empty => return Poll::Ready(None),
            RequestKind::H1(incoming) => ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| {
                frame.map_err(|error| {
                    if error.is_incomplete_message() {
                        Fault::ClientGone
                    } else {
                        Fault::BadRequest("the body's framing is broken")
                    }
                })
            }),
            RequestKind::H2(stream) => {
                ready!(poll_stream(stream, cx)).map(|frame| frame.map_err(|_| Fault::ClientGone))
            }
            RequestKind::Web(decoder) => return Pin::new(&mut **decoder).poll_frame(cx),
        };
        let Some(upload) = &this.upload else {
            return Poll::Ready(frame);
        };
        upload.latest.set(Instant::now());
        let outcome = match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                upload.received.set(upload.received.get() + bytes);
                if upload.received.get() > upload.limit.get() {
                    Some(Err(Fault::BodyTooLarge))
                } else {
                    Some(Ok(frame))
                }
            }
            other => other,
        };
        match &outcome {
            Some(Err(fault)) => upload.fault.set(Some(*fault)),
            None => upload.finished.set(true),
            Some(Ok(_)) if this.is_end_stream() => {
                if let Some(upload) = &this.upload {
                    upload.finished.set(true);
                }
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(outcome)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Empty => true,
            RequestKind::H1(incoming) => incoming.is_end_stream(),
            RequestKind::H2(stream) => stream.is_end_stream(),
            RequestKind::Web(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Empty => SizeHint::with_exact(0),
            RequestKind::H1(incoming) => incoming.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
