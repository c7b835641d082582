//! The link of `sk_steer` to a network namespace, by system calls that aya doesn't offer: what a link is attached to,
//! and pointing it to another program.

use crate::kernel::{KernelError, Pins, object};
use aya::{
    Ebpf,
    programs::{Program, SkLookup, links::FdLink},
};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};
use std::{
    ffi::CString,
    fs::{self, File},
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

/// The network namespace of the calling thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Attaches the program to the thread's network namespace, or points the pinned link to it, which lets no connection
/// slip through. Returns the link's pin.
pub(in crate::kernel) fn attach(object: &mut Ebpf, pins: &Pins) -> Result<PathBuf, KernelError> {
    let path = pins.link("netns", object::SK_STEER);
    let refused = |error: &dyn std::error::Error| {
        KernelError::missing(
            format!("attaching {} to the network namespace: {error}", object::SK_STEER),
            "use a kernel with sk_lookup (5.9 or later)",
        )
    };
    let program = program(object)?;
    if let Ok(link) = open(&path) {
        let program = program.fd().map_err(|error| refused(&error))?;
        match point(link.as_fd(), program.as_fd()) {
            Ok(true) => return Ok(path),
            // Another namespace's, or one's that is gone.
            Ok(false) | Err(_) => drop(fs::remove_file(&path)),
        }
    }
    let namespace = File::open(NAMESPACE).map_err(|error| refused(&error))?;
    let id = program.attach(namespace).map_err(|error| refused(&error))?;
    let link = program.take_link(id).map_err(|error| refused(&error))?;
    let pinned = FdLink::from(link).pin(&path);
    pinned.map_err(|error| refused(&error))?;
    Ok(path)
}

fn program(object: &mut Ebpf) -> Result<&mut SkLookup, KernelError> {
    match object.program_mut(object::SK_STEER) {
        Some(Program::SkLookup(program)) => Ok(program),
        _ => Err(object::not_in_object(object::SK_STEER)),
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Points a link of this thread's namespace to a program; false for one of another namespace.
fn point(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: all-zero is a valid bpf_link_info.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_NETNS as u32 {
        return Ok(false);
    }
    // SAFETY: the member for this type of link.
    let attached_to = u64::from(unsafe { info.__bindgen_anon_1.netns.netns_ino });
    if attached_to != fs::metadata(NAMESPACE)?.ino() {
        return Ok(false);
    }
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(|_| true)
}

fn zeroed() -> bpf_attr {
    // SAFETY: all-zero is a valid bpf_attr: integers and unions of integers.
    unsafe { mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    let (command, length) = (command as libc::c_long, size_of::<bpf_attr>());
    // SAFETY: the attribute and what it points to outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr(attr), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

fn ptr(attr: &mut bpf_attr) -> *mut bpf_attr {
    attr
}
