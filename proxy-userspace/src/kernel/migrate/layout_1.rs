//! Layout 1: full NAT alone, no slot states.

use super::{
    super::{
        KernelError, Pins,
        maps::{Maps, open},
        table::{self, Memory},
    },
    Older,
};
use aya::{
    Pod,
    maps::{Array, ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray, PerCpuValues},
};
use proxy_common::{
    counters::Counters,
    keys::{FlowKey, ServiceKey},
    net::Address,
    steer::{L7Key, L7Service, WorkerLoad},
    values::{self, FlowValue, SlotValue, VipValue, mode},
};

pub(super) const LAYOUT: Older = Older {
    version: 1,
    kept: &[
        "vips",
        "flows",
        "l7_services",
        "workers",
        "worker_loads",
        "steer_counters",
    ],
    fill,
};

/// What is in the maps that are kept. Who changes one of these gives the map a conversion here.
const _: () = assert!(
    size_of::<Address>() == 16
        && size_of::<VipValue>() == 4
        && size_of::<FlowKey>() == 40
        && size_of::<FlowValue>() == 64
        && size_of::<L7Key>() == 20
        && size_of::<L7Service>() == 4
        && size_of::<WorkerLoad>() == 64
);

/// Value of `services`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ServiceValue {
    index: u32,
    table_size: u32,
    /// 0, NAT.
    mode: u32,
    flags: u32,
}

/// Value of `backends`.
#[repr(C)]
#[derive(Clone, Copy)]
struct BackendValue {
    address: Address,
    source: Address,
    port: u16,
    flags: u16,
    service: u32,
    incarnation: u32,
    weight: u32,
}

/// The one entry of `settings`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Settings {
    nat_ports: [u16; 2],
    flags: u32,
    clock_offset_ns: u64,
}

/// Value of `service_counters` and `backend_counters`: packets and bytes, of replies too, flows, drops.
type OldCounters = [u64; 6];

// SAFETY: integers without padding.
unsafe impl Pod for ServiceValue {}
// SAFETY: as above.
unsafe impl Pod for BackendValue {}
// SAFETY: as above.
unsafe impl Pod for Settings {}

/// Backends that are free are left out: the new maps are zeros.
fn fill(pins: &Pins, maps: &mut Maps) -> Result<(), KernelError> {
    let settings: Array<MapData, Settings> = open!(path pins.left("settings"), "settings", Array);
    let old = settings.get(&0, 0).map_err(refused)?;
    let new = values::Settings {
        nat_port_first: old.nat_ports[0],
        nat_port_last: old.nat_ports[1],
        clock_offset_ns: old.clock_offset_ns,
        ..Default::default()
    };
    maps.settings.set(0, new, 0).map_err(refused)?;
    let backends: Array<MapData, BackendValue> = open!(path pins.left("backends"), "backends", Array);
    let mut used = Vec::new();
    for (index, old) in (0..).zip(backends.iter()) {
        let old = old.map_err(refused)?;
        if old.incarnation != 0 {
            maps.backends.set(index, backend(old), 0).map_err(refused)?;
            used.push(index);
        }
    }
    let counters: PerCpuArray<MapData, OldCounters> =
        open!(path pins.left("backend_counters"), "backend_counters", PerCpuArray);
    copy_counters(&counters, &mut maps.backend_counters, &used)?;
    let services = fill_services(pins, maps)?;
    let counters: PerCpuArray<MapData, OldCounters> =
        open!(path pins.left("service_counters"), "service_counters", PerCpuArray);
    copy_counters(&counters, &mut maps.service_counters, &services)?;
    // Drop reasons have kept their numbers; there are more today.
    let drops: PerCpuArray<MapData, u64> =
        open!(path pins.left("drop_counters"), "drop_counters", PerCpuArray);
    for reason in 0..drops.len().min(maps.drop_counters.len()) {
        let counts = drops.get(&reason, 0).map_err(refused)?;
        maps.drop_counters.set(reason, counts, 0).map_err(refused)?;
    }
    Ok(())
}

/// Services and their tables; returns their indices.
fn fill_services(pins: &Pins, maps: &mut Maps) -> Result<Vec<u32>, KernelError> {
    let services: HashMap<MapData, ServiceKey, ServiceValue> =
        open!(path pins.left("services"), "services", HashMap);
    let slots: ArrayOfMaps<MapData> = open!(path pins.left("slots"), "slots", ArrayOfMaps);
    let mut indices = Vec::new();
    for entry in services.iter() {
        let (key, old) = entry.map_err(refused)?;
        let new = values::ServiceValue {
            index: old.index,
            table_size: old.table_size,
            mode: mode::NAT,
            gue_port: 0,
            flags: old.flags,
        };
        maps.services.insert(key, new, 0).map_err(refused)?;
        indices.push(old.index);
    }
    for indices in indices.chunks(table::TOGETHER) {
        let mut tables = Vec::new();
        for index in indices {
            match slots.get(index, 0) {
                Ok(old) => tables.push((*index, table_of(&old)?)),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        let tables: Vec<_> = tables.iter().map(|(index, table)| (*index, table)).collect();
        table::swap(&maps.slots_data, &tables)?;
    }
    Ok(indices)
}

/// A table of today's from an old one. Its elements of 4 bytes take 8 in an array, as today's of 8 do.
fn table_of(old: &MapData) -> Result<MapData, KernelError> {
    let slots = Memory::of(old)?.read();
    let slots: Vec<_> = slots.iter().map(|slot| SlotValue::plain(slot.backend)).collect();
    table::build(&slots)
}

fn backend(old: BackendValue) -> values::BackendValue {
    values::BackendValue {
        address: old.address,
        source: old.source,
        port: old.port,
        flags: old.flags,
        service: old.service,
        incarnation: old.incarnation,
        weight: old.weight,
        source_bits: 0,
        mode: mode::NAT,
        gue_port: 0,
    }
}

/// What the old programs count after this is lost: a moment's packets.
fn copy_counters(
    old: &PerCpuArray<MapData, OldCounters>,
    new: &mut PerCpuArray<MapData, Counters>,
    indices: &[u32],
) -> Result<(), KernelError> {
    for index in indices {
        let counts = old.get(index, 0).map_err(refused)?;
        let counts: Vec<Counters> = counts.iter().map(counted).collect();
        let counts = PerCpuValues::try_from(counts)
            .map_err(|error| KernelError::refused("counting the CPUs", error))?;
        new.set(*index, counts, 0).map_err(refused)?;
    }
    Ok(())
}

fn counted(&[packets, bytes, reply_packets, reply_bytes, flows, drops]: &OldCounters) -> Counters {
    Counters {
        packets,
        bytes,
        reply_packets,
        reply_bytes,
        flows,
        drops,
        untracked: 0,
    }
}

fn refused(error: MapError) -> KernelError {
    KernelError::refused("converting the pinned maps", error)
}
