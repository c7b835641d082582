//! Services of several ports or addresses: docs/dataplane.md, "Ranges and prefixes".

use super::{Model, translate::End};
use proxy_common::{keys::ServiceKey, net::Address, values::ServiceValue};
use std::net::IpAddr;

/// What a service has beyond its first address and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Bits of the address that count.
    pub prefix_bits: u32,
    /// Last port.
    pub last_port: u16,
}

impl Model {
    /// The service that a packet to this address and port is for, and its key.
    pub(super) fn service_at(&self, destination: End, protocol: u8) -> Option<(ServiceKey, ServiceValue)> {
        let key = ServiceKey {
            address: Address::from(destination.0),
            port: destination.1,
            protocol,
            pad: 0,
        };
        if let Some(service) = self.services.get(&key) {
            return Some((key, *service));
        }
        let mut best: Option<(ServiceKey, Range)> = None;
        for (key, range) in &self.ranges {
            let ports = key.port..=range.last_port;
            let is_in = is_inside(key.address.into(), range.prefix_bits, destination.0);
            if key.protocol != protocol || !ports.contains(&destination.1) || !is_in {
                continue;
            }
            let rank = |key: &ServiceKey, range: &Range| {
                (
                    range.prefix_bits,
                    u32::from(key.port) + 0xffff - u32::from(range.last_port),
                )
            };
            if best.is_none_or(|(other, of_other)| rank(key, range) > rank(&other, &of_other)) {
                best = Some((*key, *range));
            }
        }
        let (key, _) = best?;
        Some((key, *self.services.get(&key)?))
    }

    /// Whether a service has this address.
    pub(super) fn is_vip(&self, address: IpAddr) -> bool {
        let has =
            |(key, range): (&ServiceKey, &Range)| is_inside(key.address.into(), range.prefix_bits, address);
        self.vips.contains(&address) || self.ranges.iter().any(has)
    }
}

fn is_inside(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}
