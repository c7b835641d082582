//! Following the host: interfaces appear and vanish, addresses and routes change under the kernel plane.

use super::{Core, chores::SWEEP_INTERVAL};
use crate::kernel::{News, NewsWatch};
use tracing::warn;

/// Waits for what concerns the kernel plane, if there is one with interfaces.
pub(super) struct HostWatch(Option<NewsWatch>);

impl HostWatch {
    /// From now on. Without it the sweeps look all the same.
    pub(super) fn open(core: &Core) -> Self {
        if core.plane.absence().is_some() || core.snapshot.settings.interfaces.is_empty() {
            return Self(None);
        }
        let watch = NewsWatch::open();
        let watch = watch.inspect_err(|error| {
            warn!("interfaces are looked at every {SWEEP_INTERVAL:?}, not watched: {error}");
        });
        Self(watch.ok())
    }

    /// The next news; waits for ever where there is nothing to follow.
    pub(super) async fn next(&mut self) -> News {
        match &mut self.0 {
            Some(watch) => watch.next().await,
            None => std::future::pending().await,
        }
    }
}

impl Core {
    /// Attaches to interfaces that have appeared, and asks anew for sources and routes that may be others.
    pub(super) fn attend(&mut self, news: &News) {
        self.stale |= self.plane.attend(news);
        self.settle();
    }
}
