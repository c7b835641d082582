//! From a listening socket to a connection that speaks: accept, PROXY protocol, TLS, then the protocol.

use super::{
    compile::CompiledKind,
    connection::{Connection, TlsFacts},
    http1, http2,
    listener::Listener,
    panics::{Panicked, caught},
    proxy_header,
    stream::Transport,
    tcp_proxy, tls,
    worker::Worker,
};
use crate::descriptors;
use bytes::{Bytes, BytesMut};
use std::{
    cell::OnceCell,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

/// After a failed accept: descriptors come back when connections end.
const PAUSE: Duration = Duration::from_millis(100);

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Ends the accepting at a socket when it is notified: between two connections, so that none is lost that was accepted.
pub type Ending = Rc<Notify>;

/// Accepts connections until told to end. Which listener one belongs to, its local address says.
pub fn listen(worker: &Rc<Worker>, socket: StdListener) -> Option<Ending> {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("a listening socket can't be used: {error}");
            return None;
        }
    };
    let worker = Rc::clone(worker);
    let ending = Ending::default();
    let end = Rc::clone(&ending);
    tokio::task::spawn_local(async move {
        // A panic ends the connection that it was about; the socket is the worker's, and the next client's.
        while caught(accept_until(&worker, &socket, &end)).await == Err(Panicked) {
            sleep(PAUSE).await;
        }
    });
    Some(ending)
}

async fn accept_until(worker: &Rc<Worker>, socket: &TcpListener, end: &Notify) {
    loop {
        let accepted_one = tokio::select! {
            biased;
            () = end.notified() => return,
            accepted = poll_fn(|cx| poll_accept(socket, cx)) => accepted,
        };
        match accepted_one {
            Ok((stream, peer)) => accepted(worker, stream, peer).await,
            Err(error) if is_clients(&error) => {}
            Err(error) => {
                worker.counters.accept_errors.increase();
                if worker.counters.accept_errors.value().is_power_of_two() {
                    tracing::error!("accept: {error}; trying again");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Asks for a descriptor whenever it looks for a client, not once before it waits for one.
fn poll_accept(socket: &TcpListener, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    descriptors::ask()?;
    socket.poll_accept(cx)
}

/// The client was gone before it was accepted (accept(2), "Error handling").
fn is_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn accepted(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let counted = Counted::new(worker);
    if worker.pressure.is_full() {
        worker.counters.refused.increase();
        // A reset leaves nothing here, and the client knows at once that it is to go elsewhere.
        let _not_vital = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return;
    }
    let Ok(local) = stream.local_addr() else { return };
    let (peer, local) = (unmapped(peer), unmapped(local));
    let Some(listener) = worker.world.borrow().listener_at(local) else {
        return;
    };
    listener.wait_for_room(worker.seat.count).await;
    let entered = listener.enter();
    let _not_vital = stream.set_nodelay(true);
    worker.counters.accepted.increase();
    tokio::task::spawn_local(async move {
        let (_entered, counted) = (entered, counted);
        serve(&counted.0, listener, stream, (peer, local)).await;
    });
}

/// A dual-stack socket shows IPv4 as IPv4-mapped IPv6.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Counts a connection while it lives, for control and for the kernel's choice of a worker.
struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.counters.connections.increase();
        if let Some(load) = &worker.load {
            load.opened();
        }
        Self(Rc::clone(worker))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.connections.decrease();
        if let Some(load) = &self.0.load {
            load.closed();
        }
    }
}

async fn serve(
    worker: &Rc<Worker>,
    listener: Rc<Listener>,
    stream: TcpStream,
    mut ends: (SocketAddr, SocketAddr),
) {
    let serving = listener.serving();
    let model = &serving.compiled.model;
    if model.proxy_protocol {
        let limit = Duration::from_secs(10);
        match proxy_header::read(&stream, limit).await {
            Ok(Some(said)) => ends = said,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("listener {}: {}: PROXY protocol: {error}", model.name, ends.0);
                return;
            }
        }
    }
    if let CompiledKind::Tcp(settings) = &serving.compiled.kind {
        let settings = Arc::clone(settings);
        // Boxed: connections of HTTP are not to be as large.
        return Box::pin(tcp_proxy::serve(
            worker,
            (&serving, &listener.meter),
            &settings,
            stream,
            ends,
        ))
        .await;
    }
    let (transport, facts, alpn_h2) = match (&serving.compiled.tls, &model.tls) {
        (Some(config), Some(settings)) => {
            match tls::accept(stream, Arc::clone(config), settings.handshake_timeout).await {
                Ok(stream) => {
                    let session = stream.get_ref().1;
                    let is_h2 = session.alpn_protocol().map(|name| name == b"h2");
                    let facts = facts(session);
                    (Transport::Server(Box::new(stream)), Some(facts), is_h2)
                }
                Err(error) => {
                    worker.counters.handshakes_failed[error as usize].increase();
                    // Whoever looks whether the port is open does that.
                    if error == tls::AcceptError::Closed {
                        return tracing::debug!("listener {}: {}: {error}", model.name, ends.0);
                    }
                    return tracing::info!("listener {}: {}: {error}", model.name, ends.0);
                }
            }
        }
        _ => (Transport::Plain(stream), None, None),
    };
    drop(serving);
    let connection = Connection::new(worker, listener, ends, facts);
    speak(connection, transport, alpn_h2).await;
}

/// What the handshake showed.
pub fn facts(session: &rustls::ServerConnection) -> TlsFacts {
    TlsFacts {
        server_name: session.server_name().map(Into::into),
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or(""),
        identity: tls::peer_identity(session),
        forwarded_certificate: OnceCell::new(),
    }
}

async fn speak(connection: Rc<Connection>, mut transport: Transport, alpn_h2: Option<bool>) {
    let (is_h2, ahead) = match alpn_h2 {
        Some(is_h2) => (is_h2, Bytes::new()),
        None => {
            let limit = {
                let serving = connection.listener.serving();
                match &serving.compiled.kind {
                    CompiledKind::Http { settings, .. } => settings.timeouts.header_read,
                    CompiledKind::Tcp(_) => Duration::ZERO,
                }
            };
            let deadline = if limit.is_zero() {
                Duration::from_secs(86_400)
            } else {
                limit
            };
            match timeout_at(Instant::now() + deadline, sniff(&mut transport)).await {
                Ok(Ok(Some(sniffed))) => sniffed,
                _ => return,
            }
        }
    };
    if is_h2 {
        http2::serve(connection, transport, ahead).await;
    } else {
        http1::serve(connection, transport, ahead).await;
    }
}

/// Reads as much as tells HTTP/2 with prior knowledge from HTTP/1.1; none if the client closed without a word.
async fn sniff(transport: &mut Transport) -> io::Result<Option<(bool, Bytes)>> {
    let mut ahead = BytesMut::with_capacity(8 << 10);
    loop {
        if transport.read_buf(&mut ahead).await? == 0 {
            return Ok((!ahead.is_empty()).then(|| (false, ahead.freeze())));
        }
        let compared = ahead.len().min(PREFACE.len());
        if ahead[..compared] != PREFACE[..compared] {
            return Ok(Some((false, ahead.freeze())));
        }
        if compared == PREFACE.len() {
            return Ok(Some((true, ahead.freeze())));
        }
    }
}
