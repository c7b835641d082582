//! Clusters: names, endpoints, weights, health checks.

use super::{Checks, Document, Place, elements};
use crate::{
    config::{address, duration, limits, raw, suggest::shown},
    model::{BackendAddr, Cluster, ClusterName, Endpoint, Health, HealthCheck, TcpCheck, l7::L7Settings},
};
use std::{collections::HashMap, sync::Arc};

/// A cluster as far as it could be read.
pub(super) struct ReadCluster<'a> {
    pub(super) place: Place<'a>,
    /// As typed, so that a reference to a cluster with mistakes is no mistake itself.
    pub(super) name: Option<&'a str>,
    pub(super) endpoints: Vec<(Place<'a>, Endpoint)>,
    health_check: Option<HealthCheck>,
}

impl ReadCluster<'_> {
    pub(super) fn model(self) -> Option<Cluster> {
        Some(Cluster {
            name: ClusterName(Arc::from(self.name?)),
            endpoints: self.endpoints.into_iter().map(|(_, endpoint)| endpoint).collect(),
            dns: Vec::new(),
            health_check: self.health_check,
            l7: L7Settings::default(),
        })
    }
}

pub(super) fn read<'a>(documents: &'a [Document], checks: &mut Checks<'_>) -> Vec<ReadCluster<'a>> {
    let mut names: HashMap<&str, Place<'_>> = HashMap::new();
    let mut clusters = Vec::new();
    for document in documents {
        let list = Place::root(document).key("clusters");
        for (place, typed) in elements(document.raw.clusters.as_ref(), list) {
            if let Some(name) = &typed.name {
                checks.unique_name("cluster", &place.key("name"), &name.0, &mut names);
            }
            let health_check = typed
                .health_check
                .as_ref()
                .and_then(|typed| health_check(typed, &place.key("health_check"), checks));
            clusters.push(ReadCluster {
                name: typed.name.as_ref().map(|name| name.0.as_str()),
                endpoints: endpoints(typed, &place, checks),
                health_check,
                place,
            });
        }
    }
    clusters
}

impl Checks<'_> {
    /// Checks a name's form, and that it is the first of its kind.
    pub(super) fn unique_name<'a>(
        &mut self,
        kind: &str,
        place: &Place<'a>,
        name: &'a str,
        names: &mut HashMap<&'a str, Place<'a>>,
    ) {
        self.parsed(place, address::name(name));
        if let Some(first) = names.get(name) {
            let pointer = self.pointer(place, first);
            self.error(
                place,
                format!("the {kind} {} {pointer} has this name already", shown(name)),
                "give one of them another name",
            );
        } else {
            names.insert(name, place.clone());
        }
    }
}

fn endpoints<'a>(
    typed: &'a raw::Cluster,
    place: &Place<'a>,
    checks: &mut Checks<'_>,
) -> Vec<(Place<'a>, Endpoint)> {
    let list = place.key("endpoints");
    let mut endpoints = Vec::new();
    let mut first: HashMap<BackendAddr, Place<'_>> = HashMap::new();
    for (place, typed) in elements(typed.endpoints.as_ref(), list.clone()) {
        let (place, address, weight, drain) = match typed {
            raw::Endpoint::Address(address) => (place, Some(address), None, None),
            raw::Endpoint::Settings(settings) => (
                place.key("address"),
                settings.address.as_ref(),
                settings.weight,
                settings.drain,
            ),
        };
        let parsed = address.and_then(|address| checks.parsed(&place, address::socket_address(&address.0)));
        let Some(address) = parsed.map(BackendAddr) else {
            continue;
        };
        if let Some(other) = first.get(&address) {
            let pointer = checks.pointer(&place, other);
            let problem = format!(
                "{} is an endpoint of this cluster already, {pointer}",
                shown(&address.to_string())
            );
            checks.error(
                &place,
                problem,
                "list it once; for a greater share give it a `weight`",
            );
            continue;
        }
        if address.0.ip().is_loopback() {
            let problem = format!(
                "{} is a loopback address, which packets from other hosts can't be sent to",
                shown(&address.to_string())
            );
            checks.warning(&place, problem, "use one of this host's other addresses");
        }
        first.insert(address, place.clone());
        let endpoint = Endpoint {
            address,
            name: None,
            weight: weight.unwrap_or(1),
            drain: drain.unwrap_or(false),
            health: Health::Unknown,
        };
        endpoints.push((place, endpoint));
    }
    if !endpoints.is_empty()
        && endpoints
            .iter()
            .all(|(_, endpoint)| endpoint.effective_weight() == 0)
    {
        let problem = "no endpoint takes new flows: each has weight 0 or drains";
        checks.warning(&list, problem, "give one a weight of 1 or more");
    }
    endpoints
}

fn health_check(typed: &raw::HealthCheck, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<HealthCheck> {
    let bounds = limits::MIN_PROBE_TIME..=limits::MAX_PROBE_TIME;
    let mut time = |key: &str, typed: Option<&raw::Duration>, default| {
        let place = place.key(key);
        let parsed = typed.and_then(|typed| checks.parsed(&place, duration::parse(&typed.0, &bounds)));
        checks.or_default(&place, parsed, default)
    };
    let interval = time("interval", typed.interval.as_ref(), limits::INTERVAL);
    let default_timeout = limits::TIMEOUT.min(interval.unwrap_or(limits::TIMEOUT));
    let timeout = time("timeout", typed.timeout.as_ref(), default_timeout);
    let (interval, timeout) = (interval?, timeout?);
    if timeout > interval {
        let (timeout, interval) = (duration::text(timeout), duration::text(interval));
        checks.error(
            &place.key("timeout"),
            format!("the timeout of {timeout} is longer than the interval of {interval}"),
            format!("write `timeout: {interval}` or less, or `interval: {timeout}` or more"),
        );
    }
    Some(HealthCheck {
        tcp: TcpCheck {
            port: typed.tcp.as_ref()?.port,
        },
        interval,
        timeout,
        rise: typed.rise.unwrap_or(limits::RISE),
        fall: typed.fall.unwrap_or(limits::FALL),
    })
}
