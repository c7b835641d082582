//! Local routes that make a VIP on no interface an address of this host: `ip route add local VIP dev lo proto 87`.

use crate::kernel::KernelError;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Marks routes as Weir's: "W" in ASCII, which no daemon in rtnetlink.h or iproute2's rt_protos has.
pub const ROUTE_PROTOCOL: u8 = 87;

/// `RT_TABLE_LOCAL` of rtnetlink.h: the table that says which addresses are this host's.
const LOCAL_TABLE: u8 = 255;

/// `LOOPBACK_IFINDEX` of net/flow.h: `lo` in every namespace.
const LOOPBACK: u32 = 1;

/// Makes `wanted` addresses of this host. Of Weir's routes those to `before` that aren't wanted any more are
/// removed; others may be another Weir's. Returns how many routes were added or removed.
pub(super) fn follow(wanted: &BTreeSet<IpAddr>, before: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
    if wanted.is_empty() && before.is_empty() {
        return Ok(0);
    }
    let mut kernel = Netlink::open().map_err(refused)?;
    let there = kernel.local_routes().map_err(refused)?;
    let mut changes = 0;
    for address in wanted {
        // A host's own address is one already, and so are all of 127.0.0.0/8.
        if !there.iter().any(|route| route.covers(*address)) {
            kernel.add(*address).map_err(|error| adding(*address, error))?;
            changes += 1;
        }
    }
    for route in there.iter().filter(|route| route.is_ours()) {
        if before.contains(&route.address) && !wanted.contains(&route.address) {
            kernel.remove(route.address).map_err(refused)?;
            changes += 1;
        }
    }
    Ok(changes)
}

/// The addresses of this host but those that Weir's routes made so, and loopback's.
pub(in crate::kernel) fn host_addresses() -> Result<BTreeSet<IpAddr>, KernelError> {
    let routes = Netlink::open().and_then(|mut kernel| kernel.local_routes());
    let own = (routes.map_err(refused)?.into_iter())
        .filter(|route| !route.is_ours() && route.prefix_bits == host_bits(route.address));
    Ok(own
        .map(|route| route.address)
        .filter(|address| !address.is_loopback())
        .collect())
}

/// The addresses that are on this host by Weir's routes.
pub(super) fn ours() -> Result<BTreeSet<IpAddr>, KernelError> {
    let routes = Netlink::open().and_then(|mut kernel| kernel.local_routes());
    let ours = routes.map_err(refused)?.into_iter().filter(Local::is_ours);
    Ok(ours.map(|route| route.address).collect())
}

fn refused(error: io::Error) -> KernelError {
    KernelError::refused("local routes of VIPs, by netlink", error)
}

fn adding(address: IpAddr, error: io::Error) -> KernelError {
    let remedy = match error.raw_os_error() {
        Some(libc::ENETDOWN) => "run `ip link set lo up`",
        Some(libc::EOPNOTSUPP | libc::EACCES) => "turn IPv6 on, or take the address out",
        _ => return KernelError::refused(format!("the local route of the VIP {address}"), error),
    };
    KernelError::missing(format!("the local route of the VIP {address}: {error}"), remedy)
}

/// A route of the local table.
struct Local {
    address: IpAddr,
    prefix_bits: u8,
    protocol: RouteProtocol,
}

impl Local {
    fn is_ours(&self) -> bool {
        self.protocol == RouteProtocol::from(ROUTE_PROTOCOL) && self.prefix_bits == host_bits(self.address)
    }

    fn covers(&self, address: IpAddr) -> bool {
        let (network, address, width) = match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        let host_part = width - u32::from(self.prefix_bits).min(width);
        // A shift by all 128 bits is none.
        let cut = |value: u128| value.checked_shr(host_part).unwrap_or(0);
        cut(network) == cut(address)
    }
}

fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A conversation with the kernel.
pub(in crate::kernel) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel looks at the table and type asked for: a host may have a million other routes.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    fn local_routes(&mut self) -> io::Result<Vec<Local>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = LOCAL_TABLE;
            message.header.kind = RouteType::Local;
            self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message
                    && route.header.table == LOCAL_TABLE
                    && route.header.kind == RouteType::Local
                {
                    found.push(local(&route));
                }
            })?;
        }
        Ok(found)
    }

    fn add(&mut self, address: IpAddr) -> io::Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.ask(RouteNetlinkMessage::NewRoute(route(address)), flags, |_| {}) {
            // Somebody else was quicker.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    fn remove(&mut self, address: IpAddr) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::DelRoute(route(address)), NLM_F_ACK, |_| {}) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Sends a request and visits all that is answered.
    pub(in crate::kernel) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut visit: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let answer: NetlinkMessage<RouteNetlinkMessage> =
                    NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
                // Messages are padded to 4 bytes.
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => visit(inner),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return error.code.map_or(Ok(()), |_| Err(error.to_io()));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn local(route: &RouteMessage) -> Local {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    Local {
        // Without a destination it is the default route.
        address: destination.unwrap_or(match route.header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        }),
        prefix_bits: route.header.destination_prefix_length,
        protocol: route.header.protocol,
    }
}

fn route(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        },
        destination_prefix_length: host_bits(address),
        table: LOCAL_TABLE,
        protocol: ROUTE_PROTOCOL.into(),
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(address.into()),
        RouteAttribute::Oif(LOOPBACK),
    ];
    message
}
