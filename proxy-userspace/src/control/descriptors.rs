//! How many files and sockets the process may have open: as many as it may be allowed to.

use crate::model::l7::Listener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Descriptors that a connection takes at least: the client's, and one to an endpoint.
const PER_CONNECTION: u64 = 2;

/// Raises the limit to the highest that is allowed: the lower one that shells and service managers begin with is there for programs
/// that use select(2).
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => debug!("up to {:?} open files", limit.maximum),
        Err(error) => warn!("the limit of open files stays {:?}: {error}", limit.current),
    }
}

/// Why the listeners can't have all connections that they may have.
pub(super) fn shortage(listeners: &[Listener]) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current?;
    let most = listeners
        .iter()
        .map(|listener| u64::from(listener.max_connections));
    let needed = most.sum::<u64>() * PER_CONNECTION;
    (needed > limit).then(|| {
        format!(
            "the listeners' max_connections would take {needed} open files and more, and {limit} are allowed: when those are used up, \
             clients wait; raise the limit (LimitNOFILE, `ulimit -Hn`), or lower max_connections"
        )
    })
}
