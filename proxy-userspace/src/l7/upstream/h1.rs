//! One HTTP/1.1 connection to an endpoint, driven by the task of the request that uses it: no task of its own, so no
//! wake-up between two tasks for each of its turns.

use super::{
    Failed,
    pool::{Pool, Slot},
};
use crate::l7::{
    body::{RequestBody, ResponseBody, Upload},
    error::Fault,
    interim::{Interim, InterimSink},
    stream::Transport,
};
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// Whether something came on a waiting connection: most likely its end.
#[derive(Default)]
struct News(AtomicBool);

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection on loan to one request. Dropped, it is closed.
pub struct H1Lease {
    sender: SendRequest<RequestBody>,
    connection: Connection<TokioIo<Transport>, RequestBody>,
    /// The connection's future has ended: it must not be polled again.
    over: bool,
    /// It takes no request after this one.
    last: bool,
    interim: Interim,
    /// Woken when something comes while nobody uses it.
    news: Arc<News>,
    /// When it was opened.
    pub(super) opened: Instant,
    /// Since when it has been idle; none before its first request.
    pub(super) idle_since: Option<Instant>,
    slot: Slot,
}

impl H1Lease {
    pub(super) async fn open(transport: Transport, slot: Slot) -> Result<Box<Self>, Fault> {
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .handshake(TokioIo::new(transport))
            .await
            .map_err(|_| Fault::Reset)?;
        Ok(Box::new(Self {
            sender,
            connection,
            over: false,
            last: false,
            interim: Interim::default(),
            news: Arc::default(),
            opened: Instant::now(),
            idle_since: None,
            slot,
        }))
    }

    /// Whether it has served a request before: then the endpoint may have closed it meanwhile.
    pub fn is_reused(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Whether its endpoint may have closed it just now, unseen: it was idle for longer than a close takes to arrive.
    pub fn may_be_stale(&self) -> bool {
        const FRESH: Duration = Duration::from_millis(5);
        self.idle_since.is_some_and(|since| since.elapsed() >= FRESH)
    }

    /// Not to be used again: endpoints that refuse an upgrade tend to close behind it.
    pub fn is_last(&mut self) {
        self.last = true;
    }

    /// Moves bytes, as far as they go.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over && self.connection.poll_without_shutdown(cx).is_ready() {
            self.over = true;
        }
    }

    /// Whether it can take a request now, and word if something comes while it waits for one.
    fn settle(&mut self) -> bool {
        self.news.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.news));
        self.drive(&mut Context::from_waker(&waker));
        !self.over && self.sender.is_ready()
    }

    /// Whether it can take a request, after it has waited: nothing came, or no close by the endpoint.
    pub(super) fn is_usable(&mut self) -> bool {
        !self.news.0.load(Ordering::Relaxed) || self.settle()
    }

    /// Back to its pool, if it can take another request.
    pub fn give_back(mut self: Box<Self>) {
        if !self.last && self.settle() {
            let pool = Rc::clone(self.pool());
            pool.put(self);
        }
    }

    fn pool(&self) -> &Rc<Pool> {
        self.slot.pool()
    }

    /// Sends a request and waits for the response's head.
    ///
    /// # Errors
    /// What happened, and the request where it wasn't sent.
    pub fn send(
        mut self: Box<Self>,
        mut request: Request<RequestBody>,
        sink: &InterimSink,
    ) -> impl Future<Output = Result<Answer, Failed>> {
        let upload = request.body().upload().cloned();
        self.interim.listen(&mut request);
        // Boxed, and handed over before the first await: the request is stored once, and not in its caller's future.
        let mut response = Box::pin(self.sender.try_send_request(request));
        async move {
            let (connection, over, interim) = (&mut self.connection, &mut self.over, &self.interim);
            let outcome = poll_fn(|cx| {
                if !*over && connection.poll_without_shutdown(cx).is_ready() {
                    *over = true;
                }
                interim.pass_to(sink);
                response.as_mut().poll(cx)
            })
            .await;
            drop(response);
            match outcome {
                Ok(response) => Ok(self.answer(response, upload.as_deref())),
                Err(mut error) => {
                    let unsent = error.take_message().map(Box::new);
                    let client = upload.and_then(|upload| upload.fault());
                    let fault = client.unwrap_or(if error.error().is_parse() {
                        Fault::BadResponse
                    } else {
                        Fault::Reset
                    });
                    Err(Failed { fault, unsent })
                }
            }
        }
    }

    fn answer(self: Box<Self>, response: Response<Incoming>, upload: Option<&Upload>) -> Answer {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Answer::Tunnel(response.map(|_| ()), self);
        }
        let uploading = upload.is_some_and(|upload| !upload.is_finished());
        if uploading {
            // Reading the response must not be what moves the request: a client that reads late would block itself.
            let (head, incoming) = response.into_parts();
            tokio::task::spawn_local(self.drive_to_end());
            return Answer::Response(Response::from_parts(head, ResponseBody::h1(incoming, None)));
        }
        Answer::Response(response.map(|incoming| ResponseBody::h1(incoming, Some(self))))
    }

    async fn drive_to_end(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.over || self.sender.is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        self.give_back();
    }

    /// The bare connection after a 101, and what was read behind it.
    pub async fn into_tunnel(mut self: Box<Self>) -> (Transport, bytes::Bytes, Slot) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let this = *self;
        let parts = this.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf, this.slot)
    }
}

/// What came back.
pub enum Answer {
    /// A response.
    Response(Response<ResponseBody>),
    /// 101 (or 2xx to CONNECT): the connection is a tunnel now.
    Tunnel(Response<()>, Box<H1Lease>),
}
