//! One HTTP/2 connection to an endpoint, shared by many requests of a worker.

use super::{
    Failed,
    pool::{Pool, Slot},
};
use crate::l7::{
    body::{RequestBody, ResponseBody},
    error::Fault,
    gather::Gather,
    interim::InterimSink,
    pump::Pump,
    stream::Transport,
};
use bytes::Bytes;
use h2::{Ping, PingPong, client::SendRequest};
use http::{Request, Response};
use hyper::body::Body as _;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};
use tokio::{sync::OnceCell, task::JoinHandle, time::Instant};

/// Bytes an endpoint may send on one stream before its client has read any. A connection's window is this times its
/// streams: clients that don't read stall nobody else.
const STREAM_WINDOW: u32 = 256 << 10;

/// A connection and what its pool needs to know.
pub struct H2Connection {
    sender: SendRequest<Bytes>,
    streams: Cell<u32>,
    closed: Cell<bool>,
    pub(super) opened: Instant,
    pub(super) idle_since: Cell<Instant>,
    ping: Cell<Option<PingPong>>,
    /// Set once the endpoint's SETTINGS have come, if anybody asked.
    settled: OnceCell<()>,
}

impl H2Connection {
    pub(super) async fn open(transport: Transport, slot: Slot) -> Result<Rc<Self>, Fault> {
        let pool = Rc::clone(slot.pool());
        let max_streams = pool.settings().max_streams;
        let io = Gather::new(transport);
        let written = io.clone();
        let (sender, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW.saturating_mul(max_streams).min(i32::MAX as u32))
            .max_frame_size(64 << 10)
            .max_header_list_size(256 << 10)
            .initial_max_send_streams(max_streams as usize)
            .max_send_buffer_size(1 << 20)
            .handshake(io)
            .await
            .map_err(|_| Fault::Reset)?;
        let this = Rc::new(Self {
            sender,
            streams: Cell::new(0),
            closed: Cell::new(false),
            opened: Instant::now(),
            idle_since: Cell::new(Instant::now()),
            ping: Cell::new(connection.ping_pong()),
            settled: OnceCell::new(),
        });
        let weak = Rc::downgrade(&this);
        tokio::task::spawn_local(async move {
            // Ends when the endpoint closes, or when the last handle is gone.
            poll_fn(|cx| {
                let over = std::pin::Pin::new(&mut connection).poll(cx).is_ready();
                let failed = matches!(written.poll_send(cx), Poll::Ready(Err(_)));
                if over || failed {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            if let Some(this) = weak.upgrade() {
                this.closed.set(true);
                pool.forget(&this);
            }
            drop(slot);
        });
        Ok(this)
    }

    /// Whether it can take another request of this worker.
    pub(super) fn has_room(&self, max_streams: u32) -> bool {
        let most = (max_streams as usize).min(self.sender.current_max_send_streams());
        !self.closed.get() && (self.streams.get() as usize) < most
    }

    pub(super) fn streams(&self) -> u32 {
        self.streams.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

/// One stream's place on a connection.
pub struct H2Lease {
    connection: Rc<H2Connection>,
    pool: Rc<Pool>,
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        let streams = self.connection.streams.get() - 1;
        self.connection.streams.set(streams);
        if streams == 0 {
            self.connection.idle_since.set(Instant::now());
        }
        self.pool.wake_one();
    }
}

/// An upload that goes on while the response comes; dropped, it ends.
pub struct Uploading {
    task: Option<JoinHandle<()>>,
    _lease: H2Lease,
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// An answer over HTTP/2; for a tunnel, both directions.
pub enum H2Answer {
    /// A response.
    Response(Response<ResponseBody>),
    /// 2xx to CONNECT.
    Tunnel(Response<()>, h2::RecvStream, h2::SendStream<Bytes>, H2Lease),
}

impl H2Lease {
    pub(super) fn new(connection: Rc<H2Connection>, pool: Rc<Pool>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection, pool }
    }

    /// Whether the endpoint takes WebSocket by extended CONNECT (RFC 8441). On a new connection its SETTINGS may be on
    /// their way; they come before the answer to a ping.
    pub async fn takes_extended_connect(&self) -> bool {
        let connection = &*self.connection;
        let enabled = || connection.sender.is_extended_connect_protocol_enabled();
        if !enabled() {
            connection
                .settled
                .get_or_init(async || {
                    let ping = connection.ping.take();
                    if let Some(mut ping) = ping {
                        // A connection that breaks is noticed by the request.
                        let _pong = ping.ping(Ping::opaque()).await;
                    }
                })
                .await;
        }
        enabled()
    }

    /// Sends a request and waits for the response's head.
    ///
    /// # Errors
    /// What happened; [`Fault::Refused`] where the endpoint did not process it.
    pub async fn send(self, request: Request<RequestBody>, sink: &InterimSink) -> Result<H2Answer, Failed> {
        let is_connect = request.method() == http::Method::CONNECT;
        let mut sender = self.connection.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            let unsent = Some(Box::new(request));
            return Err(Failed {
                fault: fault(&error),
                unsent,
            });
        }
        let (head, body) = request.into_parts();
        let upload = body.upload().cloned();
        let ends = body.is_end_stream() && !is_connect;
        let (response, stream) = sender
            .send_request(Request::from_parts(head, ()), ends)
            .map_err(|e| fault(&e))?;
        let mut response = pin!(response);
        if is_connect {
            let answer = response.await.map_err(|e| fault(&e))?;
            let (head, receive) = answer.into_parts();
            let head = Response::from_parts(head, ());
            if head.status().is_success() {
                return Ok(H2Answer::Tunnel(head, receive, stream, self));
            }
            return Ok(self.response(head, receive, None));
        }
        let mut pump = (!ends).then(|| Box::pin(Pump::new(stream, body)));
        let answer = poll_fn(|cx| {
            if let Some(running) = &mut pump
                && running.as_mut().poll(cx).is_ready()
            {
                pump = None;
            }
            while let Poll::Ready(Some(Ok(interim))) = response.as_mut().get_mut().poll_informational(cx) {
                sink.send(interim);
            }
            response.as_mut().poll(cx)
        })
        .await;
        let (head, receive) = answer
            .map_err(|error| {
                let client = upload.and_then(|upload| upload.fault());
                Failed::from(client.unwrap_or_else(|| fault(&error)))
            })?
            .into_parts();
        let task = pump.map(|pump| {
            tokio::task::spawn_local(async move {
                let _outcome = pump.await;
            })
        });
        Ok(self.response(Response::from_parts(head, ()), receive, task))
    }

    fn response(self, head: Response<()>, receive: h2::RecvStream, task: Option<JoinHandle<()>>) -> H2Answer {
        let uploading = Uploading { task, _lease: self };
        let length = head.headers().get(http::header::CONTENT_LENGTH);
        let expected = length.and_then(|value| value.to_str().ok()?.parse().ok());
        H2Answer::Response(head.map(|()| ResponseBody::h2(receive, Some(uploading), expected)))
    }
}

fn fault(error: &h2::Error) -> Fault {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Fault::Refused,
        // GOAWAY before it was sent.
        Some(h2::Reason::NO_ERROR) if error.is_go_away() => Fault::Refused,
        Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FLOW_CONTROL_ERROR | h2::Reason::COMPRESSION_ERROR) => {
            Fault::BadResponse
        }
        _ => Fault::Reset,
    }
}
