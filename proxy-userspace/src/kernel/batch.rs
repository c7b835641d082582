//! `BPF_MAP_LOOKUP_BATCH`: reads a hash map some thousand entries a system call, which aya doesn't offer.

use aya::Pod;
use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd},
};

/// `BPF_MAP_LOOKUP_BATCH` of enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The `batch` member of union bpf_attr.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

const _: () = assert!(size_of::<BatchAttr>() == 56);

/// Calls `visit` for every entry of a hash map. Entries inserted or removed meanwhile may be
/// missed or seen.
///
/// # Errors
/// The kernel's, `EFAULT` or `EBADF` meaning a bug here.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    chunk: usize,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut chunk = chunk;
    let mut keys: Vec<MaybeUninit<K>> = Vec::new();
    let mut values: Vec<MaybeUninit<V>> = Vec::new();
    // For hash maps a batch's position is a bucket number.
    let mut position = 0u32;
    let mut started = false;
    loop {
        keys.resize_with(chunk, MaybeUninit::uninit);
        values.resize_with(chunk, MaybeUninit::uninit);
        let mut next = 0u32;
        let mut attr = BatchAttr {
            in_batch: if started { &raw const position as u64 } else { 0 },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: chunk as u32,
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: the attribute outlives the call, and its buffers hold `count` keys and values of
        // the sizes the map was opened with.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut attr,
                size_of::<BatchAttr>(),
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let is_last = match error.as_ref().and_then(io::Error::raw_os_error) {
            None => false,
            Some(libc::ENOENT) => true,
            // A bucket with more entries than a chunk has room for.
            Some(libc::ENOSPC) => {
                chunk *= 2;
                continue;
            }
            Some(_) => return Err(error.unwrap_or_else(io::Error::last_os_error)),
        };
        for (key, value) in keys.iter().zip(&values).take(attr.count as usize) {
            // SAFETY: the kernel filled `count` entries, and any bytes are a valid Pod.
            unsafe { visit(key.assume_init_ref(), value.assume_init_ref()) };
        }
        if is_last {
            return Ok(());
        }
        position = next;
        started = true;
    }
}
