//! When waiting for a response's head ends.

use super::{body::Upload, error::Fault};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The times of one request; zero never ends.
pub struct Clock {
    /// When its head was whole.
    pub started: Instant,
    /// From its last byte.
    pub request: Duration,
    /// From its last byte, for one try.
    pub per_try: Duration,
    /// Without a byte of its body.
    pub idle: Duration,
    /// The client's own.
    pub deadline: Option<Instant>,
    /// How its body goes.
    pub upload: Option<Rc<Upload>>,
}

impl Clock {
    /// What ends next, if nothing else happens.
    fn due(&self, tried: Instant) -> Option<(Instant, Fault)> {
        let deadline = self.deadline.map(|at| (at, Fault::Deadline));
        let after = |from: Instant, time: Duration, fault| (!time.is_zero()).then(|| (from + time, fault));
        let others = match &self.upload {
            Some(upload) if !upload.is_finished() => {
                [after(upload.latest(), self.idle, Fault::BodyTimeout), None]
            }
            upload => {
                let last = upload.as_ref().map_or(self.started, |upload| upload.latest());
                [
                    after(last, self.request, Fault::Timeout),
                    after(last.max(tried), self.per_try, Fault::Timeout),
                ]
            }
        };
        deadline
            .into_iter()
            .chain(others.into_iter().flatten())
            .min_by_key(|(at, _)| *at)
    }

    /// When the response's last byte must be there.
    pub fn end(&self) -> Option<Instant> {
        let last = match &self.upload {
            Some(upload) if !upload.is_finished() => return self.deadline,
            Some(upload) => upload.latest(),
            None => self.started,
        };
        let request = (!self.request.is_zero()).then(|| last + self.request);
        self.deadline.into_iter().chain(request).min()
    }

    /// Does the work unless a time passes first.
    ///
    /// # Errors
    /// The work's, and which time passed.
    pub async fn within<T, E: From<Fault>>(
        &self,
        // By reference: a future that is handed over is stored twice.
        mut work: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Result<T, E> {
        let tried = Instant::now();
        let mut due = self.due(tried);
        let far = tried + Duration::from_secs(86_400 * 365);
        let mut timer = pin!(sleep_until(due.map_or(far, |(at, _)| at)));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            // Bytes have come since the timer was set, more often than not: it is looked at again only when it fires.
            while timer.as_mut().poll(cx).is_ready() {
                due = self.due(tried);
                match due {
                    Some((at, fault)) if at <= Instant::now() => return Poll::Ready(Err(fault.into())),
                    later => timer.as_mut().reset(later.map_or(far, |(at, _)| at)),
                }
            }
            Poll::Pending
        })
        .await
    }
}
