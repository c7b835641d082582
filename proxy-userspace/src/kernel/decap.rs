//! The end of tunnels on a backend's host: which addresses they end at, and which VIPs are served here.

use super::{KernelError, Pins, maps, steer, vip_addresses};
use crate::model::DaemonSettings;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use proxy_common::{
    decap::{DECAP_ADDRESSES, DecapOutcome, DecapValue, decap_flags},
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
}

impl Decap {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins, settings: &DaemonSettings) -> Result<Self, KernelError> {
        Ok(Self {
            addresses: maps::open!(pins, "decap_addresses", HashMap),
            counters: maps::open!(pins, "decap_counters", PerCpuArray),
            vips: settings.decap_vips.iter().copied().collect(),
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
        for vip in &self.vips {
            wanted.entry((*vip).into()).or_default().flags |= decap_flags::VIP;
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
