//! What operators set live on top of the config: weights and drains of single endpoints.

use crate::{
    admin::status::EndpointPatch,
    model::{Clusters, Endpoint, EndpointId},
};
use std::collections::BTreeMap;

/// Overrides by endpoint. All outlive reloads; durable ones the daemon too.
#[derive(Clone, Default)]
pub(super) struct Overrides(BTreeMap<EndpointId, Layers>);

/// What lies on top of the config: what was set until the next start, and under it what was set for good.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Layers {
    live: Override,
    durable: Override,
}

/// What is set of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Override {
    pub(super) weight: Option<u32>,
    pub(super) drain: Option<bool>,
}

impl Override {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This one, and the other where it says nothing.
    fn over(self, other: Self) -> Self {
        Self {
            weight: self.weight.or(other.weight),
            drain: self.drain.or(other.drain),
        }
    }

    /// Without what says what holds anyway.
    fn without(self, held: Self) -> Self {
        Self {
            weight: self.weight.filter(|weight| Some(*weight) != held.weight),
            drain: self.drain.filter(|drain| Some(*drain) != held.drain),
        }
    }
}

impl Layers {
    fn normal(self, configured: &Endpoint) -> Self {
        let config = Override {
            weight: Some(configured.weight),
            drain: Some(configured.drain),
        };
        let durable = self.durable.without(config);
        Self {
            live: self.live.without(durable.over(config)),
            durable,
        }
    }

    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.durable.is_empty()
    }
}

impl Overrides {
    /// What an earlier daemon kept.
    pub(super) fn of_durable(kept: BTreeMap<EndpointId, Override>) -> Self {
        let layers = kept.into_iter().map(|(id, durable)| {
            let live = Override::default();
            (id, Layers { live, durable })
        });
        Self(layers.collect())
    }

    /// Adds to what was set before. A value that equals the config's removes the override. A durable one takes the place of one until
    /// the next start; the other way round it lies under it.
    pub(super) fn set(&mut self, id: EndpointId, patch: EndpointPatch, configured: &Endpoint) {
        let wanted = Override {
            weight: patch.weight,
            drain: patch.drain,
        };
        let mut layers = self.0.remove(&id).unwrap_or_default();
        if patch.durable {
            layers.durable = wanted.over(layers.durable);
            layers.live.weight = layers.live.weight.filter(|_| wanted.weight.is_none());
            layers.live.drain = layers.live.drain.filter(|_| wanted.drain.is_none());
        } else {
            layers.live = wanted.over(layers.live);
        }
        let layers = layers.normal(configured);
        if !layers.is_empty() {
            self.0.insert(id, layers);
        }
    }

    /// After a reload: forgets overrides of endpoints that are gone, and those that the config now says too. Returns the endpoints that
    /// are gone. A durable one waits where its cluster has names, whose addresses come and go.
    pub(super) fn reconcile(&mut self, clusters: &Clusters) -> Vec<EndpointId> {
        let mut gone = Vec::new();
        self.0.retain(|id, layers| {
            if let Some(configured) = find(clusters, id) {
                *layers = layers.normal(configured);
                return !layers.is_empty();
            }
            let may_return = clusters
                .get(&id.cluster)
                .is_some_and(|cluster| !cluster.dns.is_empty());
            if may_return && !layers.durable.is_empty() {
                layers.live = Override::default();
                return true;
            }
            gone.push(id.clone());
            false
        });
        gone
    }

    /// Puts the override, if there is one, on top of what the config says.
    pub(super) fn apply(&self, id: &EndpointId, endpoint: &mut Endpoint) {
        if let Some(layers) = self.0.get(id) {
            let set = layers.live.over(layers.durable);
            endpoint.weight = set.weight.unwrap_or(endpoint.weight);
            endpoint.drain = set.drain.unwrap_or(endpoint.drain);
        }
    }

    /// Whether the endpoint is other than the config says.
    pub(super) fn contains(&self, id: &EndpointId) -> bool {
        self.0.contains_key(id)
    }

    /// Whether something of the endpoint is set for good.
    pub(super) fn is_durable(&self, id: &EndpointId) -> bool {
        self.0.get(id).is_some_and(|layers| !layers.durable.is_empty())
    }

    /// Whether something that was set for good is covered until the next start only.
    pub(super) fn is_covered(&self, id: &EndpointId) -> bool {
        self.0.get(id).is_some_and(|Layers { live, durable }| {
            live.weight.is_some() && durable.weight.is_some()
                || live.drain.is_some() && durable.drain.is_some()
        })
    }

    /// What is to outlive the daemon.
    pub(super) fn durable(&self) -> BTreeMap<EndpointId, Override> {
        let durable = self.0.iter().map(|(id, layers)| (id.clone(), layers.durable));
        durable.filter(|(_, set)| !set.is_empty()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendAddr, Cluster, ClusterName, DnsEndpoint, Health};

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
            ..EndpointPatch::default()
        }
    }

    fn drain(drain: bool) -> EndpointPatch {
        EndpointPatch {
            drain: Some(drain),
            ..EndpointPatch::default()
        }
    }

    fn durable(patch: EndpointPatch) -> EndpointPatch {
        EndpointPatch {
            durable: true,
            ..patch
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
    fn a_durable_override_lies_under_one_until_the_next_start() {
        let (clusters, id) = config(1);
        let configured = find(&clusters, &id).unwrap();
        let mut overrides = Overrides::default();
        // What is set; what holds then; what the next start begins with.
        let steps = [
            (durable(weight(3)), (3, false), (3, false)),
            (drain(true), (3, true), (3, false)),
            (weight(1), (1, true), (3, false)),
            (durable(drain(true)), (1, true), (3, true)),
            (durable(weight(5)), (5, true), (5, true)),
            (drain(false), (5, false), (5, true)),
            (durable(drain(false)), (5, false), (5, false)),
            (durable(weight(1)), (1, false), (1, false)),
        ];
        for (patch, now, next) in steps {
            overrides.set(id.clone(), patch, configured);
            assert_eq!(seen(&overrides, &clusters, &id), now, "{patch:?}");
            let started = Overrides::of_durable(overrides.durable());
            assert_eq!(seen(&started, &clusters, &id), next, "{patch:?}");
        }
        assert!(!overrides.contains(&id));
    }

    #[test]
    fn reloads_keep_an_override_until_the_config_says_the_same_or_the_endpoint_is_gone() {
        let (clusters, id) = config(1);
        for patch in [weight(3), durable(weight(3))] {
            let mut overrides = Overrides::default();
            overrides.set(id.clone(), patch, find(&clusters, &id).unwrap());

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

    #[test]
    fn a_durable_override_of_an_address_waits_for_its_name_to_have_it_again() {
        let (mut clusters, id) = config(1);
        let mut overrides = Overrides::default();
        overrides.set(id.clone(), durable(weight(3)), find(&clusters, &id).unwrap());
        let listed = clusters.clone();
        let mut unresolved = Cluster::clone(&clusters[&id.cluster]);
        unresolved.endpoints.clear();
        unresolved.dns.push(DnsEndpoint {
            name: "web.internal".into(),
            port: 80,
            weight: 1,
            drain: false,
        });
        clusters.insert(id.cluster.clone(), unresolved.into());
        assert_eq!(overrides.reconcile(&clusters), []);
        assert_eq!(seen(&overrides, &listed, &id), (3, false));
    }
}
