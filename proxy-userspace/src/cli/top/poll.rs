//! Asks the daemon again and again, in a thread of its own: an answer that is late keeps no key waiting.

use super::{News, busy, sample::Sample};
use crate::{
    admin::{call, status::Status},
    cli::unix_seconds,
};
use hyper::Method;
use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

/// The thread that asks; it ends when this is dropped.
pub(super) struct Poller(Sender<Duration>);

impl Poller {
    /// Asks at once, and then after each interval.
    pub(super) fn start(socket: PathBuf, mut interval: Duration, news: Sender<News>) -> Self {
        let (paces, changes) = mpsc::channel();
        thread::spawn(move || {
            let began = Instant::now();
            loop {
                let asked = Instant::now();
                let answer = News::Answer(Box::new(ask(&socket, began)));
                if news.send(answer).is_err() {
                    return;
                }
                loop {
                    match changes.recv_timeout(interval.saturating_sub(asked.elapsed())) {
                        Ok(changed) => interval = changed,
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        });
        Self(paces)
    }

    /// From now on so often.
    pub(super) fn pace(&self, interval: Duration) {
        // A thread that is gone has said so to the loop.
        let _gone = self.0.send(interval);
    }
}

/// One answer, or why there is none in a line.
pub(super) fn ask(socket: &Path, began: Instant) -> Result<Sample, String> {
    let body = call(socket, Method::GET, "/status", None::<&()>).map_err(|error| error.to_string())?;
    let status: Status = serde_json::from_slice(&body)
        .map_err(|error| format!("the daemon is of another version; use its own weir: {error}"))?;
    Ok(Sample {
        at: began.elapsed(),
        unix_seconds: unix_seconds(),
        cpu: busy::cpu_times(status.pid, status.l7.workers.len()),
        status,
    })
}
