//! Programs that `cargo xtask bench` measures with: a stage that makes each packet afresh, floors
//! to compare with, a generator and a receiver. None of them is part of the daemon.
#![no_std]
#![no_main]

mod bare;
mod floor;
mod frame;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    btf_maps::{Array, PerCpuArray, ProgramArray},
    helpers::bpf_redirect,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// The program under test, in slot 0. Written by the bench before each series.
#[btf_map]
static BENCH_SUBJECT: ProgramArray<1> = ProgramArray::new();

/// Packets that reached the receiver: 0 as a backend should see them, 1 otherwise. Read by the
/// bench, summed over CPUs.
#[btf_map]
static BENCH_RECEIVED: PerCpuArray<u64, 2> = PerCpuArray::new();

/// One settings entry for the receiver: the UDP port of translated packets. Written by the bench.
#[btf_map]
static BENCH_PORT: Array<u32, 1> = Array::new();

/// Makes the packet afresh, which the kernel doesn't do between the repeats of a test run, and
/// goes on as the program under test.
#[xdp(frags)]
pub fn bench_stage(context: XdpContext) -> u32 {
    if frame::make(&context).is_some() {
        // SAFETY: the slot holds a program of this type or nothing, and then the call returns.
        unsafe { BENCH_SUBJECT.tail_call(&context, 0) };
    }
    XDP_ABORTED
}

/// Makes the packet afresh and sends it out of the interface of the settings: run with live
/// frames, this is a packet generator.
#[xdp(frags)]
pub fn bench_generate(context: XdpContext) -> u32 {
    match frame::make(&context) {
        // SAFETY: a helper without preconditions.
        Some(settings) => unsafe { bpf_redirect(settings.ifindex, 0) as u32 },
        None => XDP_ABORTED,
    }
}

/// Counts and drops.
#[xdp(frags)]
pub fn bench_receive(context: XdpContext) -> u32 {
    let Some(port) = BENCH_PORT.get(0) else {
        return XDP_ABORTED;
    };
    let index = match frame::udp4_destination_port(&context) {
        Some(found) if u32::from(found) == *port => 0,
        Some(_) => 1,
        None => return XDP_PASS,
    };
    if let Some(count) = BENCH_RECEIVED.get_ptr_mut(index) {
        // SAFETY: a per-CPU element, and the program isn't interrupted by itself.
        unsafe { *count += 1 };
    }
    XDP_DROP
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
