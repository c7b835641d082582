//! Map commands that aya doesn't offer: many entries a system call (`BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH`), and an entry read as it is
//! removed (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`).

use aya::Pod;
use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd},
};

/// Of enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;

/// `ENOTSUPP` of include/linux/errno.h, which userspace has no name for: the map type has no batches.
const ENOTSUPP: i32 = 524;

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

/// Sets elements of a map whose keys and values are of these types, in one call where the kernel can (arrays of maps: Linux 5.17). A map of maps takes file descriptors as values.
///
/// # Errors
/// The kernel's. Elements before the one it is about are set.
pub(super) fn update<K, V>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    match call(BPF_MAP_UPDATE_BATCH, &mut attr) {
        Err(error) if matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EINVAL)) => {}
        result => return result,
    }
    for (key, value) in keys.iter().zip(values) {
        let mut attr = ElementAttr {
            map_fd: map.as_raw_fd() as u32,
            key: &raw const *key as u64,
            value: &raw const *value as u64,
            ..ElementAttr::default()
        };
        call(BPF_MAP_UPDATE_ELEM, &mut attr)?;
    }
    Ok(())
}

/// Removes an entry of a hash map and returns it as it was when it was removed; none if there was none (Linux 5.14).
///
/// # Errors
/// The kernel's.
pub(super) fn take<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const *key as u64,
        value: value.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    match call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
        // SAFETY: the kernel filled it, and any bytes are a valid Pod.
        Ok(()) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The member of union bpf_attr for `BPF_MAP_*_ELEM`.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn call<A>(command: libc::c_long, attr: &mut A) -> io::Result<()> {
    // SAFETY: the attribute outlives the call; callers' buffers are as long as it says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<A>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
