//! A client's connection: what it is doing, and what it has been told to do.
//!
//! No timer of its own: the worker looks at all connections a few times a second, which costs requests nothing.

use super::{listener::Listener, stream::Observer, tls::PeerIdentity, worker::Worker};
use crate::model::l7::ForwardedSettings;
use http::HeaderValue;
use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// A connection that is to leave is closed if no request has come for this long.
const LAST_CALL: Duration = Duration::from_secs(5);

/// While memory is short, what is idle for this long is closed, towards clients and endpoints.
pub const SHORT_OF_MEMORY: Duration = Duration::from_secs(10);

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// A request's head is on its way, or the first one awaited.
    Head,
    /// Between requests.
    Idle,
    /// At least one request is running.
    Busy,
}

/// What a connection has been told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Finish what runs and one request more, since it may be on its way: another process takes the next connections.
    Leave,
    /// Finish what runs, take no more.
    Finish,
    /// The client took too long.
    Expire,
}

/// A client's connection.
pub struct Connection {
    /// Whose it is.
    pub worker: Rc<Worker>,
    /// Where it came in.
    pub listener: Rc<Listener>,
    /// The client, from the PROXY protocol where there is one.
    pub peer: SocketAddr,
    /// What it connected to.
    pub local: SocketAddr,
    /// Facts of its TLS.
    pub tls: Option<TlsFacts>,
    /// Counts the worker's connections.
    pub id: u64,
    /// The client's address as headers tell it: the same for all its requests.
    peer_text: OnceCell<HeaderValue>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    requests: Cell<u32>,
    /// HTTP/2 frames come between requests too: they begin none.
    framed: Cell<bool>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
}

/// What the handshake showed.
#[derive(Default)]
pub struct TlsFacts {
    /// Server name the client asked for.
    pub server_name: Option<Box<str>>,
    /// Version, as logs show it.
    pub version: &'static str,
    /// Cipher suite, as logs show it.
    pub cipher: &'static str,
    /// The client's certificate.
    pub identity: Option<PeerIdentity>,
    /// It, as x-forwarded-client-cert tells it.
    pub forwarded_certificate: OnceCell<String>,
}

impl Connection {
    /// Awaits its first request.
    pub fn new(
        worker: &Rc<Worker>,
        listener: Rc<Listener>,
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<TlsFacts>,
    ) -> Rc<Self> {
        let connection = Rc::new(Self {
            worker: Rc::clone(worker),
            listener,
            peer,
            local,
            tls,
            id: worker.next_connection(),
            peer_text: OnceCell::new(),
            phase: Cell::new(Phase::Head),
            since: Cell::new(worker.now()),
            requests: Cell::new(0),
            framed: Cell::new(false),
            order: Cell::new(None),
            waker: RefCell::new(None),
        });
        worker.watch(&connection);
        connection
    }

    /// A request begins; it ends with the guard.
    pub fn begin(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.phase.set(Phase::Busy);
        Busy(Rc::clone(self))
    }

    /// It speaks HTTP/2.
    pub fn is_framed(&self) {
        self.framed.set(true);
        self.phase.set(Phase::Idle);
    }

    /// What it has been told, after it has been made known whom to wake about it.
    pub fn order(&self, waker: &Waker) -> Option<Order> {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        self.order.get()
    }

    /// Whether it is to take no more requests.
    pub fn is_finishing(&self) -> bool {
        self.order.get().is_some()
    }

    /// Whether a request's head was begun.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Tells it what to do; an order is never taken back.
    pub fn tell(&self, order: Order) {
        if self.order.get().is_some_and(|before| before == order) {
            return;
        }
        self.order.set(Some(order));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The client's address without the port, as X-Forwarded-For tells it.
    pub fn peer_text(&self) -> &HeaderValue {
        self.peer_text.get_or_init(|| {
            let text = self.peer.ip().to_string();
            // Digits, letters, dots and colons are always a header's value.
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        })
    }

    /// The client's certificate as x-forwarded-client-cert tells it, if that is asked for and there is one.
    pub fn forwarded_certificate(&self, settings: &ForwardedSettings) -> Option<&str> {
        let tls = self.tls.as_ref().filter(|_| settings.client_certificate)?;
        let identity = tls.identity.as_ref()?;
        let text = tls
            .forwarded_certificate
            .get_or_init(|| identity.forwarded_client_cert());
        Some(text)
    }

    /// Looks at the time. `sooner`: memory is short.
    pub fn look(&self, now: Instant, timeouts: &crate::model::l7::HttpTimeouts, sooner: bool) {
        let passed =
            |limit: Duration| !limit.is_zero() && now.saturating_duration_since(self.since.get()) >= limit;
        match self.phase.get() {
            Phase::Idle if self.order.get() == Some(Order::Leave) && passed(LAST_CALL) => {
                self.tell(Order::Finish);
            }
            Phase::Head if passed(timeouts.header_read) => self.tell(Order::Expire),
            Phase::Idle if sooner && passed(SHORT_OF_MEMORY) => self.tell(Order::Finish),
            Phase::Idle if passed(timeouts.idle_connection) => self.tell(Order::Finish),
            _ => {}
        }
    }
}

/// A request of a connection.
pub struct Busy(Rc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let requests = self.0.requests.get() - 1;
        self.0.requests.set(requests);
        if requests == 0 {
            self.0.phase.set(Phase::Idle);
            self.0.since.set(self.0.worker.now());
        }
    }
}

impl Observer for Rc<Connection> {
    fn received(&self, bytes: usize) {
        self.worker.counters.received.add(bytes as u64);
        self.listener.meter.received.add(bytes as u64);
        if bytes > 0 && self.phase.get() == Phase::Idle && !self.framed.get() {
            self.phase.set(Phase::Head);
            self.since.set(self.worker.now());
        }
    }

    fn sent(&self, bytes: usize) {
        self.worker.counters.sent.add(bytes as u64);
        self.listener.meter.sent.add(bytes as u64);
    }
}
