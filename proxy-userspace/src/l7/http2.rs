//! HTTP/2 with a client: a task per stream, and resets that say why.

use super::{
    body::{RequestBody, ResponseBody},
    compile::CompiledKind,
    connection::{Busy, Connection, Order},
    error::Fault,
    farewell::Farewell,
    gather::Gather,
    interim::InterimSink,
    pump::Pump,
    serve::{self, Answer},
    stream::{Io, Transport},
    streams,
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response};
use hyper::body::Body as _;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};
use tokio::time::timeout;

/// Bytes a client may send on one stream before they are wanted.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for a connection: uploads that nobody takes stall the others only when there are this many.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Serves streams until either side ends the connection.
pub async fn serve(connection: Rc<Connection>, transport: Transport, ahead: Bytes) {
    connection.is_framed();
    let io = Gather::new(Farewell::new(Io::new(transport, ahead, Rc::clone(&connection))));
    let written = io.clone();
    let (builder, header_read) = builder(&connection);
    let limit = if header_read.is_zero() {
        Duration::from_secs(86_400)
    } else {
        header_read
    };
    let Ok(Ok(mut codec)) = timeout(limit, builder.handshake::<_, Bytes>(io)).await else {
        return;
    };
    let mut told = None;
    loop {
        let accepted = poll_fn(|cx| {
            let order = connection.order(cx.waker());
            if order != told {
                told = order;
                match order {
                    // In two steps: a GOAWAY for all streams first, so that none on its way is lost.
                    Some(Order::Leave | Order::Finish) => {
                        written.with(Farewell::begin);
                        codec.graceful_shutdown();
                    }
                    Some(Order::Expire) => codec.abrupt_shutdown(Reason::NO_ERROR),
                    None => {}
                }
            }
            let accepted = codec.poll_accept(cx);
            if accepted.is_pending()
                && let Poll::Ready(Err(error)) = written.poll_send(cx)
            {
                tracing::debug!("{}: HTTP/2: {error}", connection.peer);
                return Poll::Ready(None);
            }
            accepted
        });
        match accepted.await {
            Some(Ok((request, respond))) => {
                let busy = connection.begin();
                let connection = Rc::clone(&connection);
                streams::run(Job {
                    connection,
                    busy,
                    request,
                    respond,
                });
            }
            Some(Err(error)) => {
                tracing::debug!("{}: HTTP/2: {error}", connection.peer);
                return;
            }
            None => return,
        }
    }
}

fn builder(connection: &Connection) -> (h2::server::Builder, Duration) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(1 << 20);
    let serving = connection.listener.serving();
    let mut header_read = Duration::ZERO;
    if let CompiledKind::Http { settings, .. } = &serving.compiled.kind {
        header_read = settings.timeouts.header_read;
        builder
            .max_header_list_size(settings.limits.header_bytes)
            .max_concurrent_streams(settings.limits.concurrent_streams);
        if settings.connect || settings.upgrades.iter().any(|each| &**each == "websocket") {
            builder.enable_connect_protocol();
        }
    }
    (builder, header_read)
}

/// One stream to be answered.
pub struct Job {
    /// Whose it is.
    pub connection: Rc<Connection>,
    busy: Busy,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// Answers a stream.
pub async fn answer(job: Job) {
    let Job {
        connection,
        busy: _busy,
        request,
        respond,
    } = job;
    let respond = Rc::new(RefCell::new(respond));
    let answer = {
        let mut answering = pin!(begin(&connection, &respond, request));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            // A client that gave up: dropping what runs gives up at the endpoint too.
            match respond.borrow_mut().poll_reset(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    let Some(Answer { response, tunnel, .. }) = answer else {
        return;
    };
    if let Some(tunnel) = tunnel {
        let head = response.map(|_| ());
        let sent = respond.borrow_mut().send_response(head, false);
        if let Ok(send) = sent {
            Box::pin(tunnel.run_stream(&connection, send)).await;
        }
        return;
    }
    if let Some(pump) = send(response, &respond)
        && let Err(stopped) = pump.await
    {
        tracing::trace!("HTTP/2: {stopped}");
    }
}

fn begin(
    connection: &Rc<Connection>,
    respond: &Rc<RefCell<SendResponse<Bytes>>>,
    request: Request<RecvStream>,
) -> impl Future<Output = Answer> + use<> {
    let is_connect = request.method() == http::Method::CONNECT;
    let request = request.map(|stream| {
        if is_connect {
            RequestBody::tunnel(stream)
        } else {
            RequestBody::h2(stream, None)
        }
    });
    serve::answer(
        Rc::clone(connection),
        request,
        InterimSink::H2(Rc::clone(respond)),
    )
}

/// Sends the head; what sends the body, if there is one.
fn send(
    response: Response<ResponseBody>,
    respond: &RefCell<SendResponse<Bytes>>,
) -> Option<Pump<ResponseBody>> {
    let (mut head, body) = response.into_parts();
    head.version = http::Version::HTTP_2;
    let ends = body.is_end_stream();
    let sent = respond
        .borrow_mut()
        .send_response(Response::from_parts(head, ()), ends);
    match sent {
        Ok(stream) => (!ends).then(|| Pump::new(stream, body)),
        // Gone meanwhile, or a head that HTTP/2 has no form for.
        Err(error) if error.is_reset() => None,
        Err(_) => {
            respond.borrow_mut().send_reset(reason(Fault::BadResponse));
            None
        }
    }
}

fn reason(fault: Fault) -> Reason {
    match fault {
        Fault::ClientGone => Reason::CANCEL,
        _ => Reason::INTERNAL_ERROR,
    }
}
