//! A connection or stream that has become a tunnel: bytes both ways until both ends are done.

use super::{
    balance::InFlight,
    connection::Connection,
    stream::Transport,
    tcp,
    upstream::{H2Lease, Pool, Slot},
};
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

/// The endpoint's side.
pub enum Upstream {
    /// A whole connection, and what was read behind the response's head.
    H1(Transport, Bytes, Slot),
    /// A stream of one.
    H2(RecvStream, SendStream<Bytes>, H2Lease),
}

/// A tunnel to be opened once the client has its 101 or 200.
pub struct Tunnel {
    upstream: Upstream,
    client_stream: Option<RecvStream>,
    idle: Duration,
    in_flight: Option<InFlight<Rc<Pool>>>,
}

impl Tunnel {
    /// `client_stream`: where an HTTP/2 client's bytes come in.
    pub fn new(upstream: Upstream, client_stream: Option<RecvStream>, idle: Duration) -> Self {
        Self {
            upstream,
            client_stream,
            idle,
            in_flight: None,
        }
    }

    /// The endpoint has a request in flight as long as the tunnel is open.
    pub fn hold(&mut self, in_flight: InFlight<Rc<Pool>>) {
        self.in_flight = Some(in_flight);
    }

    /// Runs it on a client's connection; `early`: what the client sent already.
    pub async fn run(self, connection: &Rc<Connection>, client: Transport, early: Bytes) {
        let _busy = connection.begin();
        let (upstream, idle, in_flight) = (self.upstream, self.idle, self.in_flight);
        let Some(copied) = copy(client, early, upstream, idle).await else {
            return;
        };
        count(in_flight.as_ref(), &copied);
        // The connection's observer has ended with its codec.
        let meter = &*connection.listener.meter;
        let counters = &connection.worker.counters;
        for (received, sent) in [
            (&meter.received, &meter.sent),
            (&counters.received, &counters.sent),
        ] {
            received.add(copied.to_upstream);
            sent.add(copied.to_client);
        }
    }

    /// Runs it on a client's stream.
    pub async fn run_stream(self, connection: &Rc<Connection>, send: SendStream<Bytes>) {
        let _busy = connection.begin();
        let Some(receive) = self.client_stream else { return };
        let (upstream, idle, in_flight) = (self.upstream, self.idle, self.in_flight);
        let copied = copy(Duplex::new(receive, send), Bytes::new(), upstream, idle).await;
        if let Some(copied) = copied {
            count(in_flight.as_ref(), &copied);
        }
    }
}

fn count(in_flight: Option<&InFlight<Rc<Pool>>>, copied: &tcp::Copied) {
    if let Some(in_flight) = in_flight {
        in_flight.endpoint().pool.copied(copied);
    }
}

/// None where it broke before it began.
async fn copy<C>(mut client: C, early: Bytes, upstream: Upstream, idle: Duration) -> Option<tcp::Copied>
where
    C: tcp::Stream,
{
    match upstream {
        Upstream::H1(mut transport, ahead, _slot) => {
            let begun = async {
                transport.write_all(&early).await?;
                client.write_all(&ahead).await?;
                client.flush().await
            };
            begun.await.ok()?;
            Some(tcp::serve(client, transport, idle).await)
        }
        Upstream::H2(receive, send, _lease) => {
            let mut stream = Duplex::new(receive, send);
            stream.write_all(&early).await.ok()?;
            Some(tcp::serve(client, stream, idle).await)
        }
    }
}

/// An HTTP/2 stream as a byte stream.
struct Duplex {
    receive: RecvStream,
    send: SendStream<Bytes>,
    unread: Bytes,
    ended: bool,
}

impl Duplex {
    fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self {
            receive,
            send,
            unread: Bytes::new(),
            ended: false,
        }
    }
}

impl tcp::Stream for Duplex {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn is_plain(&self) -> bool {
        false
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => this.unread = data,
                None => return Poll::Ready(Ok(())),
                // A client that closes its WebSocket may reset the stream with these.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let taken = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..taken]);
        this.unread.advance(taken);
        this.receive
            .flow_control()
            .release_capacity(taken)
            .map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(data.len());
        let capacity = match this.send.capacity() {
            0 => match ready!(this.send.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            },
            capacity => capacity,
        };
        let now = capacity.min(data.len());
        let part = Bytes::copy_from_slice(&data[..now]);
        this.send.send_data(part, false).map_err(broken)?;
        Poll::Ready(Ok(now))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            this.ended = true;
            this.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
