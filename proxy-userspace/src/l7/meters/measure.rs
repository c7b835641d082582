//! What one request adds to the counters of its route, cluster and endpoint: at once where it begins, the rest when it is dropped.

use super::{Traffic, Upstream};
use crate::l7::{body::Upload, listener::Serving, upstream::Pool};
use std::{rc::Rc, time::Duration};
use tokio::time::Instant;

/// A request that is being counted. Whoever sends its response's last byte drops it.
pub struct Measure {
    serving: Rc<Serving>,
    begin: Instant,
    upload: Option<Rc<Upload>>,
    endpoint: Option<Rc<Pool>>,
    sent: u64,
    /// Its place; [`NO_ROUTE`] before it has one.
    route: u32,
    /// 0 before there is one.
    status: u16,
    has_failed: bool,
}

const NO_ROUTE: u32 = u32::MAX;

// It lies in every response's body, which moves several times.
const _: () = assert!(size_of::<Measure>() <= 56);

impl Measure {
    /// A request's head is whole.
    pub fn begin(serving: &Rc<Serving>, upload: Option<&Rc<Upload>>) -> Self {
        Self {
            serving: Rc::clone(serving),
            begin: Instant::now(),
            upload: upload.cloned(),
            endpoint: None,
            sent: 0,
            route: NO_ROUTE,
            status: 0,
            has_failed: false,
        }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begin
    }

    /// A route took it.
    pub fn route(&mut self, place: usize) {
        self.route = u32::try_from(place).unwrap_or(NO_ROUTE - 1);
        self.traffic().requests.increase();
    }

    /// It goes to this endpoint, after the one before, if any, failed.
    pub fn endpoint(&mut self, pool: &Rc<Pool>) {
        match &self.endpoint {
            Some(failed) => {
                failed.meter.failures.increase();
                pool.sent_again();
            }
            None => {
                pool.cluster_meter.traffic.requests.increase();
                pool.cluster_meter.active.increase();
            }
        }
        self.goes_over(pool);
    }

    /// This endpoint has it in place of the other one.
    pub fn goes_over(&mut self, pool: &Rc<Pool>) {
        pool.meter.traffic.requests.increase();
        pool.meter.active.increase();
        if let Some(before) = self.endpoint.replace(Rc::clone(pool)) {
            before.meter.active.decrease();
        }
    }

    /// Its response doesn't come from the endpoint.
    pub fn failed(&mut self) {
        self.has_failed = true;
    }

    /// Its response is on its way.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Bytes of the response's body so far.
    pub fn sent(&mut self, bytes: u64) {
        self.sent = bytes;
    }

    fn traffic(&self) -> &Traffic {
        let meters = &self.serving.compiled.meters;
        let place = (self.route != NO_ROUTE).then_some(self.route as usize);
        meters.route(place).of(self.serving.worker)
    }

    fn status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    fn ended(&self, meter: &Upstream, took: Duration, bytes: (u64, u64)) {
        meter.active.decrease();
        if self.has_failed {
            meter.failures.increase();
        }
        meter
            .traffic
            .finished(self.status().filter(|_| !self.has_failed), took, bytes);
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        let took = self.begin.elapsed();
        let received = self.upload.as_ref().map_or(0, |upload| upload.received());
        let bytes = (received, self.sent);
        let traffic = self.traffic();
        if self.route == NO_ROUTE {
            traffic.requests.increase();
        }
        traffic.finished(self.status(), took, bytes);
        if let Some(endpoint) = &self.endpoint {
            self.ended(&endpoint.cluster_meter, took, bytes);
            self.ended(&endpoint.meter, took, bytes);
        }
    }
}
