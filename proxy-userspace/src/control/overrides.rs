//! What operators set live on top of the config: weights and drains of single endpoints.

use crate::{
    admin::status::EndpointPatch,
    model::{Clusters, Endpoint, EndpointId},
};
use std::collections::BTreeMap;

/// Overrides by endpoint. They outlive reloads, not the daemon.
#[derive(Clone, Default)]
pub(super) struct Overrides(BTreeMap<EndpointId, EndpointPatch>);

impl Overrides {
    /// Adds to what was set before. A value that equals the config's removes the override.
    pub(super) fn set(&mut self, id: EndpointId, patch: EndpointPatch, configured: &Endpoint) {
        let set = self.0.entry(id.clone()).or_default();
        set.weight = patch.weight.or(set.weight);
        set.drain = patch.drain.or(set.drain);
        let rest = without_equal(*set, configured);
        if rest == EndpointPatch::default() {
            self.0.remove(&id);
        } else {
            self.0.insert(id, rest);
        }
    }

    /// After a reload: forgets overrides of endpoints that are gone, and those that the config now
    /// says too. Returns the endpoints that are gone.
    pub(super) fn reconcile(&mut self, clusters: &Clusters) -> Vec<EndpointId> {
        let mut gone = Vec::new();
        self.0.retain(|id, patch| match find(clusters, id) {
            Some(configured) => {
                *patch = without_equal(*patch, configured);
                *patch != EndpointPatch::default()
            }
            None => {
                gone.push(id.clone());
                false
            }
        });
        gone
    }

    /// Puts the override, if there is one, on top of what the config says.
    pub(super) fn apply(&self, id: &EndpointId, endpoint: &mut Endpoint) {
        if let Some(patch) = self.0.get(id) {
            endpoint.weight = patch.weight.unwrap_or(endpoint.weight);
            endpoint.drain = patch.drain.unwrap_or(endpoint.drain);
        }
    }

    /// Whether the endpoint is other than the config says.
    pub(super) fn contains(&self, id: &EndpointId) -> bool {
        self.0.contains_key(id)
    }
}

/// The endpoint with this id.
pub(super) fn find<'a>(clusters: &'a Clusters, id: &EndpointId) -> Option<&'a Endpoint> {
    let cluster = clusters.get(&id.cluster)?;
    cluster
        .endpoints
        .iter()
        .find(|endpoint| endpoint.address == id.address)
}

fn without_equal(patch: EndpointPatch, configured: &Endpoint) -> EndpointPatch {
    EndpointPatch {
        weight: patch.weight.filter(|weight| *weight != configured.weight),
        drain: patch.drain.filter(|drain| *drain != configured.drain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendAddr, Cluster, ClusterName, Health};

    fn config(weight: u32) -> (Clusters, EndpointId) {
        let name = ClusterName("web".into());
        let address = BackendAddr("198.51.100.1:80".parse().unwrap());
        let endpoint = Endpoint {
            address,
            name: None,
            weight,
            drain: false,
            server_id: None,
            health: Health::Unknown,
        };
        let cluster = Cluster {
            name: name.clone(),
            endpoints: vec![endpoint],
            health_check: None,
            dns: Vec::new(),
            l7: crate::model::l7::L7Settings::default(),
        };
        (
            BTreeMap::from([(name.clone(), cluster.into())]),
            EndpointId {
                cluster: name,
                address,
            },
        )
    }

    fn weight(weight: u32) -> EndpointPatch {
        EndpointPatch {
            weight: Some(weight),
            drain: None,
        }
    }

    fn drain(drain: bool) -> EndpointPatch {
        EndpointPatch {
            weight: None,
            drain: Some(drain),
        }
    }

    fn seen(overrides: &Overrides, clusters: &Clusters, id: &EndpointId) -> (u32, bool) {
        let mut endpoint = find(clusters, id).unwrap().clone();
        overrides.apply(id, &mut endpoint);
        (endpoint.weight, endpoint.drain)
    }

    #[test]
    fn weight_and_drain_are_set_apart_and_the_config_value_takes_them_back() {
        let (clusters, id) = config(1);
        let configured = find(&clusters, &id).unwrap();
        let mut overrides = Overrides::default();
        let steps = [
            (weight(3), (3, false), true),
            (drain(true), (3, true), true),
            (weight(1), (1, true), true),
            (drain(false), (1, false), false),
        ];
        for (patch, expected, overridden) in steps {
            overrides.set(id.clone(), patch, configured);
            assert_eq!(seen(&overrides, &clusters, &id), expected, "{patch:?}");
            assert_eq!(overrides.contains(&id), overridden, "{patch:?}");
        }
    }

    #[test]
    fn reloads_keep_an_override_until_the_config_says_the_same_or_the_endpoint_is_gone() {
        let (clusters, id) = config(1);
        let mut overrides = Overrides::default();
        overrides.set(id.clone(), weight(3), find(&clusters, &id).unwrap());

        let (other, _) = config(2);
        assert_eq!(overrides.reconcile(&other), []);
        assert_eq!(seen(&overrides, &other, &id), (3, false));

        let mut caught_up = overrides.clone();
        let (same, _) = config(3);
        assert_eq!(caught_up.reconcile(&same), []);
        assert!(!caught_up.contains(&id));

        assert_eq!(overrides.reconcile(&BTreeMap::new()), std::slice::from_ref(&id));
        assert!(!overrides.contains(&id));
    }
}
