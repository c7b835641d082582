//! The signals that end a verb which tidies up first.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All that end it: SIGINT, SIGTERM, and SIGHUP, which is a terminal that was closed.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// From here on they end nothing by themselves. Within a tokio runtime.
    pub(super) fn take_over() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Until one comes.
    pub(super) async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
