//! Clusters: names, endpoints, weights, health checks.

use super::{Checks, Document, Place, elements, quic::ServerIds, text, upstream};
use crate::{
    config::{address, duration, limits, name, raw, suggest::shown},
    model::{
        BackendAddr, Cluster, ClusterName, DnsEndpoint, Endpoint, Health, HealthCheck, HttpCheck, Probe,
        TcpCheck, l7::L7Settings,
    },
};
use http::StatusCode;
use proxy_common::values::SAME_PORT;
use std::{collections::HashMap, sync::Arc};

/// A cluster as far as it could be read.
pub(super) struct ReadCluster<'a> {
    pub(super) place: Place<'a>,
    /// As typed, so that a reference to a cluster with mistakes is no mistake itself.
    pub(super) name: Option<&'a str>,
    pub(super) endpoints: Vec<(Place<'a>, Endpoint)>,
    /// Those by name.
    pub(super) dns: Vec<(Place<'a>, DnsEndpoint)>,
    /// Keys that were typed and mean something to L7 only.
    pub(super) l7_keys: Vec<&'static str>,
    health_check: Option<HealthCheck>,
    l7: L7Settings,
}

impl ReadCluster<'_> {
    pub(super) fn model(self) -> Option<Cluster> {
        Some(Cluster {
            name: ClusterName(Arc::from(self.name?)),
            endpoints: self.endpoints.into_iter().map(|(_, endpoint)| endpoint).collect(),
            dns: self.dns.into_iter().map(|(_, endpoint)| endpoint).collect(),
            health_check: self.health_check,
            l7: self.l7,
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
            let (endpoints, dns) = endpoints(typed, &place, checks);
            port_to_probe(health_check.as_ref(), &endpoints, checks);
            clusters.push(ReadCluster {
                name: typed.name.as_ref().map(|name| name.0.as_str()),
                endpoints,
                dns,
                l7_keys: upstream::typed_keys(typed),
                health_check,
                l7: upstream::settings(typed, &place, checks),
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
        self.parsed(place, name::of_config(name));
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

/// Endpoints by address, and those by name.
type Endpoints<'a> = (Vec<(Place<'a>, Endpoint)>, Vec<(Place<'a>, DnsEndpoint)>);

fn endpoints<'a>(typed: &'a raw::Cluster, place: &Place<'a>, checks: &mut Checks<'_>) -> Endpoints<'a> {
    let list = place.key("endpoints");
    let (mut endpoints, mut dns) = (Vec::new(), Vec::new());
    let mut first: HashMap<String, Place<'_>> = HashMap::new();
    let mut server_ids = ServerIds::default();
    for (place, typed) in elements(typed.endpoints.as_ref(), list.clone()) {
        let (place, address, weight, drain, server_id) = match typed {
            raw::Endpoint::Address(address) => (place, Some(address), None, None, None),
            raw::Endpoint::Settings(settings) => (
                place.key("address"),
                settings.address.as_ref(),
                settings.weight,
                settings.drain,
                server_ids.read(settings.server_id.as_ref(), &place.key("server_id"), checks),
            ),
        };
        let parsed = address.and_then(|address| checks.parsed(&place, address::target(&address.0)));
        let Some(target) = parsed else { continue };
        let text = match &target {
            address::Target::Address(address) => address.to_string(),
            address::Target::Name(name, port) => format!("{name}:{port}"),
        };
        if let Some(other) = first.get(&text) {
            let pointer = checks.pointer(&place, other);
            let problem = format!(
                "{} is an endpoint of this cluster already, {pointer}",
                shown(&text)
            );
            checks.error(
                &place,
                problem,
                "list it once; for a greater share give it a `weight`",
            );
            continue;
        }
        first.insert(text, place.clone());
        let (weight, drain) = (weight.unwrap_or(1), drain.unwrap_or(false));
        match target {
            address::Target::Address(address) => endpoints.push((
                place,
                Endpoint {
                    address: BackendAddr(address),
                    name: None,
                    weight,
                    drain,
                    server_id,
                    health: Health::Unknown,
                },
            )),
            address::Target::Name(name, port) => dns.push((
                place,
                DnsEndpoint {
                    name: name.into(),
                    port,
                    weight,
                    drain,
                },
            )),
        }
    }
    taking(&endpoints, &dns, &list, checks);
    (endpoints, dns)
}

/// Somebody has to take new flows.
fn taking(
    endpoints: &[(Place<'_>, Endpoint)],
    dns: &[(Place<'_>, DnsEndpoint)],
    list: &Place<'_>,
    checks: &mut Checks<'_>,
) {
    let takes_flows = endpoints
        .iter()
        .any(|(_, endpoint)| endpoint.effective_weight() > 0)
        || dns
            .iter()
            .any(|(_, endpoint)| endpoint.weight > 0 && !endpoint.drain);
    let is_any = !endpoints.is_empty() || !dns.is_empty();
    if is_any && !takes_flows {
        let problem = "no endpoint takes new flows: each has weight 0 or drains";
        checks.warning(list, problem, "give one a weight of 1 or more");
    }
}

/// An endpoint without a port of its own is probed at the check's.
fn port_to_probe(check: Option<&HealthCheck>, endpoints: &[(Place<'_>, Endpoint)], checks: &mut Checks<'_>) {
    let port = match check.map(|check| &check.probe) {
        None => return,
        Some(Probe::Tcp(tcp)) => tcp.port,
        Some(Probe::Http(http)) => http.port,
    };
    let portless = |(_, endpoint): &&(Place<'_>, Endpoint)| endpoint.address.0.port() == SAME_PORT;
    if port.is_none()
        && let Some((place, endpoint)) = endpoints.iter().find(portless)
    {
        let problem = format!(
            "{} has port 0, the client's, and the health check doesn't say which one to probe",
            shown(&endpoint.address.to_string())
        );
        checks.error(
            place,
            problem,
            "write one at the check, such as `tcp: { port: 80 }`",
        );
    }
}

fn health_check(typed: &raw::HealthCheck, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<HealthCheck> {
    let kinds = [("tcp", typed.tcp.is_some()), ("http", typed.http.is_some())];
    checks.exactly_one(place, &kinds, "add `tcp: {}`, or `http: { path: /healthz }`");
    let probe = match (&typed.tcp, &typed.http) {
        (_, Some(http)) => Some(Probe::Http(http_check(http, &place.key("http"), checks))),
        (Some(tcp), None) => Some(Probe::Tcp(TcpCheck { port: tcp.port })),
        (None, None) => None,
    };
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
        probe: probe?,
        interval,
        timeout,
        rise: typed.rise.unwrap_or(limits::RISE),
        fall: typed.fall.unwrap_or(limits::FALL),
    })
}

fn http_check(typed: &raw::HttpCheck, place: &Place<'_>, checks: &mut Checks<'_>) -> HttpCheck {
    let path = typed.path.as_ref();
    // Unlike a path that requests are compared with, one that is asked for may have a query.
    let (path, query) = path.map_or(("/", None), |path| match path.0.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path.0.as_str(), None),
    });
    checks.parsed(&place.key("path"), text::url_path(path));
    if let Some(query) = query {
        checks.parsed(
            &place.key("path"),
            text::url_path(&format!("/{}", query.replace('?', ""))),
        );
    }
    let host = typed.host.as_ref();
    let host = host.and_then(|host| checks.parsed(&place.key("host"), text::authority(&host.0)));
    let mut status = Vec::new();
    match &typed.status {
        None => {}
        Some(raw::Statuses::One(only)) => status.extend(StatusCode::from_u16(only.0)),
        Some(raw::Statuses::Several(list)) => {
            let codes = list.iter().flatten();
            status.extend(codes.filter_map(|code| StatusCode::from_u16(code.0).ok()));
        }
    }
    HttpCheck {
        path: query
            .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
            .into(),
        host,
        status,
        port: typed.port,
    }
}
