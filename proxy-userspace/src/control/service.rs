//! What systemd, or another service manager that speaks its protocol, is told: ready, reloading, stopping, alive (sd_notify(3)).

use sd_notify::NotifyState;
use std::{future::pending, process, time::Duration};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::debug;

/// This process serves. It says which process it is: after an upgrade it is another than the one that the manager started.
pub fn ready(status: &str) {
    tell(&[
        NotifyState::MainPid(process::id()),
        NotifyState::Status(status),
        NotifyState::Ready,
    ]);
}

/// It reads its config again, as SIGHUP asked for; [`ready_again`] ends that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!("no time to tell the service manager: {error}"),
    }
}

/// It has read its config again, whatever came of it.
pub(super) fn ready_again(status: &str) {
    tell(&[NotifyState::Status(status), NotifyState::Ready]);
}

/// It stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Without a manager nothing is sent, and that is no error.
    if let Err(error) = sd_notify::notify(state) {
        debug!("telling the service manager: {error}");
    }
}

/// Tells the manager that control takes its turns, twice in the time that it waits for that, if it does.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    pub(super) fn new() -> Self {
        // Zero is what nobody can keep.
        let limit = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO);
        Self(limit.map(|limit| {
            let mut ticks = interval(limit / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits until it is time, and tells. Never ends without a manager that waits for it.
    pub(super) async fn tell(&mut self) {
        match &mut self.0 {
            Some(ticks) => {
                ticks.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
            None => pending().await,
        }
    }
}
