//! What people want: the config, and what they set live on top of it.

use super::{
    Refusal, RefusalKind,
    overrides::{Overrides, find},
};
use crate::{
    admin::status::{ConfiguredStatus, EndpointPatch},
    config::Loaded,
    model::{Endpoint, EndpointId},
};
use std::sync::Arc;

/// Cheap to clone: a candidate is made of it, and dropped if it can't be applied.
#[derive(Clone)]
pub(super) struct Desired {
    pub(super) config: Arc<Loaded>,
    pub(super) overrides: Overrides,
}

impl Desired {
    pub(super) fn new(config: Loaded) -> Self {
        Self {
            config: Arc::new(config),
            overrides: Overrides::default(),
        }
    }

    /// Overrides what the config says about an endpoint.
    ///
    /// # Errors
    /// No such endpoint, or an impossible weight.
    pub(super) fn set_endpoint(&mut self, id: &EndpointId, patch: EndpointPatch) -> Result<(), Refusal> {
        let clusters = &self.config.clusters;
        let not_found = |error: String, known: String| {
            Refusal::new(RefusalKind::NotFound, error, format!("use one of: {known}"))
        };
        let Some(cluster) = clusters.get(&id.cluster) else {
            return Err(not_found(
                format!("no cluster {}", id.cluster),
                names(clusters.keys()),
            ));
        };
        let Some(endpoint) = find(clusters, id) else {
            let known = names(cluster.endpoints.iter().map(|endpoint| endpoint.address));
            return Err(not_found(
                format!("cluster {} has no endpoint {}", id.cluster, id.address),
                known,
            ));
        };
        if let Some(weight) = patch.weight.filter(|weight| *weight > Endpoint::MAX_WEIGHT) {
            let error = format!("weight {weight} is too great");
            return Err(Refusal::new(
                RefusalKind::Invalid,
                error,
                format!("use 0 to {}", Endpoint::MAX_WEIGHT),
            ));
        }
        self.overrides.set(id.clone(), patch, endpoint);
        Ok(())
    }

    /// What the config says about an endpoint that is overridden.
    pub(super) fn configured(&self, id: &EndpointId) -> Option<ConfiguredStatus> {
        if !self.overrides.contains(id) {
            return None;
        }
        let endpoint = find(&self.config.clusters, id)?;
        Some(ConfiguredStatus {
            weight: endpoint.weight,
            drain: endpoint.drain,
        })
    }
}

/// Names that a remedy lists before it says how many more there are.
const NAMED: usize = 10;

fn names(all: impl ExactSizeIterator<Item: ToString>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<String> = all.take(NAMED).map(|name| name.to_string()).collect();
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    named.join(", ") + &rest
}
