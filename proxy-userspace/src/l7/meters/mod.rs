//! What is counted of listeners, routes, clusters and endpoints: a share a worker, written by that worker alone.

mod exemplar;
mod histogram;
mod kept;
mod measure;
mod total;

pub use exemplar::{Exemplar, Exemplars};
pub use histogram::{BOUNDS_SECONDS, BUCKETS, Histogram};
pub use kept::{ClusterMeters, ListenerMeters, MOST_ROUTES};
pub use measure::Measure;
pub use total::{DownstreamTotal, TrafficTotal, UpstreamTotal};

use super::counters::Count;
use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// One thing's counters, a share a worker. A share is made by its worker when it first counts: things without traffic cost a
/// pointer a worker, and no two workers write to one cache line.
#[derive(Debug)]
pub struct Shares<T>(Box<[OnceLock<Box<T>>]>);

impl<T: Default> Shares<T> {
    /// None made yet.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| OnceLock::new()).collect()))
    }

    /// A worker's own.
    pub fn of(&self, worker: usize) -> &T {
        self.0[worker].get_or_init(Box::default)
    }

    /// Those that were made, for control to add up.
    pub fn made(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|share| &**share)
    }
}

/// A worker's share of something's counters.
#[derive(Clone, Debug)]
pub struct Meter<T> {
    shares: Arc<Shares<T>>,
    worker: usize,
}

impl<T> Meter<T> {
    /// This worker's.
    pub fn new(shares: &Arc<Shares<T>>, worker: usize) -> Self {
        Self {
            shares: Arc::clone(shares),
            worker,
        }
    }
}

impl<T: Default> Deref for Meter<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.shares.of(self.worker)
    }
}

/// Requests and what became of them. Aligned: its neighbours in memory may be another worker's.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct Traffic {
    /// Requests that began.
    pub requests: Count,
    /// Responses by hundreds of their status: 1xx at 0.
    pub responses: [Count; 5],
    /// From a request's head to its response's last byte.
    pub durations: Histogram,
    /// Bytes of bodies from clients.
    pub received: Count,
    /// Bytes of bodies to clients.
    pub sent: Count,
    /// Of `durations`; made with the first request that is traced.
    exemplars: OnceLock<Box<Exemplars>>,
}

impl Traffic {
    /// A request that took this long was traced.
    pub fn exemplify(&self, trace_id: u128, took: Duration) {
        self.exemplars.get_or_init(Box::default).note(trace_id, took);
    }

    /// Traces of its requests, if any was traced.
    pub fn exemplars(&self) -> Option<&Exemplars> {
        self.exemplars.get().map(|exemplars| &**exemplars)
    }

    /// A request is over; without a status its client or endpoint had gone.
    fn finished(&self, status: Option<u16>, took: Duration, (received, sent): (u64, u64)) {
        if let Some(status) = status {
            self.responses[usize::from(status / 100).clamp(1, 5) - 1].increase();
            self.durations.observe(took);
        }
        self.received.add(received);
        self.sent.add(sent);
    }
}

/// What a cluster or an endpoint does.
#[derive(Default, Debug)]
pub struct Upstream {
    /// Requests sent there, those of tries that failed too, and TCP connections.
    pub traffic: Traffic,
    /// Requests and TCP connections that are not over.
    pub active: Count,
    /// Requests that got no response from there.
    pub failures: Count,
    /// Requests sent again, to another endpoint or on a fresh connection.
    pub retries: Count,
    /// Connections that could not be opened.
    pub connect_failures: Count,
    /// Connections ever opened.
    pub opened: Count,
    /// Connections open now.
    pub connections: Count,
    /// Those of them that wait for a request. HTTP/1.1: one of HTTP/2 is shared.
    pub idle: Count,
}

/// A listener's connections.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct Downstream {
    /// Open now.
    pub connections: Count,
    /// Ever.
    pub accepted: Count,
    /// Bytes from clients, inside TLS.
    pub received: Count,
    /// Bytes to clients, inside TLS.
    pub sent: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_made_when_its_worker_counts() {
        let shares: Arc<Shares<Downstream>> = Shares::new(3);
        assert_eq!(shares.made().count(), 0);
        let meter = Meter::new(&shares, 2);
        meter.accepted.increase();
        meter.accepted.increase();
        let made: Vec<u64> = shares.made().map(|share| share.accepted.value()).collect();
        assert_eq!(made, [2]);
    }
}
