//! Pinned links by system calls that aya doesn't offer: what a link is attached to, and pointing it to another program
//! without taking hold of it.

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};
use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// What a link is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// An interface by its index; 0 once that is gone.
    Interface(u32),
    /// A network namespace by its inode; 0 once that is gone.
    Namespace(u64),
    /// Something else.
    Other,
}

/// A pinned link.
pub(super) struct Link {
    fd: OwnedFd,
    /// Where its program runs.
    pub(super) target: Target,
    /// The kernel's id of its program.
    pub(super) program: u32,
}

impl Link {
    /// Opens a pinned one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = zeroed();
        attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
        let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
        // SAFETY: the kernel made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let info = info(fd.as_fd())?;
        let (xdp, tcx, namespace) = (
            bpf_link_type::BPF_LINK_TYPE_XDP as u32,
            bpf_link_type::BPF_LINK_TYPE_TCX as u32,
            bpf_link_type::BPF_LINK_TYPE_NETNS as u32,
        );
        // SAFETY: of each type of link its own member is read.
        let target = unsafe {
            match info.type_ {
                it if it == xdp => Target::Interface(info.__bindgen_anon_1.xdp.ifindex),
                it if it == tcx => Target::Interface(info.__bindgen_anon_1.tcx.ifindex),
                it if it == namespace => Target::Namespace(info.__bindgen_anon_1.netns.netns_ino.into()),
                _ => Target::Other,
            }
        };
        Ok(Self {
            fd,
            target,
            program: info.prog_id,
        })
    }

    /// Points it to another program, which lets no packet slip through.
    pub(super) fn point_to(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attr = zeroed();
        attr.link_update.link_fd = self.fd.as_raw_fd() as u32;
        attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
        call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
    }
}

fn info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: all-zero is a valid bpf_link_info.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
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
