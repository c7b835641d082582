//! The end of tunnels on a backend's host: which addresses they end at, and which VIPs are served here.

use super::{KernelError, Pins, maps, steer, vip_addresses};
use crate::model::{DaemonSettings, SegmentSize};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use proxy_common::{
    decap::{DECAP_ADDRESSES, DecapOutcome, DecapValue, decap_flags},
    headers::{ipv4, ipv6, tcp, udp},
    net::Address,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

/// The maps of `decap`, and what is to be in them.
pub(super) struct Decap {
    addresses: HashMap<MapData, Address, DecapValue>,
    counters: PerCpuArray<MapData, u64>,
    vips: BTreeSet<IpAddr>,
    segment: Option<SegmentSize>,
    /// Whose MTU counts for [`SegmentSize::Fitting`].
    interfaces: Vec<String>,
}

impl Decap {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins, settings: &DaemonSettings) -> Result<Self, KernelError> {
        Ok(Self {
            addresses: maps::open!(pins, "decap_addresses", HashMap),
            counters: maps::open!(pins, "decap_counters", PerCpuArray),
            vips: settings.decap_vips.iter().copied().collect(),
            segment: settings.decap_segment,
            interfaces: (settings.interfaces.iter())
                .map(|interface| interface.name.clone())
                .collect(),
        })
    }

    /// Delivers what tunnels bring for the configured VIPs to any address of this host, and makes the VIPs local. The host's
    /// addresses are read anew each time. Returns how many map entries and routes were written.
    pub(super) fn apply(&mut self) -> Result<usize, KernelError> {
        let there: BTreeMap<Address, DecapValue> =
            self.addresses.iter().collect::<Result<_, _>>().map_err(refused)?;
        let mut wanted: BTreeMap<Address, DecapValue> = BTreeMap::new();
        if !self.vips.is_empty() {
            let own = steer::host_addresses()?;
            for address in own.into_iter().filter(|address| !self.vips.contains(address)) {
                wanted.entry(address.into()).or_default().flags |= decap_flags::END;
            }
        }
        let mtu = match self.segment {
            Some(SegmentSize::Fitting) => least_mtu(&self.interfaces)?,
            _ => 0,
        };
        for vip in &self.vips {
            let segment = self
                .segment
                .map_or(0, |size| largest_segment(size, mtu, vip.is_ipv4()));
            wanted.entry((*vip).into()).or_default().flags |=
                decap_flags::VIP | u32::from(segment) << decap_flags::MAX_SEGMENT_SHIFT;
        }
        if wanted.len() > DECAP_ADDRESSES as usize {
            return Err(KernelError::missing(
                format!(
                    "{} VIPs and addresses of this host, and the map decap_addresses holds {DECAP_ADDRESSES}",
                    wanted.len()
                ),
                "take VIPs out of decap.vips",
            ));
        }
        let mut writes = 0;
        for (address, value) in &wanted {
            if there.get(address) != Some(value) {
                self.addresses.insert(address, value, 0).map_err(refused)?;
                writes += 1;
            }
        }
        for address in there.keys().filter(|address| !wanted.contains_key(*address)) {
            self.addresses.remove(address).map_err(refused)?;
            writes += 1;
        }
        Ok(writes + vip_addresses::follow(&self.vips, &vips_of(&there))?)
    }

    /// Packets by outcome.
    pub(super) fn outcomes(&self) -> Result<Vec<(DecapOutcome, u64)>, KernelError> {
        let count = |outcome: &DecapOutcome| {
            let values = self.counters.get(&(*outcome as u32), 0).map_err(refused)?;
            Ok((*outcome, values.iter().copied().fold(0, u64::wrapping_add)))
        };
        DecapOutcome::ALL.iter().map(count).collect()
    }
}

/// What clients may send in a TCP segment so that it fits into any tunnel over such links: into the largest outer headers, of GUE in
/// IPv6, behind which the client's own are.
fn largest_segment(size: SegmentSize, mtu: u32, is_ipv4: bool) -> u16 {
    let outer = ipv6::LENGTH + udp::LENGTH;
    let inner = tcp::LENGTH + if is_ipv4 { ipv4::LENGTH } else { ipv6::LENGTH };
    match size {
        SegmentSize::Bytes(bytes) => bytes,
        SegmentSize::Fitting => u16::try_from(mtu.saturating_sub((outer + inner) as u32)).unwrap_or(u16::MAX),
    }
}

/// The least MTU of these interfaces, as it is now.
fn least_mtu(interfaces: &[String]) -> Result<u32, KernelError> {
    let mut least = u32::MAX;
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let visit = |answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else {
            return;
        };
        let is_ours = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(name) if interfaces.contains(name));
        if !link.attributes.iter().any(is_ours) {
            return;
        }
        for attribute in &link.attributes {
            if let LinkAttribute::Mtu(mtu) = attribute {
                least = least.min(*mtu);
            }
        }
    };
    let asked = steer::Netlink::open().and_then(|mut netlink| netlink.ask(question, NLM_F_DUMP, visit));
    asked.map_err(|error| KernelError::refused("MTUs of the interfaces, by netlink", error))?;
    Ok(least)
}

/// Takes the VIPs of a pinned map from this host again, for `weir unload`; all of Weir's where it can't be read. Returns what
/// was removed.
pub(super) fn remove_vips(pin_path: &Path) -> Result<Vec<String>, KernelError> {
    if !pin_path.join("decap_addresses").exists() {
        return Ok(Vec::new());
    }
    let ours = vip_addresses::ours()?;
    let before = pinned_vips(pin_path).unwrap_or_else(|| ours.clone());
    vip_addresses::follow(&BTreeSet::new(), &before)?;
    let removed = ours.intersection(&before);
    Ok(removed
        .map(|address| format!("address {address} of lo"))
        .collect())
}

fn pinned_vips(pin_path: &Path) -> Option<BTreeSet<IpAddr>> {
    let data = MapData::from_pin(pin_path.join("decap_addresses")).ok()?;
    let map: HashMap<_, Address, DecapValue> = Map::HashMap(data).try_into().ok()?;
    let there: BTreeMap<Address, DecapValue> = map.iter().collect::<Result<_, _>>().ok()?;
    Some(vips_of(&there))
}

fn vips_of(there: &BTreeMap<Address, DecapValue>) -> BTreeSet<IpAddr> {
    (there.iter())
        .filter(|(_, value)| value.flags & decap_flags::VIP != 0)
        .map(|(address, _)| IpAddr::from(*address))
        .collect()
}

fn refused(error: aya::maps::MapError) -> KernelError {
    KernelError::refused("the maps of decap", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_fits_into_the_largest_outer_headers() {
        // 1,500 less IPv6 and UDP outside, and IP and TCP inside.
        assert_eq!(largest_segment(SegmentSize::Fitting, 1_500, true), 1_412);
        assert_eq!(largest_segment(SegmentSize::Fitting, 1_500, false), 1_392);
        assert_eq!(
            largest_segment(SegmentSize::Fitting, 65_536 + 200, true),
            u16::MAX
        );
        assert_eq!(largest_segment(SegmentSize::Bytes(1_360), 1_500, false), 1_360);
    }
}
