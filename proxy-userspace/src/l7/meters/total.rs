//! Counters added up over workers, on the control thread.

use super::{BUCKETS, Downstream, Exemplar, Shares, Traffic, Upstream};

/// [`Traffic`] of all workers.
#[derive(Clone, Copy, Default, Debug)]
pub struct TrafficTotal {
    /// Requests that began.
    pub requests: u64,
    /// Responses by hundreds of their status.
    pub responses: [u64; 5],
    /// Durations by bucket, not cumulated.
    pub buckets: [u64; BUCKETS],
    /// Sum of all durations.
    pub sum_nanoseconds: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

impl TrafficTotal {
    fn add(&mut self, share: &Traffic) {
        self.requests += share.requests.value();
        for (total, count) in self.responses.iter_mut().zip(&share.responses) {
            *total += count.value();
        }
        for (total, count) in self.buckets.iter_mut().zip(&share.durations.buckets) {
            *total += count.value();
        }
        let sum = &mut self.sum_nanoseconds;
        *sum = sum.wrapping_add(share.durations.sum_nanoseconds.value());
        self.received += share.received.value();
        self.sent += share.sent.value();
    }
}

/// [`Upstream`] of all workers.
#[derive(Clone, Copy, Default, Debug)]
pub struct UpstreamTotal {
    /// Requests and TCP connections.
    pub traffic: TrafficTotal,
    /// Not over.
    pub active: u64,
    /// Without a response.
    pub failures: u64,
    /// Sent again.
    pub retries: u64,
    /// Connections that could not be opened.
    pub connect_failures: u64,
    /// Connections ever opened.
    pub opened: u64,
    /// Connections open.
    pub connections: u64,
    /// Connections that wait.
    pub idle: u64,
}

/// [`Downstream`] of all workers.
#[derive(Clone, Copy, Default, Debug)]
pub struct DownstreamTotal {
    /// Open now.
    pub connections: u64,
    /// Ever.
    pub accepted: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

impl Shares<Traffic> {
    /// All workers' together.
    pub fn total(&self) -> TrafficTotal {
        let mut total = TrafficTotal::default();
        self.made().for_each(|share| total.add(share));
        total
    }

    /// The latest trace of each bucket, over all workers.
    pub fn exemplars(&self) -> [Option<Exemplar>; BUCKETS] {
        let mut latest = [None::<Exemplar>; BUCKETS];
        for share in self.made().filter_map(Traffic::exemplars) {
            for (place, found) in latest.iter_mut().zip(share.read()) {
                if let Some(found) = found
                    && place.is_none_or(|known| known.unix_milliseconds < found.unix_milliseconds)
                {
                    *place = Some(found);
                }
            }
        }
        latest
    }
}

impl Shares<Upstream> {
    /// All workers' together; none where no worker ever counted.
    pub fn total(&self) -> Option<UpstreamTotal> {
        let mut made = self.made().peekable();
        made.peek()?;
        let mut total = UpstreamTotal::default();
        for share in made {
            total.traffic.add(&share.traffic);
            total.active += share.active.value();
            total.failures += share.failures.value();
            total.retries += share.retries.value();
            total.connect_failures += share.connect_failures.value();
            total.opened += share.opened.value();
            total.connections += share.connections.value();
            total.idle += share.idle.value();
        }
        Some(total)
    }
}

impl Shares<Downstream> {
    /// All workers' together.
    pub fn total(&self) -> DownstreamTotal {
        let mut total = DownstreamTotal::default();
        for share in self.made() {
            total.connections += share.connections.value();
            total.accepted += share.accepted.value();
            total.received += share.received.value();
            total.sent += share.sent.value();
        }
        total
    }
}
