//! Listeners: names, addresses, and which kind each is of.

use super::{
    Checks, Document, Place, elements, http, log,
    overlap::{self, Taken, range_text},
    routes::{self, Uses},
    services::{self, ReadService},
    tcp, tls,
};
use crate::{
    config::{
        limits,
        listen::{self, Listen},
        raw,
        suggest::shown,
    },
    model::{
        ListenAddr, Span,
        l7::{Listener, ListenerKind, PortRange},
    },
};
use proxy_common::net::Protocol;
use std::{collections::HashMap, sync::Arc};

/// All listeners as far as they could be read.
pub(super) struct Listeners<'a> {
    /// Forwarded in the kernel.
    pub(super) services: Vec<ReadService<'a>>,
    /// Terminated in the daemon.
    pub(super) l7: Vec<ReadL7<'a>>,
}

/// A listener of the L7 plane.
pub(super) struct ReadL7<'a> {
    /// The clusters it names.
    pub(super) uses: Uses<'a>,
    pub(super) model: Option<Listener>,
}

pub(super) fn read<'a>(documents: &'a [Document], checks: &mut Checks<'_>) -> Listeners<'a> {
    let mut names: HashMap<&str, Place<'_>> = HashMap::new();
    let mut taken: Vec<Taken<'_>> = Vec::new();
    let mut listeners = Listeners {
        services: Vec::new(),
        l7: Vec::new(),
    };
    let all = documents.iter().flat_map(|document| {
        let list = Place::root(document).key("listeners");
        elements(document.raw.listeners.as_ref(), list)
    });
    for (number, (place, typed)) in all.enumerate() {
        if let Some(name) = &typed.name {
            checks.unique_name("listener", &place.key("name"), &name.0, &mut names);
        }
        let addresses = addresses(typed, &place, checks);
        let protocol = typed.protocol.map(|protocol| match protocol {
            raw::Protocol::Tcp => Protocol::Tcp,
            raw::Protocol::Udp => Protocol::Udp,
        });
        let protocol = checks.or_default(&place.key("protocol"), protocol, Protocol::Tcp);
        taken.extend(addresses.iter().filter_map(|(place, range)| {
            Some(Taken {
                place: place.clone(),
                name: typed.name.as_ref().map(|name| name.0.as_str()),
                listener: number,
                range: *range,
                protocol: protocol?,
                in_kernel: typed.forward.is_some(),
            })
        }));
        let kinds = [
            ("forward", typed.forward.is_some()),
            ("routes", typed.routes.is_some()),
            ("tcp", typed.tcp.is_some()),
        ];
        let remedy = "add `forward: { cluster: NAME }` (in the kernel), `routes: [{ cluster: NAME }]` (HTTP) or `tcp: { cluster: NAME }`";
        checks.exactly_one(&place, &kinds, remedy);
        if typed.forward.is_some() {
            foreign_keys(typed, &place, checks);
            let service = services::read(typed, &place, &addresses, protocol, checks);
            listeners.services.push(service);
        }
        if typed.routes.is_some() || typed.tcp.is_some() {
            listeners.l7.push(l7(typed, &place, &addresses, checks));
        }
    }
    overlap::check(&taken, checks);
    listeners
}

/// Addresses with their places.
pub(super) type Addresses<'a> = Vec<(Place<'a>, Listen)>;

fn addresses<'a>(typed: &'a raw::Listener, place: &Place<'a>, checks: &mut Checks<'_>) -> Addresses<'a> {
    let place = place.key("address");
    let typed: Vec<(Place<'a>, &raw::ListenAddress)> = match &typed.address {
        None => Vec::new(),
        Some(raw::ListenAddresses::One(only)) => vec![(place, only)],
        Some(raw::ListenAddresses::Several(list)) => elements(Some(list), place).collect(),
    };
    typed
        .into_iter()
        .filter_map(|(place, typed)| {
            let range = checks.parsed(&place, listen::listen_address(&typed.0))?;
            Some((place, range))
        })
        .collect()
}

/// Keys of L7 listeners that were typed; the second says whether they mean something to TCP listeners.
fn l7_keys(typed: &raw::Listener) -> impl Iterator<Item = (&'static str, bool)> {
    let keys = [
        ("tls", typed.tls.is_some(), true),
        ("proxy_protocol", typed.proxy_protocol.is_some(), true),
        ("max_connections", typed.max_connections.is_some(), true),
        ("access_log", typed.access_log.is_some(), true),
        ("limits", typed.limits.is_some(), false),
        ("timeouts", typed.timeouts.is_some(), false),
        ("path", typed.path.is_some(), false),
        ("forwarded", typed.forwarded.is_some(), false),
        ("upgrades", typed.upgrades.is_some(), false),
        ("grpc_web", typed.grpc_web.is_some(), false),
        ("via", typed.via.is_some(), false),
        ("server_header", typed.server_header.is_some(), false),
        ("connect", typed.connect.is_some(), false),
    ];
    keys.into_iter()
        .filter_map(|(key, typed, of_tcp)| typed.then_some((key, of_tcp)))
}

/// Keys that mean nothing to a listener that forwards in the kernel.
fn foreign_keys(typed: &raw::Listener, place: &Place<'_>, checks: &mut Checks<'_>) {
    if typed.routes.is_some() || typed.tcp.is_some() {
        return;
    }
    for (key, of_tcp) in l7_keys(typed) {
        let problem = format!("{key} means nothing to a listener that forwards in the kernel");
        let instead = if of_tcp { "`routes` or `tcp`" } else { "`routes`" };
        checks.error(
            &place.key(key),
            problem,
            format!("remove it, or replace `forward` by {instead}"),
        );
    }
}

fn l7<'a>(
    typed: &'a raw::Listener,
    place: &Place<'a>,
    addresses: &Addresses<'a>,
    checks: &mut Checks<'_>,
) -> ReadL7<'a> {
    if typed.protocol == Some(raw::Protocol::Udp) {
        let problem = "udp is forwarded in the kernel only";
        checks.error(
            &place.key("protocol"),
            problem,
            "remove it, or write `forward` in place of `routes` or `tcp`",
        );
    }
    let ranges = port_ranges(addresses, checks);
    let mut uses = Uses::new();
    let mut hosts = Vec::new();
    let is_http = typed.routes.is_some();
    let log = typed.access_log.as_ref();
    let access_log = log
        .and_then(|typed| log::read(typed, &place.key("access_log"), is_http, checks))
        .map(Arc::new);
    let kind = match (&typed.routes, &typed.tcp) {
        (Some(list), _) => {
            let settings = http::settings(typed, place, checks);
            let routes = routes::read(list, &place.key("routes"), &settings.path, &mut uses, checks);
            hosts = routes::hosts(&routes);
            Some(ListenerKind::Http {
                settings: Arc::new(settings),
                routes: routes.into(),
                access_log,
            })
        }
        (None, Some(tcp)) => {
            for (key, _) in l7_keys(typed).filter(|(_, of_tcp)| !of_tcp) {
                let problem = format!("{key} means nothing to a tcp listener");
                let remedy = "remove it, or replace `tcp` by `routes`";
                checks.error(&place.key(key), problem, remedy);
            }
            let settings = tcp::settings(tcp, &place.key("tcp"), typed.tls.is_some(), &mut uses, checks);
            Some(ListenerKind::Tcp {
                settings: Arc::new(settings),
                access_log,
            })
        }
        (None, None) => None,
    };
    let names = tls::Names {
        addresses: &ranges,
        hosts,
    };
    let tls = typed.tls.as_ref();
    let tls = tls.and_then(|typed| tls::server(typed, &place.key("tls"), is_http, &names, checks));
    let model_place = checks.model_place(place);
    ReadL7 {
        uses,
        model: typed.name.as_ref().zip(kind).map(|(name, kind)| Listener {
            name: name.0.as_str().into(),
            place: model_place,
            addresses: ranges,
            proxy_protocol: typed.proxy_protocol.unwrap_or(false),
            tls: tls.map(Arc::new),
            max_connections: typed.max_connections.unwrap_or(limits::CONNECTIONS),
            kind,
        }),
    }
}

/// What the sockets of the L7 plane take: ports of one address, or of every address.
fn port_ranges(addresses: &Addresses<'_>, checks: &mut Checks<'_>) -> Vec<PortRange> {
    let mut ranges = Vec::new();
    for (place, range) in addresses {
        let full = if range.address.is_ipv4() { 32 } else { 128 };
        let shown_range = shown(&range_text(range));
        if !range.address.is_unspecified() && range.prefix_bits != full {
            let problem =
                format!("{shown_range} is a prefix, which a listener that forwards in the kernel may have");
            checks.error(
                place,
                problem,
                "write its addresses, or 0.0.0.0 or [::] for every one",
            );
        } else if range.first == 0 {
            let problem = format!(
                "{shown_range} has port 0, all of them, which a listener that forwards in the kernel may have"
            );
            checks.error(place, problem, "write a port from 1 to 65535, or a range");
        } else {
            ranges.push(PortRange {
                address: range.address,
                first: range.first,
                last: range.last,
            });
        }
    }
    ranges
}

/// The one address, range or prefix that a listener in the kernel has; its mistakes are reported.
pub(super) fn only_address<'a>(
    typed: &raw::Listener,
    place: &Place<'a>,
    addresses: &Addresses<'a>,
    checks: &mut Checks<'_>,
) -> Option<(ListenAddr, Span)> {
    if let Some(raw::ListenAddresses::Several(list)) = &typed.address {
        let problem = "a list of addresses, and a listener that forwards in the kernel has one";
        if list.len() > 1 {
            checks.error(&place.key("address"), problem, "write a listener for each");
            return None;
        }
    }
    let (place, range) = addresses.first()?;
    let shown_range = shown(&range_text(range));
    if range.address.is_unspecified() {
        let problem = format!(
            "{shown_range} is every address at once, and a listener that forwards in the kernel has one"
        );
        checks.error(place, problem, "write one address for each listener");
        return None;
    }
    if range.address.is_loopback() {
        let problem = "a loopback address, which no packet from another host can be for";
        checks.warning(
            place,
            problem,
            "use an address that clients' packets reach this host by",
        );
    }
    let span = Span {
        prefix_bits: range.prefix_bits,
        last_port: range.last,
    };
    Some((ListenAddr((range.address, range.first).into()), span))
}
