//! HTTP/1.1 with a client: hyper's codec, tunnels after a 101, and an end that loses no response.

use super::{
    body::{RequestBody, ResponseBody},
    compile::CompiledKind,
    connection::{Busy, Connection, Order, Phase},
    interim::InterimSink,
    serve::{self, Answer},
    stream::{Io, Transport},
    tunnel::Tunnel,
};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// After our last byte the client may send for this long at most, and this much: closing at once would reset the
/// connection, and the client would lose what it has not yet read (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

const EXPIRED: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves requests until either side ends it.
pub async fn serve(connection: Rc<Connection>, transport: Transport, ahead: Bytes) {
    let io = Io::new(transport, ahead, Rc::clone(&connection));
    let interim = io.interim();
    let tunnel: Rc<RefCell<Option<Box<Tunnel>>>> = Rc::default();
    let (header_bytes, header_count) = limits(&connection);
    let service = Requests::new(Rc::clone(&connection), interim, Rc::clone(&tunnel));
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .auto_date_header(false)
        .max_header_size(header_bytes);
    // hyper has room for this many on its stack; any other number costs an allocation a request.
    const ON_THE_STACK: usize = 100;
    if header_count != ON_THE_STACK {
        builder.max_headers(header_count);
    }
    let mut codec = builder.serve_connection(TokioIo::new(io), service);
    let mut told = None;
    let ended = poll_fn(|cx| {
        let order = connection.order(cx.waker());
        if order != told {
            told = order;
            match order {
                // A head that never ends: the codec has nothing to say about it.
                Some(Order::Expire) if connection.phase() == Phase::Head => return Poll::Ready(Ok(())),
                // The next response says `connection: close`.
                Some(Order::Leave) => {}
                _ => Pin::new(&mut codec).graceful_shutdown(),
            }
        }
        codec.poll_without_shutdown(cx)
    })
    .await;
    let parts = codec.into_parts();
    let (transport, ahead) = parts.io.into_inner().into_parts();
    if let Some(tunnel) = tunnel.take() {
        let early = if parts.read_buf.is_empty() {
            ahead
        } else {
            parts.read_buf
        };
        return tunnel.run(&connection, transport, early).await;
    }
    if let Err(error) = ended {
        tracing::debug!("{}: HTTP/1.1: {error}", connection.peer);
    }
    let expired = told == Some(Order::Expire) && connection.phase() == Phase::Head;
    end(transport, if expired { EXPIRED } else { b"" }).await;
}

fn limits(connection: &Connection) -> (usize, usize) {
    match &connection.listener.serving().compiled.kind {
        CompiledKind::Http { settings, .. } => (
            settings.limits.header_bytes as usize,
            settings.limits.header_count.into(),
        ),
        CompiledKind::Tcp(_) => (0, 0),
    }
}

/// A connection's requests, one after the other. One future answers all of them: it holds some KiB of state, which a future a
/// request would write to fresh memory each time.
struct Requests(Rc<Exchange>);

/// What hyper and that future hand each other.
struct Exchange {
    request: Cell<Option<Request<Incoming>>>,
    response: Cell<Option<Response<ResponseBody>>>,
    /// Only polled, never ends.
    answering: RefCell<Pin<Box<dyn Future<Output = Infallible>>>>,
}

impl Requests {
    fn new(
        connection: Rc<Connection>,
        interim: Rc<RefCell<BytesMut>>,
        tunnel: Rc<RefCell<Option<Box<Tunnel>>>>,
    ) -> Self {
        Self(Rc::new_cyclic(|exchange: &Weak<Exchange>| {
            let exchange = Weak::clone(exchange);
            Exchange {
                request: Cell::default(),
                response: Cell::default(),
                answering: RefCell::new(Box::pin(async move {
                    loop {
                        let request = poll_fn(|_| take_request(&exchange));
                        let answering = pin!(begin(&connection, &interim, request.await));
                        let busy = connection.begin();
                        let answer = answering.await;
                        if let Some(exchange) = exchange.upgrade() {
                            let response = finish(&connection, answer, busy, &tunnel);
                            exchange.response.set(Some(response));
                        }
                    }
                })),
            }
        }))
    }
}

/// Whoever puts a request there polls at once: there is nobody to wake.
fn take_request(exchange: &Weak<Exchange>) -> Poll<Request<Incoming>> {
    match exchange.upgrade().and_then(|exchange| exchange.request.take()) {
        Some(request) => Poll::Ready(request),
        None => Poll::Pending,
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answered;

    fn call(&self, request: Request<Incoming>) -> Answered {
        self.0.request.set(Some(request));
        Answered(Rc::clone(&self.0))
    }
}

/// The response to the latest request. hyper asks for one at a time.
struct Answered(Rc<Exchange>);

impl Future for Answered {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let exchange = &*self.0;
        match exchange.answering.borrow_mut().as_mut().poll(cx) {
            Poll::Ready(never) => match never {},
            Poll::Pending => {}
        }
        match exchange.response.take() {
            Some(response) => Poll::Ready(Ok(response)),
            None => Poll::Pending,
        }
    }
}

fn begin(
    connection: &Rc<Connection>,
    interim: &Rc<RefCell<BytesMut>>,
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + use<> {
    let sink = if request.version() == Version::HTTP_11 {
        InterimSink::H1(Rc::clone(interim))
    } else {
        InterimSink::None
    };
    let request = request.map(|incoming| RequestBody::h1(incoming, None));
    serve::answer(Rc::clone(connection), request, sink)
}

fn finish(
    connection: &Connection,
    mut answer: Answer,
    busy: Busy,
    tunnel: &RefCell<Option<Box<Tunnel>>>,
) -> Response<ResponseBody> {
    let is_tunnel = answer.tunnel.is_some();
    if let Some(opened) = answer.tunnel.take() {
        tunnel.replace(Some(opened));
    }
    // A tunnel takes no more requests anyway, and its `connection` names what it was upgraded to.
    if (connection.is_finishing() || answer.close) && !is_tunnel {
        let headers = answer.response.headers_mut();
        headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    answer.response.body_mut().hold(busy);
    answer.response
}

/// Sends the last bytes and waits until the client has had time to read all.
async fn end(mut transport: Transport, last: &[u8]) {
    let closing = async {
        transport.write_all(last).await?;
        transport.shutdown().await?;
        let mut sink = vec![0; 4_096];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match transport.read(&mut sink).await? {
                0 => break,
                bytes => taken += bytes,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever comes of it, the connection is closed now.
    let _over = timeout(LINGER, closing).await;
}
