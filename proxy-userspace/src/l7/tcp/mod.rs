//! TCP proxying: bytes both ways until both sides have closed, one side failed, or nobody spoke for too long.

mod direction;
pub mod sni;
mod splice;
#[cfg(test)]
mod tests;

use crate::model::{
    ClusterName,
    l7::{HostMatch, TcpSettings},
};
use direction::{Direction, Failure};
use socket2::SockRef;
use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_rustls::{client, server};

/// A connection's end that bytes can be proxied from and to.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Its socket; a stream of an HTTP/2 connection has none of its own.
    fn socket(&self) -> Option<&TcpStream>;

    /// Whether what is read and written is what passes through the socket, so that the kernel may move it.
    fn is_plain(&self) -> bool;
}

impl Stream for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn is_plain(&self) -> bool {
        true
    }
}

impl Stream for server::TlsStream<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }

    fn is_plain(&self) -> bool {
        false
    }
}

impl Stream for client::TlsStream<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }

    fn is_plain(&self) -> bool {
        false
    }
}

/// What went through a connection, and why it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Bytes from the client that the upstream's socket took.
    pub to_upstream: u64,
    /// Bytes from the upstream that the client's socket took.
    pub to_client: u64,
    /// Why it is over.
    pub ended: Ended,
}

/// Why a proxied connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// Both sides closed.
    Closed,
    /// No byte in either direction for the idle time.
    Idle,
    /// The client's connection failed or was reset; so was the upstream's then.
    Client,
    /// The upstream's connection failed or was reset; so was the client's then.
    Upstream,
}

impl Ended {
    /// A metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Client => "client_failed",
            Self::Upstream => "upstream_failed",
        }
    }
}

/// Copies both ways until it is over, and closes both. The end of one direction is passed on (FIN, with TLS
/// close_notify before it) while the other goes on. A reset, and TLS that ends without close_notify, is passed on as
/// a reset: what was cut off never looks whole. `idle` of zero never ends it.
///
/// An idle connection holds no buffer. A stream of plain TCP both ways goes through a pipe, never through user space.
pub async fn serve<S: Stream, U: Stream>(mut client: S, mut upstream: U, idle: Duration) -> Copied {
    let mut to_upstream = Direction::default();
    let mut to_client = Direction::default();
    let mut timer = pin!(sleep(idle));
    let mut active = Instant::now();
    let mut moved = 0;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = turn(cx, (&mut client, &mut upstream), &mut to_upstream, &mut to_client) {
            return Poll::Ready(ended);
        }
        if idle.is_zero() {
            return Poll::Pending;
        }
        let total = to_upstream.bytes() + to_client.bytes();
        if total != moved {
            moved = total;
            active = Instant::now();
        }
        // The timer isn't moved by every byte: when it fires it is set to what is left.
        while timer.as_mut().poll(cx).is_ready() {
            if active.elapsed() >= idle {
                return Poll::Ready(Ended::Idle);
            }
            timer.as_mut().reset(active + idle);
        }
        Poll::Pending
    })
    .await;
    match ended {
        Ended::Client => reset(upstream.socket()),
        Ended::Upstream => reset(client.socket()),
        Ended::Closed | Ended::Idle => {}
    }
    Copied {
        to_upstream: to_upstream.bytes(),
        to_client: to_client.bytes(),
        ended,
    }
}

/// Moves what can be moved in both directions.
fn turn<S: Stream, U: Stream>(
    cx: &mut Context<'_>,
    (client, upstream): (&mut S, &mut U),
    to_upstream: &mut Direction,
    to_client: &mut Direction,
) -> Poll<Ended> {
    let up = to_upstream.poll(cx, client, upstream);
    let down = to_client.poll(cx, upstream, client);
    match (up, down) {
        // What can't be read from is gone.
        (Poll::Ready(Err(Failure::Read)), _) => Poll::Ready(Ended::Client),
        (_, Poll::Ready(Err(Failure::Read))) => Poll::Ready(Ended::Upstream),
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Closed),
        // What can't be written to may have sent something before it went, which is still to be passed on.
        (Poll::Ready(Err(Failure::Write)), Poll::Ready(_)) => Poll::Ready(Ended::Upstream),
        (Poll::Ready(_), Poll::Ready(Err(Failure::Write))) => Poll::Ready(Ended::Client),
        _ => Poll::Pending,
    }
}

/// Has the socket's closing send a reset instead of an end.
fn reset(socket: Option<&TcpStream>) {
    let Some(socket) = socket else { return };
    // It may be reset already.
    let _gone = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// The cluster for a server name: the first route that has it, else the listener's default; none refuses it. The name
/// is compared without regard to case.
pub fn choose<'a>(settings: &'a TcpSettings, sni: Option<&str>) -> Option<&'a ClusterName> {
    let named = sni.and_then(|name| {
        let mut routes = settings.sni.iter();
        routes.find(|route| route.hosts.iter().any(|host| is_host(host, name)))
    });
    named.map(|route| &route.cluster).or(settings.cluster.as_ref())
}

fn is_host(host: &HostMatch, name: &str) -> bool {
    match host {
        HostMatch::Exact(exact) => exact.eq_ignore_ascii_case(name),
        HostMatch::Suffix(suffix) => {
            let (name, suffix) = (name.as_bytes(), suffix.as_bytes());
            name.len() > suffix.len() && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
    }
}
