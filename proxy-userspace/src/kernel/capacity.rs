//! What the maps cost in kernel memory, known before anything is loaded.
//!
//! The formulas are those of `map_mem_usage` in the kernel's map types (kernel/bpf/arraymap.c, hashtab.c, map_in_map.c, as of
//! Linux 6.6); a test compares them with what the kernel says of the maps it made.

use super::{OBJECT, maps};
use crate::model::{DaemonSettings, Service};
use aya_obj::{
    Object,
    generated::{BPF_F_NO_PREALLOC, bpf_map_type},
};

/// One map, or all Maglev tables together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapCost {
    /// As `bpftool map` shows it.
    pub name: String,
    /// Entries there is room for; of Maglev tables, slots.
    pub entries: u64,
    /// Bytes of all of them, allocated at once.
    pub bytes: u64,
}

/// The cost of every map with these settings, and of the services' Maglev tables; a table that is replaced lies beside
/// the new one for a moment. Nothing for maps that are allocated as they are filled. `cpus`: possible ones, not those online.
///
/// # Errors
/// This binary has no kernel programs.
pub fn capacity(
    settings: &DaemonSettings,
    services: &[Service],
    cpus: u64,
) -> Result<Vec<MapCost>, &'static str> {
    let object = Object::parse(OBJECT).map_err(|_| "this weir was built without its kernel programs")?;
    let sizes = maps::sizes(settings);
    let mut costs: Vec<MapCost> = (maps::NAMES.iter())
        .filter_map(|name| {
            let map = object.maps.get(*name)?;
            let configured = sizes.iter().find(|(sized, _)| sized == name);
            let entries = configured
                .map_or(map.max_entries(), |(_, entries)| *entries)
                .into();
            Some(MapCost {
                name: (*name).to_owned(),
                entries,
                bytes: bytes(map, entries, cpus),
            })
        })
        .collect();
    let slots: u64 = services.iter().map(|service| u64::from(service.table_size)).sum();
    costs.push(MapCost {
        name: "maglev_table".to_owned(),
        entries: slots,
        bytes: slots * ARRAY_ELEMENT,
    });
    Ok(costs)
}

/// An array's elements are rounded up to this.
const ARRAY_ELEMENT: u64 = 8;

fn bytes(map: &aya_obj::Map, entries: u64, cpus: u64) -> u64 {
    const ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    const PERCPU_ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32;
    const HASH: u32 = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    const LRU_HASH: u32 = bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32;
    const ARRAY_OF_MAPS: u32 = bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
    const RINGBUF: u32 = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    const SOCKMAP: u32 = bpf_map_type::BPF_MAP_TYPE_SOCKMAP as u32;
    let value = u64::from(map.value_size()).next_multiple_of(ARRAY_ELEMENT);
    match map.map_type() {
        ARRAY => value * entries,
        PERCPU_ARRAY => (8 + value * cpus) * entries,
        // A pointer each.
        ARRAY_OF_MAPS | SOCKMAP => 8 * entries,
        // And three pages: the positions of its writers and its reader, and what the kernel keeps of it.
        RINGBUF => entries + 3 * 4_096,
        HASH | LRU_HASH => {
            /// `struct bucket`: a list head and a lock.
            const BUCKET: u64 = 16;
            /// `struct htab_elem` in front of the key.
            const HEAD: u64 = 48;
            let element = HEAD + u64::from(map.key_size()).next_multiple_of(8) + value;
            // One element a CPU in reserve, for updates in place; an LRU map makes room instead.
            let reserve = if map.map_type() == HASH { cpus } else { 0 };
            let elements = match map.map_flags() & BPF_F_NO_PREALLOC {
                0 => entries + reserve,
                // Allocated as it is filled.
                _ => 0,
            };
            entries.next_power_of_two() * BUCKET + elements * element
        }
        _ => 0,
    }
}
