//! A worker's connections to one endpoint.

use super::{
    connect::{Ends, connect_transport},
    h1::H1Lease,
    h2::{H2Connection, H2Lease},
};
use crate::{
    l7::{
        compile::CompiledCluster,
        connection::SHORT_OF_MEMORY,
        error::Fault,
        meters::{Meter, Shares, Upstream},
        tcp::Copied,
    },
    model::{
        BackendAddr,
        l7::{PoolSettings, UpstreamProtocol},
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
};
use tokio::{sync::oneshot, time::Instant};

/// Connections to one endpoint, those in use and those that wait for the next request.
pub struct Pool {
    address: BackendAddr,
    name: Option<Arc<str>>,
    cluster: RefCell<Arc<CompiledCluster>>,
    /// The latest used last: taken first, so that the others grow old and close.
    idle: RefCell<VecDeque<Box<H1Lease>>>,
    h2: RefCell<Vec<Rc<H2Connection>>>,
    open: Cell<u32>,
    opening: Cell<u32>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
    /// What ALPN chose, once known.
    is_h2: Cell<Option<bool>>,
    /// This worker's counters of its endpoint.
    pub meter: Meter<Upstream>,
    /// And of its cluster.
    pub cluster_meter: Meter<Upstream>,
}

/// A request's connection.
pub enum Lease {
    /// The whole connection.
    H1(Box<H1Lease>),
    /// One stream of it.
    H2(H2Lease),
}

/// One of the connections that a pool may have open.
pub struct Slot(Rc<Pool>);

impl Slot {
    /// Whose it is.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.meter.connections.decrease();
        self.0.wake_one();
    }
}

/// A TCP connection that an endpoint has whole.
pub struct Streaming(Rc<Pool>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.meter.connections.decrease();
        self.0.meter.active.decrease();
        self.0.cluster_meter.active.decrease();
    }
}

/// Counts connections being opened.
struct Opening<'a>(&'a Pool);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
    }
}

impl Pool {
    /// No connection yet.
    pub fn new(
        address: BackendAddr,
        name: Option<Arc<str>>,
        cluster: Arc<CompiledCluster>,
        worker: usize,
    ) -> Rc<Self> {
        let shares = cluster.meters.endpoint(address);
        // A cluster's counters name all its endpoints.
        let shares = shares.map_or_else(|| Shares::new(worker + 1), Arc::clone);
        Rc::new(Self {
            meter: Meter::new(&shares, worker),
            cluster_meter: Meter::new(&cluster.meters.cluster, worker),
            address,
            name,
            cluster: RefCell::new(cluster),
            idle: RefCell::default(),
            h2: RefCell::default(),
            open: Cell::new(0),
            opening: Cell::new(0),
            waiting: RefCell::default(),
            is_h2: Cell::new(None),
        })
    }

    /// Other settings from now on. Connections that were opened otherwise take no more requests.
    pub fn update(&self, cluster: Arc<CompiledCluster>) {
        let before = self.cluster.replace(cluster);
        let now = self.cluster.borrow();
        let (old, new) = (&before.model.l7, &now.model.l7);
        if old.tls != new.tls || old.protocol != new.protocol || old.proxy_protocol != new.proxy_protocol {
            let idle = self.idle.take();
            idle.iter().for_each(|_| self.meter.idle.decrease());
            drop(idle);
            self.h2.take();
            self.is_h2.set(None);
        }
    }

    pub(super) fn settings(&self) -> PoolSettings {
        self.cluster.borrow().model.l7.pool
    }

    /// Counts a connection that was opened.
    pub fn opened(&self) {
        self.meter.opened.increase();
        self.cluster_meter.opened.increase();
    }

    /// Counts a connection that could not be opened, and says why.
    pub fn connect_failed(&self, why: Fault) {
        let cluster = self.cluster.borrow();
        tracing::warn!("cluster {}: endpoint {}: {why}", cluster.model.name, self.address);
        self.meter.connect_failures.increase();
        self.cluster_meter.connect_failures.increase();
    }

    /// Counts a request that is sent again, to here.
    pub fn sent_again(&self) {
        self.meter.retries.increase();
        self.cluster_meter.retries.increase();
    }

    /// Counts a TCP connection that has gone to here, until the guard is dropped.
    pub fn stream(self: &Rc<Self>) -> Streaming {
        self.opened();
        self.meter.traffic.requests.increase();
        self.meter.connections.increase();
        self.meter.active.increase();
        self.cluster_meter.active.increase();
        Streaming(Rc::clone(self))
    }

    /// Counts what went through a tunnel or a TCP connection.
    pub fn copied(&self, copied: &Copied) {
        for meter in [&self.meter, &self.cluster_meter] {
            meter.traffic.received.add(copied.to_upstream);
            meter.traffic.sent.add(copied.to_client);
        }
    }

    fn speaks_h2(&self) -> Option<bool> {
        let cluster = self.cluster.borrow();
        match cluster.model.l7.protocol {
            UpstreamProtocol::Http1 => Some(false),
            UpstreamProtocol::Http2 => Some(true),
            UpstreamProtocol::Auto if cluster.tls.is_none() => Some(false),
            UpstreamProtocol::Auto => self.is_h2.get(),
        }
    }

    /// A connection that waits for a request, or a free stream, if there is one.
    pub fn take(self: &Rc<Self>) -> Option<Lease> {
        if self.cluster.borrow().model.l7.proxy_protocol.is_some() {
            return None;
        }
        self.take_waiting(false)
    }

    /// A connection for one request: one that waits, a free stream, or a new one. `fresh`: no waiting one.
    ///
    /// # Errors
    /// It could not be opened, or too many wait already.
    pub async fn lease(self: &Rc<Self>, fresh: bool, ends: Ends) -> Result<Lease, Fault> {
        // PROXY protocol: a connection tells of one client.
        let own = self.cluster.borrow().model.l7.proxy_protocol.map(|_| ends);
        loop {
            if own.is_none()
                && let Some(lease) = self.take_waiting(fresh)
            {
                return Ok(lease);
            }
            let settings = self.settings();
            let h2_comes = own.is_none()
                && self.speaks_h2() == Some(true)
                && self.opening.get() > 0
                && self.waiting.borrow().len() < (self.opening.get() * settings.max_streams) as usize;
            if !h2_comes && self.open.get() < settings.max_connections {
                // Boxed: a handshake's state would make every request's future as large as it.
                return Box::pin(self.open(own)).await;
            }
            self.wait(settings.max_pending).await?;
        }
    }

    fn take_waiting(self: &Rc<Self>, fresh: bool) -> Option<Lease> {
        let settings = self.settings();
        let young = |opened: Instant| settings.max_age.is_zero() || opened.elapsed() < settings.max_age;
        if !self.h2.borrow().is_empty() {
            if !settings.max_age.is_zero() {
                self.h2.borrow_mut().retain(|connection| young(connection.opened));
            }
            let connections = self.h2.borrow();
            let free = (connections.iter()).find(|each| each.has_room(settings.max_streams));
            return free.map(|free| Lease::H2(H2Lease::new(Rc::clone(free), Rc::clone(self))));
        }
        if fresh {
            return None;
        }
        loop {
            let mut lease = self.idle.borrow_mut().pop_back()?;
            self.meter.idle.decrease();
            if young(lease.opened) && lease.is_usable() {
                return Some(Lease::H1(lease));
            }
        }
    }

    async fn wait(&self, most: u32) -> Result<(), Fault> {
        if self.waiting.borrow().len() >= most as usize {
            return Err(Fault::Overflow);
        }
        let (sender, woken) = oneshot::channel();
        self.waiting.borrow_mut().push_back(sender);
        // Without its sender the pool is gone, and so is the endpoint.
        woken.await.map_err(|_| Fault::NoEndpoint)
    }

    /// Lets one request that waits look again.
    pub(super) fn wake_one(&self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            // One that has gone away passes its turn on.
            if next.is_none_or(|waiting| waiting.send(()).is_ok()) {
                return;
            }
        }
    }

    async fn open(self: &Rc<Self>, own: Option<Ends>) -> Result<Lease, Fault> {
        self.open.set(self.open.get() + 1);
        self.meter.connections.increase();
        let slot = Slot(Rc::clone(self));
        self.opening.set(self.opening.get() + 1);
        let opening = Opening(self);
        let cluster = Arc::clone(&self.cluster.borrow());
        let opened = connect_transport(self.address, self.name.as_deref(), &cluster, own).await;
        drop(opening);
        let (transport, chose_h2) = match opened {
            Ok(opened) => {
                self.opened();
                opened
            }
            Err(fault) => {
                self.connect_failed(fault);
                // Those who waited for this connection find out for themselves.
                let waiting = self.waiting.take();
                for each in waiting {
                    let _gone = each.send(());
                }
                return Err(fault);
            }
        };
        let is_h2 = match cluster.model.l7.protocol {
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Auto => {
                self.is_h2.set(Some(chose_h2));
                chose_h2
            }
        };
        if !is_h2 {
            return Ok(Lease::H1(H1Lease::open(transport, slot).await?));
        }
        let connection = H2Connection::open(transport, slot).await?;
        let lease = H2Lease::new(Rc::clone(&connection), Rc::clone(self));
        if own.is_none() {
            self.h2.borrow_mut().push(connection);
            let room = self.settings().max_streams.saturating_sub(1) as usize;
            let woken = room.min(self.waiting.borrow().len());
            (0..woken).for_each(|_| self.wake_one());
        }
        Ok(Lease::H2(lease))
    }

    /// Takes back a connection that is ready for the next request.
    pub(super) fn put(&self, mut lease: Box<H1Lease>) {
        let settings = self.settings();
        let shared = self.cluster.borrow().model.l7.proxy_protocol.is_none();
        if shared && self.idle.borrow().len() < settings.max_idle as usize {
            lease.idle_since = Some(Instant::now());
            self.idle.borrow_mut().push_back(lease);
            self.meter.idle.increase();
            self.wake_one();
        }
    }

    pub(super) fn forget(&self, connection: &Rc<H2Connection>) {
        self.h2.borrow_mut().retain(|each| !Rc::ptr_eq(each, connection));
        self.wake_one();
    }

    /// Closes what has been idle for too long. `sooner`: memory is short.
    pub fn expire(&self, now: Instant, sooner: bool) {
        let usual = self.settings().idle_timeout;
        let idle_timeout = if sooner { usual.min(SHORT_OF_MEMORY) } else { usual };
        let old = |since: Instant| now.saturating_duration_since(since) >= idle_timeout;
        let mut idle = self.idle.borrow_mut();
        while idle
            .front()
            .is_some_and(|lease| lease.idle_since.is_some_and(old))
        {
            let lease = idle.pop_front();
            self.meter.idle.decrease();
            drop(idle);
            drop(lease);
            idle = self.idle.borrow_mut();
        }
        drop(idle);
        self.h2.borrow_mut().retain(|connection| {
            !connection.is_closed() && (connection.streams() > 0 || !old(connection.idle_since.get()))
        });
    }
}
