//! Counters of what a generation names, taken over from the generation before where the name is the same.

use super::{Downstream, Shares, Traffic, Upstream};
use crate::model::{BackendAddr, Cluster, l7::Route};
use std::{collections::HashMap, sync::Arc};

/// Routes of a config that are counted by themselves, in its order; the others of a listener are counted together.
pub const MOST_ROUTES: usize = 1_000;

/// A listener's counters and its routes'.
pub struct ListenerMeters {
    /// Its connections.
    pub listener: Arc<Shares<Downstream>>,
    /// The first ones, by their place.
    routes: Vec<(Arc<str>, Arc<Shares<Traffic>>)>,
    /// All others.
    other: Option<Arc<Shares<Traffic>>>,
    /// Requests that no route took.
    unrouted: Arc<Shares<Traffic>>,
}

impl ListenerMeters {
    /// The label of routes that are counted together.
    pub const OTHER: &str = "_other";
    /// The label of requests that no route took.
    pub const NONE: &str = "_none";

    /// The label of a route without a name: its place, as messages about the config name it.
    pub fn label_of(place: usize) -> Arc<str> {
        format!("routes[{place}]").into()
    }

    /// Counts the first `most` routes by themselves.
    pub fn new(routes: &[Route], most: usize, before: Option<&Self>, workers: usize) -> Self {
        let named: HashMap<&str, &Arc<Shares<Traffic>>> = (before.iter())
            .flat_map(|before| &before.routes)
            .map(|(name, shares)| (&**name, shares))
            .collect();
        let own = routes.iter().take(most).enumerate().map(|(place, route)| {
            let name = label(route, place);
            let shares = named
                .get(&*name)
                .map_or_else(|| Shares::new(workers), |it| Arc::clone(it));
            (name, shares)
        });
        let kept =
            |shares: Option<&Arc<Shares<Traffic>>>| shares.map_or_else(|| Shares::new(workers), Arc::clone);
        Self {
            listener: before.map_or_else(|| Shares::new(workers), |it| Arc::clone(&it.listener)),
            routes: own.collect(),
            other: (routes.len() > most).then(|| kept(before.and_then(|it| it.other.as_ref()))),
            unrouted: kept(before.map(|it| &it.unrouted)),
        }
    }

    /// How many routes are counted by themselves.
    pub fn own_routes(&self) -> usize {
        self.routes.len()
    }

    /// Of a route by its place; none: of requests that no route took.
    pub fn route(&self, place: Option<usize>) -> &Shares<Traffic> {
        let Some(place) = place else {
            return &self.unrouted;
        };
        let own = self.routes.get(place).map(|(_, shares)| shares);
        own.or(self.other.as_ref()).unwrap_or(&self.unrouted)
    }

    /// All, by their labels.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &Shares<Traffic>)> {
        let own = self.routes.iter().map(|(name, shares)| (&**name, &**shares));
        let other = self.other.iter().map(|shares| (Self::OTHER, &**shares));
        own.chain(other).chain([(Self::NONE, &*self.unrouted)])
    }
}

/// Its name; else its place.
fn label(route: &Route, place: usize) -> Arc<str> {
    (route.name.clone()).unwrap_or_else(|| ListenerMeters::label_of(place))
}

/// A cluster's counters and its endpoints'.
pub struct ClusterMeters {
    /// The cluster's: they stay when endpoints leave.
    pub cluster: Arc<Shares<Upstream>>,
    endpoints: HashMap<BackendAddr, Arc<Shares<Upstream>>>,
}

impl ClusterMeters {
    /// Those that were there, or new ones.
    pub fn new(cluster: &Cluster, before: Option<&Arc<Self>>, workers: usize) -> Arc<Self> {
        let known = |address| before?.endpoints.get(address);
        let mut addresses = cluster.endpoints.iter().map(|endpoint| endpoint.address);
        if let Some(before) = before
            && before.endpoints.len() == cluster.endpoints.len()
            && addresses.all(|address| before.endpoints.contains_key(&address))
        {
            return Arc::clone(before);
        }
        let endpoints = cluster.endpoints.iter().map(|endpoint| {
            let shares = known(&endpoint.address).map_or_else(|| Shares::new(workers), Arc::clone);
            (endpoint.address, shares)
        });
        Arc::new(Self {
            endpoints: endpoints.collect(),
            cluster: before.map_or_else(|| Shares::new(workers), |it| Arc::clone(&it.cluster)),
        })
    }

    /// An endpoint's.
    pub fn endpoint(&self, address: BackendAddr) -> Option<&Arc<Shares<Upstream>>> {
        self.endpoints.get(&address)
    }
}
