//! Listeners that forward in the kernel.

use super::{
    Checks, Place, guard,
    listeners::{Addresses, only_address},
    quic,
};
use crate::{
    config::{duration, limits, prime, raw, suggest::shown},
    model::{
        Affinity, ClusterName, FlowHash, ForwardMode, Guard, IdleTimeouts, ListenAddr, Quic, Service, Span,
        Tracking,
    },
};
use proxy_common::net::Protocol;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// A listener as far as it could be read.
pub(super) struct ReadService<'a> {
    pub(super) place: Place<'a>,
    name: Option<&'a str>,
    pub(super) address: Option<ListenAddr>,
    pub(super) span: Option<Span>,
    pub(super) protocol: Option<Protocol>,
    pub(super) cluster: Option<(Place<'a>, &'a str)>,
    pub(super) table_size: Option<u32>,
    pub(super) mode: ForwardMode,
    hash: FlowHash,
    tracking: Tracking,
    affinity: Option<Affinity>,
    pub(super) quic: Option<Quic>,
    max_segment_size: Option<u16>,
    guard: Guard,
    idle_timeouts: IdleTimeouts,
}

impl ReadService<'_> {
    pub(super) fn service(self) -> Option<Service> {
        Some(Service {
            name: Arc::from(self.name?),
            address: self.address?,
            span: self.span?,
            protocol: self.protocol?,
            cluster: ClusterName(Arc::from(self.cluster?.1)),
            mode: self.mode,
            table_size: self.table_size?,
            hash: self.hash,
            tracking: self.tracking,
            affinity: self.affinity,
            quic: self.quic,
            max_segment_size: self.max_segment_size,
            guard: self.guard,
            idle_timeouts: self.idle_timeouts,
        })
    }
}

pub(super) fn read<'a>(
    typed: &'a raw::Listener,
    place: &Place<'a>,
    addresses: &Addresses<'a>,
    protocol: Option<Protocol>,
    checks: &mut Checks<'_>,
) -> ReadService<'a> {
    let forward_place = place.key("forward");
    let forward = typed.forward.as_ref();
    let cluster = forward.and_then(|forward| forward.cluster.as_ref());
    let timeouts = forward.and_then(|forward| forward.idle_timeouts.as_ref());
    let is_nat = matches!(
        forward.and_then(|forward| forward.mode),
        None | Some(raw::Mode::Nat)
    );
    if let (true, Some(_)) = (is_nat, forward.and_then(|forward| forward.tracking)) {
        checks.warning(
            &forward_place.key("tracking"),
            "tracking means nothing with NAT, which stores every flow",
            "remove it, or set another `mode`",
        );
    }
    let address = only_address(typed, place, addresses, checks);
    let affinity_place = forward_place.key("affinity");
    let affinity = forward
        .and_then(|forward| forward.affinity.as_ref())
        .map(|typed| affinity(typed, &affinity_place, checks));
    let typed_tracking = forward.and_then(|forward| forward.tracking);
    if let (false, true, Some(raw::Tracking::Auto | raw::Tracking::Never)) =
        (is_nat, affinity.is_some(), typed_tracking)
    {
        checks.error(
            &forward_place.key("tracking"),
            "with affinity every flow is remembered: it may have another backend than its hash says",
            "write `tracking: always`, or remove it",
        );
    }
    ReadService {
        name: typed.name.as_ref().map(|name| name.0.as_str()),
        address: address.map(|(address, _)| address),
        span: address.map(|(_, span)| span),
        protocol,
        cluster: cluster.map(|name| (forward_place.key("cluster"), name.0.as_str())),
        table_size: table_size(forward, &forward_place.key("table_size"), checks),
        mode: match forward.and_then(|forward| forward.mode) {
            None | Some(raw::Mode::Nat) => ForwardMode::Nat,
            Some(raw::Mode::DsrL2) => ForwardMode::DsrL2,
            Some(raw::Mode::Ipip) => ForwardMode::Ipip,
            Some(raw::Mode::Gue) => ForwardMode::Gue,
        },
        tracking: match typed_tracking {
            // Without an entry a flow's packets would follow their slot.
            _ if affinity.is_some() && !is_nat => Tracking::Always,
            None | Some(raw::Tracking::Auto) => Tracking::Auto,
            Some(raw::Tracking::Always) => Tracking::Always,
            Some(raw::Tracking::Never) => Tracking::Never,
        },
        affinity,
        quic: quic::read(forward, protocol, &forward_place, checks),
        max_segment_size: segment_size(forward, is_nat, protocol, &forward_place, checks),
        guard: forward.map_or_else(Guard::default, |forward| {
            guard::read(forward, &forward_place, checks)
        }),
        hash: flow_hash(forward.and_then(|forward| forward.hash)),
        idle_timeouts: timeouts.map_or_else(IdleTimeouts::default, |timeouts| {
            idle_timeouts(timeouts, protocol, &forward_place.key("idle_timeouts"), checks)
        }),
        place: place.clone(),
    }
}

fn flow_hash(typed: Option<raw::FlowHash>) -> FlowHash {
    match typed {
        None | Some(raw::FlowHash::FiveTuple) => FlowHash::FiveTuple,
        Some(raw::FlowHash::Source) => FlowHash::Source,
        Some(raw::FlowHash::SourceDestination) => FlowHash::SourceDestination,
    }
}

/// A segment's size, where it says something.
fn segment_size(
    forward: Option<&raw::Forward>,
    is_nat: bool,
    protocol: Option<Protocol>,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<u16> {
    let size = forward.and_then(|forward| forward.max_segment_size)?;
    let place = place.key("max_segment_size");
    if protocol == Some(Protocol::Udp) {
        checks.warning(
            &place,
            "max_segment_size means nothing to a udp listener",
            "remove it",
        );
    } else if !is_nat {
        checks.warning(
            &place,
            "max_segment_size means nothing without NAT: what tells clients doesn't pass here",
            "write it into `decap` of the backends' configs",
        );
    }
    Some(size)
}

fn affinity(typed: &raw::Affinity, place: &Place<'_>, checks: &mut Checks<'_>) -> Affinity {
    let timeout = typed.timeout.as_ref();
    let timeout_place = place.key("timeout");
    let bounds = limits::MIN_IDLE..=limits::MAX_AFFINITY;
    Affinity {
        timeout: timeout.map_or(limits::AFFINITY, |typed| {
            whole_seconds(typed, &bounds, limits::AFFINITY, &timeout_place, checks)
        }),
        ipv4_prefix: typed.ipv4_prefix.unwrap_or(32),
        ipv6_prefix: typed.ipv6_prefix.unwrap_or(128),
    }
}

/// A duration that is compared with stamps of half a second.
fn whole_seconds(
    typed: &raw::Duration,
    bounds: &RangeInclusive<Duration>,
    default: Duration,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Duration {
    let Some(parsed) = checks.parsed(place, duration::parse(&typed.0, bounds)) else {
        return default;
    };
    if parsed.subsec_nanos() != 0 {
        let seconds = duration::text(Duration::from_secs(parsed.as_secs() + 1));
        checks.error(
            place,
            format!("{} is not whole seconds", shown(&typed.0)),
            format!("write {seconds}"),
        );
    }
    parsed
}

fn table_size(forward: Option<&raw::Forward>, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<u32> {
    let typed = forward.and_then(|forward| forward.table_size);
    let size = checks.or_default(place, typed, limits::MAGLEV_SIZE)?;
    if prime::is_prime(size) {
        return Some(size);
    }
    let nearest = prime::nearest(size, limits::MAGLEV_SIZE_MAX);
    checks.error(
        place,
        format!("{size} is not a prime"),
        format!("write {nearest}, the nearest one"),
    );
    None
}

fn idle_timeouts(
    typed: &raw::IdleTimeouts,
    protocol: Option<Protocol>,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> IdleTimeouts {
    let default = IdleTimeouts::default();
    let bounds = limits::MIN_IDLE..=limits::MAX_IDLE;
    let mut time = |key: &str, of: Protocol, typed: Option<&raw::Duration>, default: Duration| {
        let Some(typed) = typed else { return default };
        let place = place.key(key);
        if protocol.is_some_and(|protocol| protocol != of) {
            let problem = format!(
                "{key} means nothing to a {} listener",
                if of == Protocol::Tcp { "udp" } else { "tcp" }
            );
            checks.warning(&place, problem, "remove it");
        }
        whole_seconds(typed, &bounds, default, &place, checks)
    };
    IdleTimeouts {
        tcp: time("tcp", Protocol::Tcp, typed.tcp.as_ref(), default.tcp),
        tcp_opening: time(
            "tcp_opening",
            Protocol::Tcp,
            typed.tcp_opening.as_ref(),
            default.tcp_opening,
        ),
        tcp_closing: time(
            "tcp_closing",
            Protocol::Tcp,
            typed.tcp_closing.as_ref(),
            default.tcp_closing,
        ),
        udp: time("udp", Protocol::Udp, typed.udp.as_ref(), default.udp),
    }
}
