//! Listeners of byte streams.

use super::{Checks, Place, elements, routes::Uses, text};
use crate::{
    config::{limits, raw, suggest::shown},
    model::{
        ClusterName,
        l7::{HostMatch, SniRoute, TcpSettings},
    },
};
use std::{sync::Arc, time::Duration};

/// `terminated` is whether the listener ends TLS.
pub(super) fn settings<'a>(
    typed: &'a raw::TcpProxy,
    place: &Place<'a>,
    terminated: bool,
    uses: &mut Uses<'a>,
    checks: &mut Checks<'_>,
) -> TcpSettings {
    if typed.cluster.is_none() && typed.sni.is_none() && !checks.blames_any(place, &["cluster", "sni"]) {
        checks.error(place, "no cluster that streams go to", "add `cluster: NAME`");
    }
    if terminated && typed.sni.is_some() {
        let problem = "`sni` passes TLS through untouched, and the listener's `tls` ends it";
        checks.error(&place.key("sni"), problem, "remove one of the two");
    }
    if let Some(name) = &typed.cluster {
        uses.push((place.key("cluster"), &name.0));
    }
    let mut sni = Vec::new();
    for (place, typed) in elements(typed.sni.as_ref(), place.key("sni")) {
        let hosts: Vec<HostMatch> = elements(typed.hosts.as_ref(), place.key("hosts"))
            .filter_map(|(place, host)| {
                if host.0 == "*" {
                    let remedy = "name the cluster of all others as `cluster`, beside `sni`";
                    checks.error(&place, "\"*\" is every name", remedy);
                    return None;
                }
                let host = checks.parsed(&place, text::host_pattern(&host.0))?;
                address_as_name(&host, &place, checks);
                Some(host)
            })
            .collect();
        if let Some(name) = &typed.cluster {
            uses.push((place.key("cluster"), &name.0));
            sni.push(SniRoute {
                hosts,
                cluster: cluster_name(name),
            });
        }
    }
    let bounds = Duration::from_secs(1)..=limits::MAX_WAIT;
    TcpSettings {
        sni,
        cluster: typed.cluster.as_ref().map(cluster_name),
        idle_timeout: checks.duration(
            &place.key("idle_timeout"),
            typed.idle_timeout.as_ref(),
            &bounds,
            limits::TCP_IDLE,
        ),
    }
}

fn cluster_name(typed: &raw::Name) -> ClusterName {
    ClusterName(Arc::from(typed.0.as_str()))
}

/// A ClientHello names no addresses (RFC 6066, 3).
fn address_as_name(host: &HostMatch, place: &Place<'_>, checks: &mut Checks<'_>) {
    let HostMatch::Exact(name) = host else { return };
    if name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok() {
        let problem = format!("{} is an address, and TLS clients send names only", shown(name));
        checks.error(
            place,
            problem,
            "write a name, or `cluster` for what no name is sent with",
        );
    }
}
