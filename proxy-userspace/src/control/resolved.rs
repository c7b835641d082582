//! What names resolved to, and the clusters with it.

use super::report::unix_seconds;
use crate::{
    discovery::Answer,
    model::{BackendAddr, Cluster, Clusters, Endpoint, Health},
};
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};
use tracing::{info, warn};

/// By name.
#[derive(Clone, Default)]
pub(super) struct Resolved(BTreeMap<Arc<str>, Known>);

#[derive(Clone, Default)]
struct Known {
    /// The last ones found.
    addresses: Vec<IpAddr>,
    /// Why the last look-up found none.
    error: Option<String>,
    /// Since when there is an error, or none.
    since: Option<SystemTime>,
}

impl Resolved {
    /// Takes in an answer; returns whether addresses are others than before.
    pub(super) fn record(&mut self, answer: Answer) -> bool {
        let name = answer.name;
        let known = self.0.entry(Arc::clone(&name)).or_default();
        if known.since.is_none() || known.error.is_none() != answer.outcome.is_ok() {
            known.since = Some(SystemTime::now());
        }
        match answer.outcome {
            Ok(addresses) => {
                // Other addresses are logged as changes of endpoints.
                if known.error.take().is_some() {
                    info!("name {name}: resolved again");
                }
                let changed = known.addresses != addresses;
                known.addresses = addresses;
                changed
            }
            Err(error) => {
                warn!("name {name}: not resolved: {error}; trying again");
                known.error = Some(error);
                false
            }
        }
    }

    /// Forgets names that no cluster has.
    pub(super) fn prune(&mut self, clusters: &Clusters) {
        let named = clusters.values().flat_map(|cluster| &cluster.dns);
        let named: HashSet<&str> = named.map(|endpoint| &*endpoint.name).collect();
        self.0.retain(|name, _| named.contains(&**name));
    }

    /// The clusters with an endpoint for every address of their names. An address that is listed already, or has
    /// another name, stays one endpoint: the one that stands first.
    pub(super) fn expand(&self, clusters: &Clusters) -> Clusters {
        let expanded = clusters.iter().map(|(name, cluster)| {
            if cluster.dns.is_empty() {
                return (name.clone(), Arc::clone(cluster));
            }
            let mut cluster = Cluster::clone(cluster);
            let mut listed: HashSet<BackendAddr> = cluster
                .endpoints
                .iter()
                .map(|endpoint| endpoint.address)
                .collect();
            for dns in &cluster.dns {
                let addresses = self
                    .0
                    .get(&dns.name)
                    .into_iter()
                    .flat_map(|known| &known.addresses);
                let addresses = addresses.map(|address| BackendAddr(SocketAddr::new(*address, dns.port)));
                cluster
                    .endpoints
                    .extend(
                        addresses
                            .filter(|address| listed.insert(*address))
                            .map(|address| Endpoint {
                                address,
                                name: Some(Arc::clone(&dns.name)),
                                weight: dns.weight,
                                drain: dns.drain,
                                server_id: None,
                                health: Health::Unknown,
                            }),
                    );
            }
            (name.clone(), Arc::new(cluster))
        });
        expanded.collect()
    }

    /// Names, whether the last look-up found addresses, and since when that is so, in seconds since 1970.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, bool, u64)> {
        let since = |known: &Known| known.since.map_or(0, unix_seconds);
        (self.0.iter()).map(move |(name, known)| (&**name, known.error.is_none(), since(known)))
    }

    /// A line for every name without an answer.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(name, known)| {
            let error = known.error.as_ref()?;
            let kept = match known.addresses.len() {
                0 => "it has no endpoints yet".into(),
                1 => "the address it had stays in use".into(),
                more => format!("the {more} addresses it had stay in use"),
            };
            Some(format!("name {name}: not resolved: {error}; {kept}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterName, DnsEndpoint, l7::L7Settings};

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn clusters() -> Clusters {
        let dns = |name: &str, weight| DnsEndpoint {
            name: name.into(),
            port: 80,
            weight,
            drain: name == "b.test",
        };
        let listed = Endpoint {
            address: BackendAddr("192.0.2.1:80".parse().unwrap()),
            name: None,
            weight: 9,
            drain: false,
            server_id: None,
            health: Health::Unknown,
        };
        let name = ClusterName("web".into());
        let cluster = Cluster {
            name: name.clone(),
            endpoints: vec![listed],
            dns: vec![dns("a.test", 2), dns("b.test", 3)],
            health_check: None,
            l7: L7Settings::default(),
        };
        Clusters::from([(name, Arc::new(cluster))])
    }

    #[test]
    fn addresses_become_endpoints_once() {
        let clusters = clusters();
        let mut resolved = Resolved::default();
        let seen = |resolved: &Resolved| -> Vec<(String, Option<String>, u32, bool)> {
            let expanded = resolved.expand(&clusters);
            let endpoints = expanded.values().flat_map(|cluster| &cluster.endpoints);
            endpoints
                .map(|it| {
                    let name = it.name.as_ref().map(ToString::to_string);
                    (it.address.to_string(), name, it.weight, it.drain)
                })
                .collect()
        };
        let listed = ("192.0.2.1:80".to_owned(), None, 9, false);
        assert_eq!(seen(&resolved), std::slice::from_ref(&listed));
        let answer = |name, outcome| Answer::of(name, outcome);
        assert!(resolved.record(answer("a.test", Ok(addresses(&["192.0.2.1", "192.0.2.2"])))));
        assert!(resolved.record(answer("b.test", Ok(addresses(&["192.0.2.2", "2001:db8::1"])))));
        let expected = [
            listed,
            ("192.0.2.2:80".into(), Some("a.test".into()), 2, false),
            ("[2001:db8::1]:80".into(), Some("b.test".into()), 3, true),
        ];
        assert_eq!(seen(&resolved), expected);
        assert!(!resolved.record(answer("a.test", Ok(addresses(&["192.0.2.1", "192.0.2.2"])))));

        assert!(!resolved.record(answer("a.test", Err("timed out".into()))));
        assert!(!resolved.record(answer("c.test", Err("gone".into()))));
        assert_eq!(seen(&resolved), expected, "a failure takes nothing away");
        let warnings: Vec<String> = resolved.warnings().collect();
        assert_eq!(
            warnings,
            [
                "name a.test: not resolved: timed out; the 2 addresses it had stay in use",
                "name c.test: not resolved: gone; it has no endpoints yet"
            ]
        );
        resolved.prune(&clusters);
        assert_eq!(resolved.warnings().count(), 1, "c.test is in no cluster");
    }
}
