//! A service's Maglev table: an inner map, built whole and then swapped in, read and written through memory.

use super::{KernelError, batch, slots};
use aya::maps::MapData;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use proxy_common::{
    maglev::{self, MaglevEndpoint},
    values::{NO_BACKEND, SlotValue},
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::{
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

/// `BPF_F_MMAPABLE` and `BPF_F_INNER_MAP` of include/uapi/linux/bpf.h: the table is written
/// through memory instead of 65,537 system calls, and may differ in size from its siblings.
const TABLE_FLAGS: u32 = (1 << 10) | (1 << 12);

/// Backend indices by slot, for endpoints with these indices.
pub(super) fn wanted(endpoints: &[(MaglevEndpoint, u32)], size: u32) -> Vec<u32> {
    let identities: Vec<MaglevEndpoint> = endpoints.iter().map(|(endpoint, _)| *endpoint).collect();
    let mut slots = maglev::build(&identities, size);
    for slot in &mut slots {
        if *slot != NO_BACKEND {
            *slot = endpoints[*slot as usize].1;
        }
    }
    slots
}

/// A full table.
pub(super) fn build(slots: &[SlotValue]) -> Result<MapData, KernelError> {
    let size = slots.len() as u32;
    let making = |error| KernelError::refused(format!("making a table of {size} slots"), error);
    let shape = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<SlotValue>() as u32,
        size,
        TABLE_FLAGS,
    );
    let data = MapData::create(shape, "maglev_table", None).map_err(making)?;
    Memory::of(&data)?.write(slots);
    Ok(data)
}

/// Services whose tables are swapped in one call: each is a file descriptor until then.
pub(super) const TOGETHER: usize = 256;

/// Puts tables in their places, by service index: readers see each old or new.
pub(super) fn swap(slots: &MapData, tables: &[(u32, &MapData)]) -> Result<(), KernelError> {
    let keys: Vec<u32> = tables.iter().map(|(index, _)| *index).collect();
    let values: Vec<u32> = (tables.iter())
        .map(|(_, table)| table.fd().as_fd().as_raw_fd() as u32)
        .collect();
    batch::update(slots.fd().as_fd(), &keys, &values)
        .map_err(|error| KernelError::refused("swapping tables in", error))
}

/// A table's memory, shared with the kernel.
pub(super) struct Memory {
    slots: *mut SlotValue,
    length: usize,
}

impl Memory {
    /// Maps a table into memory.
    pub(super) fn of(table: &MapData) -> Result<Self, KernelError> {
        let length = table
            .info()
            .map_err(|error| KernelError::refused("asking for a table's size", error))?
            .max_entries() as usize;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let bytes = length * size_of::<SlotValue>();
        // SAFETY: a fresh shared mapping of a map's file descriptor, no address wished for.
        let memory = unsafe { mmap(ptr::null_mut(), bytes, flags, MapFlags::SHARED, table.fd(), 0) };
        let memory = memory.map_err(|error| {
            KernelError::refused("mapping a table into memory", std::io::Error::from(error))
        })?;
        Ok(Self {
            slots: memory.cast(),
            length,
        })
    }

    /// The slots as they are. Nobody but this daemon writes them.
    pub(super) fn read(&self) -> Vec<SlotValue> {
        // SAFETY: the mapping holds `length` slots, and any bytes are a valid one.
        (0..self.length)
            .map(|index| unsafe { self.slots.add(index).read_volatile() })
            .collect()
    }

    /// One slot; none beyond the table.
    pub(super) fn slot(&self, index: u32) -> Option<SlotValue> {
        let index = index as usize;
        // SAFETY: inside the mapping.
        (index < self.length).then(|| unsafe { self.slots.add(index).read_volatile() })
    }

    fn write(&self, slots: &[SlotValue]) {
        for (index, slot) in slots.iter().enumerate().take(self.length) {
            // SAFETY: inside the mapping.
            unsafe { self.slots.add(index).write_volatile(*slot) };
        }
    }

    /// Sets a slot's state in the running table. One store: programs see the old state or the new one.
    pub(super) fn set_state(&self, index: usize, state: u32) {
        assert!(index < self.length, "slot {index} of {}", self.length);
        // SAFETY: inside the mapping, aligned to 4, and atomics are what the programs' loads are to meet.
        let previous = unsafe { AtomicU32::from_ptr(&raw mut (*self.slots.add(index)).previous) };
        previous.store(state, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, not used after this.
        let _ = unsafe { munmap(self.slots.cast(), self.length * size_of::<SlotValue>()) };
    }
}

/// What a service's table becomes: from the slots it has, if any, to the backends it wants. One of another size, which only a
/// restart can bring, begins anew.
pub(super) fn next(
    old: Option<&[SlotValue]>,
    wanted: &[u32],
    has_states: bool,
    lives: impl Fn(u32) -> bool,
) -> Vec<SlotValue> {
    match old {
        Some(old) if has_states && old.len() == wanted.len() => slots::moved(old, wanted, lives),
        _ => wanted.iter().map(|&backend| SlotValue::plain(backend)).collect(),
    }
}
