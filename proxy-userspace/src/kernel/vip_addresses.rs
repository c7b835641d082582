//! VIPs as addresses of `lo`, on a backend's host: servers can bind to them, and no neighbour hears of them.

use super::{KernelError, steer::Netlink};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{
        AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressProtocol, AddressScope,
        CacheInfo,
    },
};
use std::{collections::BTreeSet, io, net::IpAddr};

/// Marks addresses as Weir's (IFA_PROTO, Linux 5.18), as the same number marks its routes.
const PROTOCOL: u8 = super::steer::ROUTE_PROTOCOL;

/// `LOOPBACK_IFINDEX` of net/flow.h.
const LOOPBACK: u32 = 1;

/// No end: INFINITY_LIFE_TIME of net/addrconf.h.
const FOR_EVER: u32 = u32::MAX;

/// Gives `lo` the `wanted` addresses, unless the host has them already; of Weir's own those to `before` that aren't wanted any
/// more are taken away. Returns how many were added or removed.
pub(super) fn follow(wanted: &BTreeSet<IpAddr>, before: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
    if wanted.is_empty() && before.is_empty() {
        return Ok(0);
    }
    let mut netlink = Netlink::open().map_err(refused)?;
    let there = all(&mut netlink).map_err(refused)?;
    let mut changes = 0;
    for address in wanted {
        if !there.iter().any(|(there, _)| there == address) {
            add(&mut netlink, *address).map_err(|error| adding(*address, error))?;
            changes += 1;
        }
    }
    for (address, is_ours) in there {
        if is_ours && before.contains(&address) && !wanted.contains(&address) {
            let message = RouteNetlinkMessage::DelAddress(message(address));
            netlink.ask(message, NLM_F_ACK, |_| {}).map_err(refused)?;
            changes += 1;
        }
    }
    Ok(changes)
}

/// The addresses that `lo` has by Weir.
pub(super) fn ours() -> Result<BTreeSet<IpAddr>, KernelError> {
    let there = Netlink::open().and_then(|mut netlink| all(&mut netlink));
    let ours = there
        .map_err(refused)?
        .into_iter()
        .filter(|(_, is_ours)| *is_ours);
    Ok(ours.map(|(address, _)| address).collect())
}

/// Every address of this host, and whether it is one that Weir gave to `lo`.
fn all(netlink: &mut Netlink) -> io::Result<Vec<(IpAddr, bool)>> {
    let mut found = Vec::new();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.ask(question, NLM_F_DUMP, |answer| {
        let RouteNetlinkMessage::NewAddress(address) = answer else {
            return;
        };
        let mut ip = None;
        let mut is_marked = false;
        for attribute in &address.attributes {
            match attribute {
                // IPv4's own; the other is the peer's.
                AddressAttribute::Local(local) => ip = Some(*local),
                AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
                AddressAttribute::Protocol(protocol) => is_marked = u8::from(*protocol) == PROTOCOL,
                _ => {}
            }
        }
        found.extend(ip.map(|ip| (ip, is_marked && address.header.index == LOOPBACK)));
    })?;
    Ok(found)
}

fn add(netlink: &mut Netlink, address: IpAddr) -> io::Result<()> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match netlink.ask(RouteNetlinkMessage::NewAddress(message(address)), flags, |_| {}) {
        // Somebody else was quicker.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Never chosen as the source of the host's own connections: of host scope, or deprecated from the start (RFC 6724).
fn message(address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        },
        prefix_len: if address.is_ipv4() { 32 } else { 128 },
        scope: if address.is_ipv4() {
            AddressScope::Host
        } else {
            AddressScope::Universe
        },
        index: LOOPBACK,
        ..AddressHeader::default()
    };
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = FOR_EVER;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)),
    ];
    if address.is_ipv6() {
        // Servers may bind to it at once: no other host on the link can have it, for no link has it.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    message
}

fn adding(address: IpAddr, error: io::Error) -> KernelError {
    let remedy = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EACCES) => "turn IPv6 on, or take the address out",
        _ => return KernelError::refused(format!("adding the VIP {address} to lo"), error),
    };
    KernelError::missing(format!("adding the VIP {address} to lo: {error}"), remedy)
}

fn refused(error: io::Error) -> KernelError {
    KernelError::refused("addresses of VIPs, by netlink", error)
}
