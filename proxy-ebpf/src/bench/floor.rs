//! The floors: what a program costs that forwards without deciding anything.

use crate::frame::{read, write};
use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_TX},
    macros::xdp,
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

/// The new values. Read as volatile, so that the compiler can't compute with them.
struct New {
    macs: [u32; 3],
    source: u32,
    destination: u32,
    ports: u32,
}

static NEW: New = New {
    macs: [0x0200_0002, 0x0200_0000, 0x0100_0000],
    source: u32::from_be_bytes([192, 0, 2, 1]).to_be(),
    destination: u32::from_be_bytes([192, 0, 2, 101]).to_be(),
    ports: 0x1b58_5000,
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
