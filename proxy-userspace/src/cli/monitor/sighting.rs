//! An event with names in place of numbers.

use super::frame::{self, Addresses};
use crate::kernel::{Names, clock_offset};
use proxy_common::{
    events::{Event, EventKind},
    headers::protocol,
    keys::FlowKey,
    net::Protocol,
    values::NO_BACKEND,
    verdict::DropReason,
};
use rustix::net::{AddressFamily, SocketType, netdevice::index_to_name, socket};
use std::{collections::HashMap, net::SocketAddr, os::fd::OwnedFd, time::Duration};

/// Listeners' names by (VIP:PORT, protocol).
pub(super) type ServiceNames = HashMap<(String, String), String>;

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// Since 1970.
    pub(super) time: Duration,
    pub(super) kind: EventKind,
    /// Of packets dropped and answered.
    pub(super) reason: Option<DropReason>,
    pub(super) service: Option<ServiceSeen>,
    /// None where the frame doesn't tell.
    pub(super) addresses: Option<Addresses>,
    pub(super) backend: Option<SocketAddr>,
    /// The one before, of flows that moved.
    pub(super) previous: Option<SocketAddr>,
    pub(super) interface: String,
    /// Bytes of the frame.
    pub(super) length: u32,
}

/// A service as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServiceSeen {
    /// None without a daemon that tells it.
    pub(super) name: Option<String>,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
}

impl Sighting {
    /// `tcp`, `icmp`, or a number.
    pub(super) fn protocol(&self) -> Option<String> {
        self.addresses.map(|addresses| match addresses.protocol {
            protocol::TCP => "tcp".to_owned(),
            protocol::UDP => "udp".to_owned(),
            protocol::ICMP => "icmp".to_owned(),
            protocol::ICMPV6 => "icmpv6".to_owned(),
            number => number.to_string(),
        })
    }

    /// Who sent the packet: IP:PORT, or the address alone.
    pub(super) fn source(&self) -> Option<String> {
        let addresses = self.addresses?;
        Some(match addresses.ports {
            Some((port, _)) => SocketAddr::new(addresses.source, port).to_string(),
            None => addresses.source.to_string(),
        })
    }

    /// Whom it is for, alike.
    pub(super) fn destination(&self) -> Option<String> {
        let addresses = self.addresses?;
        Some(match addresses.ports {
            Some((_, port)) => SocketAddr::new(addresses.destination, port).to_string(),
            None => addresses.destination.to_string(),
        })
    }
}

/// Gives events names.
pub(super) struct Witness {
    service_names: ServiceNames,
    interfaces: HashMap<u32, String>,
    /// To ask for interfaces' names with.
    socket: Option<OwnedFd>,
    clock_offset: Duration,
}

impl Witness {
    pub(super) fn new(service_names: ServiceNames) -> Self {
        Self {
            service_names,
            interfaces: HashMap::new(),
            socket: socket(AddressFamily::INET, SocketType::DGRAM, None).ok(),
            clock_offset: clock_offset(),
        }
    }

    /// To be called now and then: interfaces may get other names.
    pub(super) fn renew(&mut self) {
        self.interfaces.clear();
    }

    /// To be called for every batch: the clock may have been set.
    pub(super) fn set_clock(&mut self) {
        self.clock_offset = clock_offset();
    }

    /// The event with its names.
    pub(super) fn sighting(&mut self, event: &Event, names: &mut Names) -> Sighting {
        let kind = EventKind::from_code(event.kind).unwrap_or(EventKind::Dropped);
        let addresses = addresses(event);
        let backend = |index: u32| {
            (index != NO_BACKEND)
                .then(|| names.backend(index))
                .flatten()
                .map(|backend| backend.0)
        };
        Sighting {
            time: Duration::from_nanos(event.time) + self.clock_offset,
            kind,
            reason: matches!(kind, EventKind::Dropped | EventKind::Answered)
                .then(|| DropReason::from_code(event.reason.into())),
            backend: backend(event.backend),
            // An index that is used anew says no more who had it.
            previous: (event.previous != event.backend)
                .then(|| backend(event.previous))
                .flatten(),
            service: self.service(event.service, addresses, names),
            addresses,
            interface: self.interface(event.ifindex),
            length: event.length,
        }
    }

    fn service(&self, index: u32, addresses: Option<Addresses>, names: &mut Names) -> Option<ServiceSeen> {
        let (address, protocol) = names.service(index).or_else(|| {
            // Dropped before the service was looked up.
            let addresses = addresses?;
            let (_, port) = addresses.ports?;
            let wanted = SocketAddr::new(addresses.destination, port);
            names
                .services()
                .find(|(address, protocol)| address.0 == wanted && *protocol as u8 == addresses.protocol)
        })?;
        let key = (address.0.to_string(), protocol.name().to_owned());
        Some(ServiceSeen {
            name: self.service_names.get(&key).cloned(),
            address: address.0,
            protocol,
        })
    }

    fn interface(&mut self, ifindex: u32) -> String {
        let socket = &self.socket;
        let ask = || {
            let name = socket
                .as_ref()
                .and_then(|socket| index_to_name(socket, ifindex).ok());
            name.unwrap_or_else(|| ifindex.to_string())
        };
        self.interfaces.entry(ifindex).or_insert_with(ask).clone()
    }
}

/// The program's, or where it hadn't read them, the frame's.
fn addresses(event: &Event) -> Option<Addresses> {
    if event.key == FlowKey::default() {
        let captured = usize::from(event.captured).min(event.frame.len());
        return frame::read(&event.frame[..captured]);
    }
    Some(Addresses {
        protocol: event.key.protocol,
        source: event.key.source.into(),
        destination: event.key.destination.into(),
        ports: Some((event.key.source_port, event.key.destination_port)),
    })
}
