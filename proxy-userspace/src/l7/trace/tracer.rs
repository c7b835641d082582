//! Which requests are traced, and what endpoints are told of the others.

use super::{
    context::{self, Context, TRACEPARENT, TRACESTATE, TraceId},
    export::TraceCounters,
    live::Trace,
};
use crate::{
    l7::{fields::Fields, tls},
    model,
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use http::HeaderMap;
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::mpsc;

/// How requests are traced at one generation; the same for all workers.
pub struct Tracing {
    /// As it is wanted.
    pub settings: Arc<model::Tracing>,
    /// Towards the collector.
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    queue: mpsc::Sender<Box<Trace>>,
    counters: Arc<TraceCounters>,
    rate: Rate,
}

impl Tracing {
    pub(super) fn new(
        settings: &Arc<model::Tracing>,
        queue: mpsc::Sender<Box<Trace>>,
        counters: &Arc<TraceCounters>,
    ) -> Result<Self, tls::TlsMistake> {
        let alpn: &[u8] = match settings.collector.protocol {
            model::OtlpProtocol::Http => b"http/1.1",
            model::OtlpProtocol::Grpc => b"h2",
        };
        let tls = settings.collector.tls.as_ref();
        Ok(Self {
            tls: tls.map(|tls| tls::client(tls, &[alpn])).transpose()?,
            queue,
            counters: Arc::clone(counters),
            rate: Rate::new(settings.max_per_second),
            settings: Arc::clone(settings),
        })
    }

    /// Hands a trace over, or counts its spans as lost.
    pub(super) fn send(&self, trace: Box<Trace>) {
        if let Err(lost) = self.queue.try_send(trace) {
            let spans = lost.into_inner().spans();
            self.counters.queue_full.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// At most so many a second, and as many at once (GCRA): one word, which a request that isn't sampled doesn't touch.
struct Rate {
    epoch: Instant,
    interval_nanoseconds: u64,
    /// When the next one is due if they come evenly, from the epoch.
    due: AtomicU64,
}

impl Rate {
    const SECOND: u64 = 1_000_000_000;

    fn new(per_second: u32) -> Self {
        Self {
            epoch: Instant::now(),
            interval_nanoseconds: Self::SECOND / u64::from(per_second.max(1)),
            due: AtomicU64::new(0),
        }
    }

    fn admits(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.epoch).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let next = |due: u64| {
            let due = due.max(now) + self.interval_nanoseconds;
            (due - now <= Self::SECOND).then_some(due)
        };
        self.due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

/// A worker's end of it.
pub struct Tracer {
    /// Of all workers.
    pub tracing: Arc<Tracing>,
    random: RefCell<fastrand::Rng>,
}

/// A request that is sampled: its trace, and whose child it is.
pub struct Sampled {
    pub(super) trace_id: TraceId,
    pub(super) parent: Option<u64>,
    /// For endpoints.
    pub(super) flags: u8,
}

impl Tracer {
    /// For one worker: ids must differ from those of other workers and hosts.
    pub fn new(tracing: Arc<Tracing>) -> Self {
        let mut seed = [0; 8];
        // The thread's own generator is seeded by time and thread: enough where the system has no better.
        if SystemRandom::new().fill(&mut seed).is_err() {
            seed = fastrand::u64(..).to_ne_bytes();
        }
        Self {
            tracing,
            random: RefCell::new(fastrand::Rng::with_seed(u64::from_ne_bytes(seed))),
        }
    }

    /// A span's id.
    pub fn span_id(&self) -> u64 {
        self.random.borrow_mut().u64(1..)
    }

    /// Decides about a request, and writes what its endpoint is to know, but for the span of one that is sampled: that differs with
    /// every try. `fields`: what its headers have.
    pub fn enter(&self, headers: &mut HeaderMap, fields: Fields) -> Option<Sampled> {
        let parent = (fields.has(Fields::TRACEPARENT))
            .then(|| context::of(headers))
            .flatten();
        if fields.has(Fields::TRACESTATE) && (parent.is_none() || !context::is_valid_state(headers)) {
            headers.remove(TRACESTATE);
        }
        let settings = &self.tracing.settings;
        let (context, is_wanted) = match parent {
            Some(parent) => (parent, parent.is_sampled()),
            None => {
                let mut random = self.random.borrow_mut();
                let trace_id = TraceId(random.u128(1..));
                let is_wanted = settings.sampling.takes(trace_id.0);
                let context = Context {
                    trace_id,
                    span_id: random.u64(1..),
                    flags: Context::RANDOM,
                    is_version_0: false,
                };
                (context, is_wanted)
            }
        };
        let is_sampled = is_wanted && self.tracing.rate.admits(Instant::now());
        // What says the same as before stays as it is: with no span of ours the client's is the parent.
        if is_sampled || !context.is_version_0 {
            headers.insert(TRACEPARENT, context.value());
        }
        is_sampled.then_some(Sampled {
            trace_id: context.trace_id,
            parent: parent.map(|parent| parent.span_id),
            flags: context.flags & Context::RANDOM | Context::SAMPLED,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_rate_admits_so_many_at_once_and_then_one_an_interval() {
        let rate = Rate::new(10);
        let admitted = |at: u64| {
            (0..100)
                .filter(|_| rate.admits(rate.epoch + Duration::from_millis(at)))
                .count()
        };
        assert_eq!(admitted(5_000), 10);
        assert_eq!(admitted(5_000), 0);
        assert_eq!(admitted(5_100), 1);
        assert_eq!(admitted(5_350), 2);
        assert_eq!(admitted(60_000), 10);
    }
}
