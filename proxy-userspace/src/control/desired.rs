//! What people want: the config, with the addresses of its names, and what they set live on top of it.

use super::{
    Refusal, RefusalKind,
    overrides::{Overrides, find},
    resolved::Resolved,
};
use crate::{
    admin::status::{ConfiguredStatus, EndpointPatch},
    config::Loaded,
    discovery::Answer,
    model::{ClusterName, Clusters, Endpoint, EndpointId},
};
use std::{collections::BTreeSet, sync::Arc};

/// Cheap to clone: a candidate is made of it, and dropped if it can't be applied.
#[derive(Clone)]
pub(super) struct Desired {
    pub(super) config: Arc<Loaded>,
    /// The config's, with an endpoint for every address of a name.
    pub(super) clusters: Arc<Clusters>,
    pub(super) resolved: Resolved,
    pub(super) overrides: Overrides,
    pub(super) touched: Touched,
}

/// Which clusters may be others than in the Snapshot that runs; if all may, so may everything else of it.
#[derive(Clone)]
pub(super) enum Touched {
    All,
    These(BTreeSet<ClusterName>),
}

impl Touched {
    /// None.
    pub(super) fn nothing() -> Self {
        Self::These(BTreeSet::new())
    }

    /// This one too.
    pub(super) fn add(&mut self, cluster: &ClusterName) {
        if let Self::These(names) = self {
            names.insert(cluster.clone());
        }
    }

    /// Whether it is more than weights, drains and verdicts.
    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

impl Desired {
    pub(super) fn new(config: Loaded, overrides: Overrides) -> Self {
        Self {
            touched: Touched::All,
            clusters: Arc::new(config.clusters.clone()),
            config: Arc::new(config),
            resolved: Resolved::default(),
            overrides,
        }
    }

    /// Another config; what its names resolved to is kept.
    pub(super) fn set_config(&mut self, config: Arc<Loaded>) {
        self.resolved.prune(&config.clusters);
        self.clusters = Arc::new(self.resolved.expand(&config.clusters));
        self.config = config;
        self.touched = Touched::All;
    }

    /// Takes in what names resolved to; returns whether endpoints are others than before.
    pub(super) fn resolve(&mut self, answers: impl IntoIterator<Item = Answer>) -> bool {
        let changed =
            (answers.into_iter()).fold(false, |changed, answer| self.resolved.record(answer) | changed);
        if changed {
            self.touched = Touched::All;
            self.clusters = Arc::new(self.resolved.expand(&self.config.clusters));
        }
        changed
    }

    /// Overrides what the config says about an endpoint.
    ///
    /// # Errors
    /// No such endpoint, or an impossible weight.
    pub(super) fn set_endpoint(&mut self, id: &EndpointId, patch: EndpointPatch) -> Result<(), Refusal> {
        let clusters = &*self.clusters;
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
        self.touched.add(&id.cluster);
        Ok(())
    }

    /// What the config says about an endpoint that is overridden.
    pub(super) fn configured(&self, id: &EndpointId) -> Option<ConfiguredStatus> {
        if !self.overrides.contains(id) {
            return None;
        }
        let endpoint = find(&self.clusters, id)?;
        Some(ConfiguredStatus {
            weight: endpoint.weight,
            drain: endpoint.drain,
        })
    }
}

/// Names that a remedy lists before it says how many more there are.
const NAMED: usize = 10;

pub(super) fn names(all: impl ExactSizeIterator<Item: ToString>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<String> = all.take(NAMED).map(|name| name.to_string()).collect();
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    named.join(", ") + &rest
}
