//! An endpoint as one worker knows it: its pool, its requests in flight, how fast it answered.

use crate::model::{self, BackendAddr, Health};
use http::HeaderValue;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// One endpoint of one cluster in one worker. It lives as long as anything holds its `Rc`: requests that run when the config drops
/// it end in peace.
#[derive(Debug)]
pub struct Endpoint<P> {
    /// Where it listens.
    pub address: BackendAddr,
    /// The DNS name it was resolved from.
    pub name: Option<Arc<str>>,
    /// What the caller keeps for it.
    pub pool: P,
    /// This worker's requests in flight.
    pub active: Cell<u32>,
    /// Effective: zero gets nothing new.
    pub weight: Cell<u32>,
    /// Whether it is gone from the config; its idle connections can be closed.
    pub left: Cell<bool>,
    pub(super) healthy: Cell<bool>,
    pub(super) latency: Average,
    /// The Set-Cookie that names it, made on first use.
    pub(super) cookie: RefCell<Option<HeaderValue>>,
}

impl<P> Endpoint<P> {
    pub(super) fn new(endpoint: &model::Endpoint, pool: P) -> Rc<Self> {
        let new = Self {
            address: endpoint.address,
            name: endpoint.name.clone(),
            pool,
            active: Cell::new(0),
            weight: Cell::new(0),
            left: Cell::new(false),
            healthy: Cell::new(true),
            latency: Average::default(),
            cookie: RefCell::new(None),
        };
        new.follow(endpoint);
        Rc::new(new)
    }

    pub(super) fn follow(&self, endpoint: &model::Endpoint) {
        self.weight.set(endpoint.effective_weight());
        self.healthy.set(endpoint.health != Health::Unhealthy);
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn begin(self: &Rc<Self>) -> InFlight<P> {
        self.active.set(self.active.get().saturating_add(1));
        InFlight {
            endpoint: Rc::clone(self),
        }
    }

    /// Requests in flight for its weight, as if one half more were there. The half makes shares at small numbers the
    /// nearest to weights, neither always too low nor too high for light endpoints (Webster's rule).
    pub(super) fn load(&self) -> f64 {
        (f64::from(self.active.get()) + 0.5) / f64::from(self.weight.get().max(1))
    }
}

/// A request in flight at an endpoint.
#[derive(Debug)]
#[must_use = "dropped, it ends the request"]
pub struct InFlight<P> {
    endpoint: Rc<Endpoint<P>>,
}

impl<P> InFlight<P> {
    /// Where it is in flight.
    pub fn endpoint(&self) -> &Rc<Endpoint<P>> {
        &self.endpoint
    }

    /// Takes the time from the request's sending until the response's head. Costs a look at the clock; only `peak_ewma`
    /// uses it.
    pub fn answered(&self, latency: Duration) {
        self.endpoint.latency.observe(latency, Instant::now());
    }

    /// Takes a failure for a slow answer: an endpoint that fails fast must not look fast.
    pub fn failed(&self) {
        /// As slow as an answer that a client would call broken.
        const FAILURE: Duration = Duration::from_secs(1);
        self.answered(FAILURE);
    }
}

impl<P> Drop for InFlight<P> {
    fn drop(&mut self) {
        let active = &self.endpoint.active;
        active.set(active.get().saturating_sub(1));
    }
}

/// A moving average of latencies that jumps to peaks and forgets them slowly (Finagle's PeakEwma).
#[derive(Debug, Default)]
pub(super) struct Average {
    /// Seconds at `stamp`.
    cost: Cell<f64>,
    stamp: Cell<Option<Instant>>,
}

impl Average {
    /// After this time an old value counts 1/e: Finagle's and Linkerd's default.
    const DECAY: Duration = Duration::from_secs(10);

    pub(super) fn observe(&self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f64();
        let cost = match self.stamp.get() {
            Some(stamp) if latency <= self.cost.get() => {
                let kept = Self::kept(stamp, now);
                self.cost.get() * kept + latency * (1.0 - kept)
            }
            _ => latency,
        };
        self.cost.set(cost);
        self.stamp.set(Some(now));
    }

    /// Seconds; falls towards zero without answers, so that an endpoint that was slow is tried again. None before the
    /// first answer.
    pub(super) fn value(&self, now: Instant) -> Option<f64> {
        let stamp = self.stamp.get()?;
        Some(self.cost.get() * Self::kept(stamp, now))
    }

    fn kept(stamp: Instant, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(stamp);
        (-passed.as_secs_f64() / Self::DECAY.as_secs_f64()).exp()
    }
}
