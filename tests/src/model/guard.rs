//! Rules about sources, and their limits without refilling (docs/dataplane.md, "Protection").

use super::Model;
use proxy_common::{
    keys::ServiceKey,
    values::{ServiceValue, service_flags},
    verdict::DropReason,
};
use std::net::{IpAddr, Ipv6Addr};
use weir::model::Guard;

/// What a source has left: packets, connections.
pub type Left = (u32, u32);

impl Model {
    /// Whether a client's packet may come in.
    pub(super) fn admit(
        &mut self,
        key: &ServiceKey,
        service: &ServiceValue,
        source: IpAddr,
        opens: bool,
    ) -> Result<(), DropReason> {
        let Some(guard) = self.guards.get(key) else {
            return Ok(());
        };
        if !is_allowed(guard, source) {
            return Err(DropReason::Denied);
        }
        let has = |flag: u32| service.flags & flag != 0;
        let counts_connection = has(service_flags::CONNECTION_LIMIT) && opens;
        let counts_packet = has(service_flags::PACKET_LIMIT);
        if !counts_packet && !counts_connection {
            return Ok(());
        }
        let burst = |rate: Option<weir::model::Rate>| rate.map_or(0, |rate| rate.burst);
        let (packets, connections) = (burst(guard.packets), burst(guard.connections));
        let Some(left) = self.left.get_mut(&(service.index, network(source))) else {
            // A source's first packet is never too many.
            let left = (
                packets.saturating_sub(1),
                connections.saturating_sub(u32::from(counts_connection)),
            );
            self.left.insert((service.index, network(source)), left);
            return Ok(());
        };
        if counts_packet {
            left.0 = left.0.checked_sub(1).ok_or(DropReason::PacketLimit)?;
        }
        if counts_connection {
            left.1 = left.1.checked_sub(1).ok_or(DropReason::ConnectionLimit)?;
        }
        Ok(())
    }
}

/// IPv6 sources count by /64.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// By the longest prefix of either list.
fn is_allowed(guard: &Guard, source: IpAddr) -> bool {
    let longest = |list: &[ipnet::IpNet]| {
        let lengths = list.iter().filter(|prefix| prefix.contains(&source));
        lengths.map(ipnet::IpNet::prefix_len).max()
    };
    match (longest(&guard.allow), longest(&guard.deny)) {
        (None, None) => guard.allow.is_empty(),
        (allow, deny) => allow > deny,
    }
}
