//! An XDP program that passes everything, for the far end of a balancer's veth.
//!
//! veth's XDP_TX wakes the receiver only if that end has an XDP program too (`veth_xdp_flush` in the
//! kernel's drivers/net/veth.c); with NAPI by GRO alone the frames lie in its ring until something
//! else arrives. Redirects do not need this, but an interface may see both. Real network cards have no
//! such condition.

use anyhow::{Context, Result};
use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `enum bpf_cmd`, linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;

const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// Without it the sender would lose its segmentation offload (`veth_xdp_set`).
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `r0 = XDP_PASS; exit`: two `struct bpf_insn`.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The start of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The start of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to an interface of the calling thread's namespace, until the
/// descriptor is closed.
pub fn attach(interface: &str) -> Result<OwnedFd> {
    let any_socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open a socket")?;
    let ifindex = rustix::net::netdevice::name_to_index(&any_socket, interface)
        .with_context(|| format!("find the interface {interface}"))?;
    let load = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        licence: c"GPL".as_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        ..ProgramLoad::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("load an XDP program")?;
    let create = LinkCreate {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach_type: BPF_XDP,
        flags: 0,
    };
    bpf(BPF_LINK_CREATE, &create).with_context(|| format!("attach an XDP program to {interface}"))
}

/// bpf(2), for commands that return a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of attributes, and what they point to: constants.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
