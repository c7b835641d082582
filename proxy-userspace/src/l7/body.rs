//! Bodies on their way through: pulled by whoever writes them, so that a slow reader slows its sender.

use super::{
    balance::InFlight,
    connection::Busy,
    error::Fault,
    grpc_web,
    upstream::{H1Lease, Pool},
};
use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

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

/// Data, then trailers, of an HTTP/2 stream. What is taken is open to the sender again at once: whoever polls has room.
fn poll_stream(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    match ready!(stream.poll_data(cx)) {
        Some(Ok(data)) => {
            let released = stream.flow_control().release_capacity(data.len());
            Poll::Ready(Some(released.map(|()| Frame::data(data))))
        }
        Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => Poll::Ready(None),
        Some(Err(error)) => Poll::Ready(Some(Err(error))),
        None => match ready!(stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        },
    }
}

/// Told how a response went, once, when its body is done or dropped.
pub trait Finished {
    /// `complete`: to its last byte.
    fn finished(&mut self, bytes: u64, complete: bool, trailers: Option<&HeaderMap>);
}

/// A response's body on its way to a client.
pub struct ResponseBody {
    kind: ResponseKind,
    bytes: u64,
    finished: Option<Box<dyn Finished>>,
    busy: Option<Busy>,
    in_flight: Option<InFlight<Rc<Pool>>>,
    idle: Duration,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

enum ResponseKind {
    Empty,
    Full(Bytes),
    H1(Incoming, Option<Box<H1Lease>>),
    /// The upload, where it still goes on, ends with it.
    H2(RecvStream, Option<super::upstream::Uploading>),
    Web(Box<grpc_web::Encoder>),
}

impl ResponseBody {
    /// No body.
    pub fn empty() -> Self {
        Self::from_kind(ResponseKind::Empty)
    }

    /// One that Weir makes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::from_kind(ResponseKind::Full(bytes.into()))
    }

    /// From an endpoint over HTTP/1.1; the lease, if given, is driven by reading, and goes back to its pool at the end.
    pub fn h1(incoming: Incoming, lease: Option<Box<H1Lease>>) -> Self {
        let mut body = Self::from_kind(ResponseKind::H1(incoming, lease));
        body.release_if_ended();
        body
    }

    /// From an endpoint over HTTP/2.
    pub fn h2(stream: RecvStream, uploading: Option<super::upstream::Uploading>) -> Self {
        Self::from_kind(ResponseKind::H2(stream, uploading))
    }

    /// gRPC's body as gRPC-Web's.
    pub fn encoded(mut self, is_text: bool) -> Self {
        let finished = self.finished.take();
        let (idle, deadline) = (self.idle, self.deadline);
        let mut body = Self::from_kind(ResponseKind::Web(Box::new(grpc_web::Encoder::new(self, is_text))));
        body.finished = finished;
        body.set_timeouts(idle, deadline);
        body
    }

    fn from_kind(kind: ResponseKind) -> Self {
        Self {
            kind,
            bytes: 0,
            finished: None,
            busy: None,
            in_flight: None,
            idle: Duration::ZERO,
            deadline: None,
            timer: None,
        }
    }

    /// The client's connection is busy until the end.
    pub fn hold(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    /// The endpoint has a request in flight until the end.
    pub fn hold_in_flight(&mut self, in_flight: InFlight<Rc<Pool>>) {
        self.in_flight = Some(in_flight);
    }

    /// Who is told of its end.
    pub fn tell(&mut self, finished: Box<dyn Finished>) {
        self.finished = Some(finished);
    }

    /// Ends with a fault after `idle` without a byte (zero: never), or at the deadline.
    pub fn set_timeouts(&mut self, idle: Duration, deadline: Option<Instant>) {
        self.idle = idle;
        self.deadline = deadline;
    }

    fn tell_finished(&mut self, complete: bool, trailers: Option<&HeaderMap>) {
        if let Some(mut finished) = self.finished.take() {
            finished.finished(self.bytes, complete, trailers);
        }
    }

    /// An endpoint's connection is free as soon as its last byte was read, not when the client has it.
    fn release_if_ended(&mut self) {
        if let ResponseKind::H1(incoming, lease) = &mut self.kind
            && incoming.is_end_stream()
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.kind {
            ResponseKind::Empty => Poll::Ready(None),
            ResponseKind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseKind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseKind::H1(incoming, lease) => {
                let mut frame = Pin::new(&mut *incoming).poll_frame(cx);
                if frame.is_pending()
                    && let Some(lease) = lease
                {
                    lease.drive(cx);
                    frame = Pin::new(incoming).poll_frame(cx);
                }
                let frame = ready!(frame).map(|frame| frame.map_err(|_| Fault::Reset));
                match &frame {
                    None => {
                        if let Some(lease) = lease.take() {
                            lease.give_back();
                        }
                    }
                    Some(_) => self.release_if_ended(),
                }
                Poll::Ready(frame)
            }
            ResponseKind::H2(stream, _) => {
                let frame = ready!(poll_stream(stream, cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|_| Fault::Reset)))
            }
            ResponseKind::Web(encoder) => Pin::new(&mut **encoder).poll_frame(cx),
        }
    }

    /// Arms the timer when there is nothing to send; true when the time is over.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> bool {
        if self.idle.is_zero() && self.deadline.is_none() {
            return false;
        }
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                let idle = (!self.idle.is_zero()).then(|| Instant::now() + self.idle);
                let Some(until) = idle.into_iter().chain(self.deadline).min() else {
                    return false;
                };
                none.insert(Box::pin(tokio::time::sleep_until(until)))
            }
        };
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = this.poll_kind(cx) else {
            if this.poll_timeout(cx) {
                this.tell_finished(false, None);
                this.kind = ResponseKind::Empty;
                return Poll::Ready(Some(Err(Fault::Timeout)));
            }
            return Poll::Pending;
        };
        this.timer = None;
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.bytes += data.len() as u64;
                    if this.finished.is_some() && this.is_end_stream() {
                        this.tell_finished(true, None);
                    }
                } else {
                    this.tell_finished(true, frame.trailers_ref());
                }
            }
            Some(Err(_)) => this.tell_finished(false, None),
            None => this.tell_finished(true, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            ResponseKind::Empty => true,
            ResponseKind::Full(bytes) => bytes.is_empty(),
            ResponseKind::H1(incoming, _) => incoming.is_end_stream(),
            ResponseKind::H2(stream, _) => stream.is_end_stream(),
            ResponseKind::Web(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Empty => SizeHint::with_exact(0),
            ResponseKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseKind::H1(incoming, _) => incoming.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        self.tell_finished(complete, None);
    }
}
