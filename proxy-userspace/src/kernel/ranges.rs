//! Services of several ports or addresses, in the trie `service_ranges`.

use super::{KernelError, Pins, encode, maps::open};
use crate::model::{Service, Snapshot, l7::PortRange};
use aya::maps::{Array, LpmTrie, MapData, MapError, lpm_trie::Key};
use proxy_common::{
    keys::ServiceKey,
    net::Protocol,
    ranges::{ADDRESS_BITS, HEAD_BITS, KEY_BITS, RANGES, RangeKey, RangeValue, kind, wanted},
    values::Settings,
};
use std::collections::BTreeMap;

/// Keys of the trie with their values: (prefix length in bits, key).
type Entries = BTreeMap<(u32, RangeKey), RangeValue>;

/// The trie, and what it holds.
pub(super) struct Ranges {
    map: LpmTrie<MapData, RangeKey, RangeValue>,
    settings: Array<MapData, Settings>,
    there: Entries,
    /// What the programs were told to look for.
    told: u64,
}

impl Ranges {
    /// Opens the pinned map.
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let map: LpmTrie<MapData, RangeKey, RangeValue> = open!(pins, "service_ranges", LpmTrie);
        let there = map
            .iter()
            .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
            .collect::<Result<_, MapError>>()
            .map_err(|error| KernelError::refused("reading the map service_ranges", error))?;
        let settings: Array<MapData, Settings> = open!(pins, "settings", Array);
        let told = settings
            .get(&0, 0)
            .map_err(|error| KernelError::refused("reading the map settings", error))?
            .flags
            & wanted::ALL;
        Ok(Self {
            map,
            settings,
            there,
            told,
        })
    }

    /// Whether the services' ranges fit.
    ///
    /// # Errors
    /// They don't.
    pub(super) fn check(&self, snapshot: &Snapshot) -> Result<(), KernelError> {
        let wanted = entries(snapshot);
        // New ones are written before old ones are removed.
        let most = wanted.len() + self.there.keys().filter(|key| !wanted.contains_key(*key)).count();
        if most > RANGES as usize {
            return Err(KernelError::missing(
                format!(
                    "the listeners' ranges take {most} entries of the map service_ranges, which holds {RANGES}"
                ),
                "use fewer ranges, or such as begin and end at multiples of a power of two",
            ));
        }
        Ok(())
    }

    /// Makes the trie that of the snapshot; to be called when its services are there. Returns the number of map writes.
    pub(super) fn apply(&mut self, pins: &Pins, snapshot: &Snapshot) -> Result<usize, KernelError> {
        let refused = |error: MapError| KernelError::refused("writing the map service_ranges", error);
        let wanted = entries(snapshot);
        let mut writes = 0;
        for (&(bits, key), value) in &wanted {
            if self.there.get(&(bits, key)) != Some(value) {
                self.map.insert(&Key::new(bits, key), value, 0).map_err(refused)?;
                self.there.insert((bits, key), *value);
                writes += 1;
            }
        }
        let is_gone = |key: &&(u32, RangeKey)| !wanted.contains_key(*key);
        let gone: Vec<_> = self.there.keys().filter(is_gone).copied().collect();
        for (bits, key) in gone {
            self.map.remove(&Key::new(bits, key)).map_err(refused)?;
            self.there.remove(&(bits, key));
            writes += 1;
        }
        let flags = flags(&wanted);
        if self.told != flags {
            self.tell(pins, flags)?;
            self.told = flags;
            writes += 1;
        }
        Ok(writes)
    }

    fn tell(&mut self, pins: &Pins, flags: u64) -> Result<(), KernelError> {
        let refused = |error| KernelError::refused("writing the map settings", error);
        let _lock = pins.lock_settings()?;
        let mut settings = self.settings.get(&0, 0).map_err(refused)?;
        settings.flags = settings.flags & !wanted::ALL | flags;
        self.settings.set(0, settings, 0).map_err(refused)
    }
}

/// What the programs have to look for.
fn flags(entries: &Entries) -> u64 {
    let flag = |kind| match kind {
        kind::BY_ADDRESS => wanted::BY_ADDRESS,
        kind::BY_PORT => wanted::BY_PORT,
        _ => wanted::MEMBER,
    };
    entries.keys().fold(0, |flags, (_, key)| flags | flag(key.kind))
}

/// What the trie has to hold.
fn entries(snapshot: &Snapshot) -> Entries {
    let mut ranges: Vec<&Service> = (snapshot.services.iter())
        .filter(|service| service.span.is_range(service.address))
        .collect();
    // The narrower of two that take the same entry is written last: it wins there as it does elsewhere.
    let ports = |service: &Service| service.span.last_port - service.address.0.port();
    ranges.sort_by_key(|service| (service.span.prefix_bits, u16::MAX - ports(service)));
    let sockets = (snapshot.listeners.iter())
        .flat_map(|listener| &listener.addresses)
        .filter(|sockets| ranges.iter().any(|service| overlap(service, sockets)));
    let left = sockets.flat_map(left_to_sockets).collect::<Vec<_>>();
    ranges.into_iter().flat_map(of_service).chain(left).collect()
}

fn overlap(service: &Service, sockets: &PortRange) -> bool {
    let begins = (sockets.address, sockets.first).into();
    service.protocol == Protocol::Tcp && service.span.contains(service.address, begins)
}

/// What is within a range and not for its service: no service has the key of zeros.
fn left_to_sockets(sockets: &PortRange) -> impl Iterator<Item = ((u32, RangeKey), RangeValue)> {
    let address = sockets.address.into();
    let value = RangeValue {
        service: ServiceKey::default(),
        address_bits: ADDRESS_BITS,
    };
    blocks(sockets.first, sockets.last).map(move |(port, bits)| {
        let key = RangeKey {
            kind: kind::BY_ADDRESS,
            protocol: Protocol::Tcp as u8,
            address,
            last: port.to_be_bytes(),
            ..RangeKey::default()
        };
        ((KEY_BITS - bits, key), value)
    })
}

fn of_service(service: &Service) -> Vec<((u32, RangeKey), RangeValue)> {
    let first = encode::service_key(service);
    let width = if service.address.0.is_ipv4() { 32 } else { 128 };
    let address_bits = ADDRESS_BITS - width + u32::from(service.span.prefix_bits);
    let value = RangeValue {
        service: first,
        address_bits,
    };
    let key = |kind, protocol| RangeKey {
        kind,
        protocol,
        address: first.address,
        ..RangeKey::default()
    };
    let mut entries = Vec::new();
    let last = service.span.last_port;
    if address_bits < ADDRESS_BITS {
        entries.push(((HEAD_BITS + address_bits, key(kind::MEMBER, 0)), value));
    }
    if (first.port, last) == (0, u16::MAX) {
        let key = key(kind::BY_ADDRESS, first.protocol);
        entries.push(((HEAD_BITS + address_bits, key), value));
    } else if first.port == last {
        let mut key = key(kind::BY_PORT, first.protocol);
        key.port = last.to_be_bytes();
        entries.push(((HEAD_BITS + address_bits, key), value));
    } else {
        entries.extend(blocks(first.port, last).map(|(port, bits)| {
            let mut key = key(kind::BY_ADDRESS, first.protocol);
            key.last = port.to_be_bytes();
            ((HEAD_BITS + address_bits + 16 - bits, key), value)
        }));
    }
    entries
}

/// The fewest blocks that a range of ports consists of: first port, and how many of its bits are free. From below, each as
/// wide as its start and the rest allow: at most 30.
pub(super) fn blocks(first: u16, last: u16) -> impl Iterator<Item = (u16, u32)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let bits = next.trailing_zeros().min(16).min((end - next).ilog2());
        // Below 65,536 here.
        let block = (next as u16, bits);
        next += 1 << bits;
        Some(block)
    })
}
