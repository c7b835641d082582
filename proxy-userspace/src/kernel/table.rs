//! Building a service's Maglev table as an inner map, and swapping it in.

use super::KernelError;
use aya::maps::{Array, Map, MapData};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use proxy_common::{
    maglev::{self, MaglevEndpoint},
    values::{NO_BACKEND, SlotValue},
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::{os::fd::AsFd, ptr};

/// `BPF_F_MMAPABLE` and `BPF_F_INNER_MAP` of include/uapi/linux/bpf.h: the table is written
/// through memory instead of 65,537 system calls, and may differ in size from its siblings.
const TABLE_FLAGS: u32 = (1 << 10) | (1 << 12);

/// The kernel rounds an array's elements up to 8 bytes.
const ELEMENT: usize = 8;

/// A full table for endpoints with these backend indices.
pub(super) fn build(
    endpoints: &[(MaglevEndpoint, u32)],
    size: u32,
) -> Result<Array<MapData, SlotValue>, KernelError> {
    let identities: Vec<MaglevEndpoint> = endpoints.iter().map(|(endpoint, _)| *endpoint).collect();
    let slots = maglev::build(&identities, size);
    let making = |error| KernelError::refused(format!("making a table of {size} slots"), error);
    let shape = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<SlotValue>() as u32,
        size,
        TABLE_FLAGS,
    );
    let data = MapData::create(shape, "maglev_table", None).map_err(making)?;
    let refused = |error: rustix::io::Errno| {
        KernelError::refused("mapping a table into memory", std::io::Error::from(error))
    };
    let length = size as usize * ELEMENT;
    // SAFETY: a fresh shared mapping of our own map's file descriptor, no address wished for.
    let memory = unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        mmap(
            ptr::null_mut(),
            length,
            flags,
            MapFlags::SHARED,
            data.fd().as_fd(),
            0,
        )
    }
    .map_err(refused)?;
    for (index, &slot) in slots.iter().enumerate() {
        let backend = match slot {
            NO_BACKEND => NO_BACKEND,
            endpoint => endpoints[endpoint as usize].1,
        };
        // SAFETY: the index is below `size`, so the element lies inside the mapping; nobody else
        // has the map yet.
        unsafe {
            memory
                .byte_add(index * ELEMENT)
                .cast::<SlotValue>()
                .write(SlotValue { backend })
        };
    }
    // SAFETY: the mapping made above, not used after this.
    unsafe { munmap(memory, length) }.map_err(refused)?;
    Map::Array(data).try_into().map_err(making)
}
