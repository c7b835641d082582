//! A response's body on its way to a client: what it holds is let go at its end.

use super::poll_stream;
use crate::l7::{
    balance::InFlight,
    connection::Busy,
    error::Fault,
    grpc_web,
    meters::Measure,
    upstream::{H1Lease, Pool, Uploading},
};
use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, timeout};

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
    measure: Option<Measure>,
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
    H2 {
        stream: RecvStream,
        uploading: Option<Uploading>,
        /// Its content-length.
        expected: Option<u64>,
    },
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
    pub fn h2(stream: RecvStream, uploading: Option<Uploading>, expected: Option<u64>) -> Self {
        Self::from_kind(ResponseKind::H2 {
            stream,
            uploading,
            expected,
        })
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
            measure: None,
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

    /// Its request is counted when it ends.
    pub fn measure(&mut self, measure: Measure) {
        self.measure = Some(measure);
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
            ResponseKind::H2 { stream, .. } => {
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
            ResponseKind::H2 { stream, .. } => stream.is_end_stream(),
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
        if let Some(measure) = &mut self.measure {
            measure.sent(self.bytes);
        }
        let mut complete = self.is_end_stream();
        if let ResponseKind::H2 { expected, .. } = &self.kind
            && !complete
            && *expected == Some(self.bytes)
        {
            complete = true;
            await_end(std::mem::replace(&mut self.kind, ResponseKind::Empty));
        }
        self.tell_finished(complete, None);
    }
}

/// A client over HTTP/1.1 has all of a body when it has content-length bytes, and its codec reads no further. The frame that
/// ends the stream may be on its way: without waiting for it the stream would be reset, though nothing is wrong.
fn await_end(kind: ResponseKind) {
    const END: Duration = Duration::from_secs(5);
    let ResponseKind::H2 {
        mut stream,
        uploading,
        ..
    } = kind
    else {
        return;
    };
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    tokio::task::spawn_local(async move {
        let _held_until_then = uploading;
        let end = poll_fn(|cx| poll_stream(&mut stream, cx));
        // Data over the content-length, or nothing: either way it is over.
        let _over = timeout(END, end).await;
    });
}
