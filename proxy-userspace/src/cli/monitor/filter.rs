//! Which events are shown.

use super::sighting::{ServiceNames, ServiceSeen, Sighting};
use crate::kernel::Names;
use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use proxy_common::{events::EventKind, net::Protocol, verdict::DropReason};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// The filters of the command line.
#[derive(clap::Args, Default)]
pub(super) struct FilterArgs {
    /// Of this service: a listener's name, or VIP:PORT.
    #[arg(long, value_name = "NAME|VIP:PORT")]
    service: Vec<String>,
    /// To or from this backend, now or before.
    #[arg(long, value_name = "IP:PORT")]
    backend: Vec<SocketAddr>,
    /// Dropped or answered for this reason.
    #[arg(long, value_name = "LABEL", value_parser = reasons())]
    reason: Vec<DropReason>,
    /// Sent from this prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = prefix)]
    source: Vec<IpNet>,
    /// Of this kind.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    event: Vec<EventKind>,
}

fn reasons() -> impl TypedValueParser<Value = DropReason> {
    PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label())).try_map(|label| {
        let mut all = DropReason::ALL.iter().copied();
        all.find(|reason| reason.label() == label).ok_or("no such reason")
    })
}

fn kinds() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.iter().map(|kind| kind.label())).try_map(|label| {
        let mut all = EventKind::ALL.iter().copied();
        all.find(|kind| kind.label() == label).ok_or("no such kind")
    })
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| "write a prefix such as 198.51.100.0/24, or an address".to_owned())
}

/// What an event must be like; of an empty list, anything.
pub(super) struct Filter {
    services: Vec<(SocketAddr, Option<Protocol>)>,
    backends: Vec<SocketAddr>,
    reasons: Vec<DropReason>,
    sources: Vec<IpNet>,
    kinds: Vec<EventKind>,
}

impl Filter {
    /// # Errors
    /// There is no such service, or nobody who knows its name.
    pub(super) fn new(
        args: &FilterArgs,
        names: &Names,
        service_names: &ServiceNames,
        socket: &Path,
    ) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for text in &args.service {
            let found: Vec<_> = (names.services())
                .filter(|(address, protocol)| {
                    let key = (address.0.to_string(), protocol.name().to_owned());
                    service_names.get(&key) == Some(text) || text.parse() == Ok(address.0)
                })
                .map(|(address, protocol)| (address.0, Some(protocol)))
                .collect();
            if !found.is_empty() {
                services.extend(found);
                continue;
            }
            if text.parse::<SocketAddr>().is_err() && service_names.is_empty() {
                let socket = socket.display();
                bail!(
                    "no daemon answers on {socket}, which would know the name {text}; name the service by VIP:PORT"
                );
            }
            bail!("no L4 service {text}; `weir status` lists them");
        }
        Ok(Self {
            services,
            backends: args.backend.clone(),
            reasons: args.reason.clone(),
            sources: args.source.clone(),
            kinds: args.event.clone(),
        })
    }

    /// Whether it is shown.
    pub(super) fn takes(&self, sighting: &Sighting) -> bool {
        let is_service = |seen: &ServiceSeen| {
            (self.services.iter()).any(|(address, protocol)| {
                *address == seen.address && protocol.is_none_or(|protocol| protocol == seen.protocol)
            })
        };
        let mut backends = [sighting.backend, sighting.previous].into_iter().flatten();
        let source = sighting.addresses.map(|addresses| addresses.source);
        (self.services.is_empty() || sighting.service.as_ref().is_some_and(is_service))
            && (self.backends.is_empty() || backends.any(|backend| self.backends.contains(&backend)))
            && (self.reasons.is_empty() || sighting.reason.is_some_and(|it| self.reasons.contains(&it)))
            && (self.kinds.is_empty() || self.kinds.contains(&sighting.kind))
            && (self.sources.is_empty()
                || source.is_some_and(|source| self.sources.iter().any(|prefix| prefix.contains(&source))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::monitor::output::examples;

    fn filter() -> Filter {
        Filter {
            services: Vec::new(),
            backends: Vec::new(),
            reasons: Vec::new(),
            sources: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// The kinds of the examples that pass.
    fn passing(filter: &Filter) -> Vec<&'static str> {
        let examples = examples();
        let passing = examples.iter().filter(|sighting| filter.takes(sighting));
        passing.map(|sighting| sighting.kind.label()).collect()
    }

    #[test]
    fn every_filter_must_hold() {
        let all = ["dropped", "opened", "moved", "answered"];
        assert_eq!(passing(&filter()), all);
        let one = |change: fn(&mut Filter)| {
            let mut filter = filter();
            change(&mut filter);
            passing(&filter)
        };
        assert_eq!(
            one(|it| it.kinds = vec![EventKind::Moved, EventKind::Opened]),
            all[1..3]
        );
        assert_eq!(one(|it| it.reasons = vec![DropReason::TtlExpired]), ["answered"]);
        assert_eq!(
            one(|it| it.sources = vec![prefix("198.51.100.0/24").unwrap()]),
            all[..3]
        );
        assert_eq!(
            one(|it| it.sources = vec![prefix("2001:db8::7").unwrap()]),
            ["answered"]
        );
        assert_eq!(
            one(|it| it.backends = vec!["10.0.0.11:53".parse().unwrap()]),
            all[1..3]
        );
        let service: SocketAddr = "192.0.2.53:53".parse().unwrap();
        let mut by_service = filter();
        by_service.services = vec![(service, Some(Protocol::Udp))];
        assert_eq!(passing(&by_service), all[..3]);
        by_service.services = vec![(service, Some(Protocol::Tcp))];
        assert!(passing(&by_service).is_empty());
        assert_eq!(
            one(|it| {
                it.kinds = vec![EventKind::Moved];
                it.reasons = vec![DropReason::TtlExpired];
            }),
            [""; 0]
        );
        assert!(prefix("198.51.100.0/33").is_err());
    }
}
