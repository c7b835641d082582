//! The floors: what a program costs that forwards without deciding anything.

use crate::frame::{read, write};
use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_TX},
    btf_maps::Array,
    helpers::bpf_redirect,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use proxy_common::checksum::Delta;

/// Sends the packet back as it is.
#[xdp(frags)]
pub fn bench_floor_tx(_context: XdpContext) -> u32 {
    XDP_TX
}

/// What the balancer does to a packet, with fixed new values: both MACs, both addresses, both
/// ports, TTL, checksums. No lookups, and only the checks the verifier asks for.
#[xdp(frags)]
pub fn bench_floor_rewrite(context: XdpContext) -> u32 {
    rewrite(&context).unwrap_or(XDP_ABORTED)
}

/// Where [`bench_floor_forward`] sends to: an interface's index. Written by the bench.
#[btf_map]
static BENCH_LEAVE: Array<u32, 1> = Array::new();

/// The same, but out of another interface: forwarding over veth with no decisions.
#[xdp(frags)]
pub fn bench_floor_forward(context: XdpContext) -> u32 {
    match (rewrite(&context), BENCH_LEAVE.get(0)) {
        // SAFETY: a helper without preconditions.
        (Some(_), Some(ifindex)) => unsafe { bpf_redirect(*ifindex, 0) as u32 },
        _ => XDP_ABORTED,
    }
}

/// The new values. Read as volatile, so that the compiler can't compute with them.
struct New {
    macs: [u32; 3],
    source: u32,
    destination: u32,
    ports: u32,
}

static NEW: New = New {
    // To 02:00:00:00:00:01 from 02:00:00:00:00:02.
    macs: [2, 0x0002_0100, 0x0200_0000],
    source: u32::from_ne_bytes([203, 0, 113, 1]),
    destination: u32::from_ne_bytes([203, 0, 113, 100]),
    // 20,480 and the backends' 7,000.
    ports: u32::from_ne_bytes([0x50, 0x00, 0x1b, 0x58]),
};

#[inline(always)]
fn new<T: Copy>(field: &T) -> T {
    // SAFETY: a reference.
    unsafe { core::ptr::read_volatile(field) }
}

#[inline(always)]
fn rewrite(context: &XdpContext) -> Option<u32> {
    let data = context.data();
    if data + 54 > context.data_end() {
        return None;
    }
    let sum_at = match (read::<u16>(data, 12), read::<u8>(data, 14), read::<u8>(data, 23)) {
        (ETHERTYPE_IPV4, 0x45, 17) => 40,
        (ETHERTYPE_IPV4, 0x45, 6) => 50,
        _ => return None,
    };
    for (at, word) in [
        (0, new(&NEW.macs[0])),
        (4, new(&NEW.macs[1])),
        (8, new(&NEW.macs[2])),
    ] {
        write(data, at, word);
    }
    let (source, destination, ports) = (new(&NEW.source), new(&NEW.destination), new(&NEW.ports));
    // TTL comes first, so it is the low byte of its word as read on a little-endian machine.
    let (old_ttl, ttl) = (read::<u16>(data, 22), read::<u16>(data, 22).wrapping_sub(1_u16));
    let addresses = Delta::new()
        .word(read(data, 26), source)
        .word(read(data, 30), destination);
    let transport = addresses.word(read(data, 34), ports);
    write(data, 26, source);
    write(data, 30, destination);
    write(data, 34, ports);
    write(data, 22, ttl);
    write(data, 24, addresses.half(old_ttl, ttl).apply(read(data, 24)));
    if sum_at == 40 {
        let old = read::<u16>(data, 40);
        if old != 0 {
            write(data, 40, transport.apply_udp(old));
        }
    } else {
        write(data, 50, transport.apply(read(data, 50)));
    }
    Some(XDP_TX)
}

/// As read from memory.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
