//! Two answers of the daemon, and the rates between them.

use crate::admin::status::{ServiceStatus, Status, WorkerStatus};
use std::{collections::HashMap, time::Duration};

/// One answer, and what was seen beside it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sample {
    /// When it came, since `weir top` began.
    pub(super) at: Duration,
    /// The same by the clock, in seconds since 1970.
    pub(super) unix_seconds: u64,
    pub(super) status: Status,
    /// CPU time that each worker's thread has had, in their order; none where it can't be seen.
    pub(super) cpu: Vec<Option<Duration>>,
}

/// The last answer and, once there is one, that before it.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) now: &'a Sample,
    before: Option<&'a Sample>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(now: &'a Sample, before: Option<&'a Sample>) -> Self {
        Self { now, before }
    }

    /// The answer before, whoever gave it: the kernel's counters outlive daemons.
    pub(super) fn before(&self) -> Option<&'a Status> {
        self.before.map(|before| &before.status)
    }

    /// A second's part of what a counter grew by; none without an earlier value, and where the counter began anew.
    pub(super) fn rate(&self, now: u64, before: Option<u64>) -> Option<f64> {
        let grown = now.checked_sub(before?)?;
        let seconds = self.now.at.checked_sub(self.before?.at)?.as_secs_f64();
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }

    /// The same of a figure of services that is summed over all of them.
    pub(super) fn total(&self, figure: impl Fn(&Status) -> u64) -> Option<f64> {
        self.rate(figure(&self.now.status), self.before().map(&figure))
    }

    /// The same of a figure of the L7 plane, whose counters begin with the daemon.
    pub(super) fn l7_total(&self, figure: impl Fn(&WorkerStatus) -> u64) -> Option<f64> {
        let sum = |status: &Status| status.l7.workers.iter().map(&figure).sum();
        self.rate(
            sum(&self.now.status),
            self.same_daemon().map(|before| sum(&before.status)),
        )
    }

    /// What a worker's counters were.
    pub(super) fn worker_before(&self, number: usize) -> Option<&'a WorkerStatus> {
        self.same_daemon()?.status.l7.workers.get(number)
    }

    /// The part of the time that a worker's thread had a CPU, in percent.
    pub(super) fn busy_percent(&self, number: usize) -> Option<f64> {
        let now = (*self.now.cpu.get(number)?)?;
        let before = (*self.same_daemon()?.cpu.get(number)?)?;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let per_second = self.rate(nanoseconds(now), Some(nanoseconds(before)))?;
        // Clock ticks are coarse: a short interval can hold more of them than fit.
        Some((per_second / 1e7).min(100.0))
    }

    /// What services were before, by [`service_key`].
    pub(super) fn services_before(&self) -> HashMap<String, &'a ServiceStatus> {
        let services = self.before().into_iter().flat_map(|before| &before.services);
        services.map(|service| (service_key(service), service)).collect()
    }

    fn same_daemon(&self) -> Option<&'a Sample> {
        self.before.filter(|before| {
            let (before, now) = (&before.status, &self.now.status);
            (before.pid, before.started_unix_seconds) == (now.pid, now.started_unix_seconds)
        })
    }
}

/// What a service is known by from answer to answer.
pub(super) fn service_key(service: &ServiceStatus) -> String {
    format!("{} {} {}", service.name, service.protocol, service.address)
}
