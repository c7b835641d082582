//! The packets of the bench: one frame as a template, and a flow number that changes its source.

use aya_ebpf::{
    btf_maps::Array, helpers::generated::bpf_xdp_adjust_head, macros::btf_map, programs::XdpContext,
};
use proxy_common::checksum::Delta;

/// Bytes made afresh: Ethernet, IPv6 and TCP fit.
pub const LENGTH: usize = 80;

/// What is sent. Mirrored by `xtask/src/bench/programs.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Settings {
    /// The frame of flow 0, with valid checksums.
    pub frame: [u64; LENGTH / 8],
    /// The first flow's number.
    pub first: u32,
    /// How many flows take turns.
    pub count: u32,
    /// Where the generator sends to.
    pub ifindex: u32,
    /// Which headers the frame has: one of the constants below.
    pub shape: u32,
}

const _: () = assert!(size_of::<Settings>() == LENGTH + 16);

const UDP4: u32 = 0;
const TCP4: u32 = 1;
const UDP6: u32 = 2;
const TCP6: u32 = 3;

/// One entry. Written by the bench.
#[btf_map]
static BENCH_SETTINGS: Array<Settings, 1> = Array::new();

/// One entry: the turn of the next packet. Set to 0 by the bench, then written by the programs;
/// the bench runs them on one CPU at a time.
#[btf_map]
static BENCH_TURN: Array<u32, 1> = Array::new();

/// Flows of one source address; the number's higher bits are added to the address. A power of
/// two below the number of ports.
const FLOWS_PER_ADDRESS_BITS: u32 = 14;

/// Writes the template over the packet and turns it into the next flow's.
#[inline(always)]
pub fn make(context: &XdpContext) -> Option<&'static Settings> {
    let data = context.data();
    if data + LENGTH > context.data_end() {
        return None;
    }
    // Outer headers that the program under test put in front. Asked for of all of them, so that floors pay for it too.
    let surplus = context.data_end() - context.data() - LENGTH;
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(context.ctx, surplus as i32) } != 0 {
        return None;
    }
    let data = context.data();
    if data + LENGTH > context.data_end() {
        return None;
    }
    let settings = BENCH_SETTINGS.get(0)?;
    let turn = BENCH_TURN.get_ptr_mut(0)?;
    // SAFETY: a map element, and the bench runs the programs on one CPU at a time.
    let number = unsafe {
        let now = *turn;
        *turn = if now + 1 >= settings.count { 0 } else { now + 1 };
        settings.first.wrapping_add(now)
    };
    // SAFETY: LENGTH bytes of packet are there, checked above.
    unsafe { *(data as *mut [u64; LENGTH / 8]) = settings.frame };
    match settings.shape {
        UDP4 => vary::<26, 34, 24, 40>(data, number),
        TCP4 => vary::<26, 34, 24, 50>(data, number),
        // The last word of the address. IPv6 has no checksum of its own: 0.
        UDP6 => vary::<34, 54, 0, 60>(data, number),
        TCP6 => vary::<34, 54, 0, 70>(data, number),
        _ => return None,
    }
    Some(settings)
}

/// Adds the flow's number to the word of the source address at `ADDRESS` and the port at `PORT`,
/// and updates the checksums.
#[inline(always)]
fn vary<const ADDRESS: usize, const PORT: usize, const HEADER_SUM: usize, const SUM: usize>(
    data: usize,
    number: u32,
) {
    let (old_address, old_port) = (read::<u32>(data, ADDRESS), read::<u16>(data, PORT));
    let address = (u32::from_be(old_address).wrapping_add(number >> FLOWS_PER_ADDRESS_BITS)).to_be();
    let low = (number & ((1 << FLOWS_PER_ADDRESS_BITS) - 1)) as u16;
    let port = u16::from_be(old_port).wrapping_add(low).to_be();
    write(data, ADDRESS, address);
    write(data, PORT, port);
    let delta = Delta::new().word(old_address, address);
    if HEADER_SUM != 0 {
        write(data, HEADER_SUM, delta.apply(read(data, HEADER_SUM)));
    }
    // Right for TCP; for UDP a sum of zero, one in 65,536, goes out as "no checksum", which is
    // legal over IPv4, and is what a receiver of IPv6 would drop.
    write(data, SUM, delta.half(old_port, port).apply(read(data, SUM)));
}

/// The destination port of a UDP packet over IPv4 without options; none for anything else.
#[inline(always)]
pub fn udp4_destination_port(context: &XdpContext) -> Option<u16> {
    let data = context.data();
    if data + 42 > context.data_end() {
        return None;
    }
    let is_udp4 = read::<u16>(data, 12) == 0x0800_u16.to_be()
        && read::<u8>(data, 14) == 0x45
        && read::<u8>(data, 23) == 17;
    is_udp4.then(|| u16::from_be(read(data, 36)))
}

/// A field of the packet. Callers have checked that it's inside.
#[inline(always)]
pub fn read<T: Copy>(data: usize, at: usize) -> T {
    // SAFETY: inside the packet, as the verifier proves at load; BPF on the machines it's loaded
    // on takes unaligned loads.
    unsafe { *((data + at) as *const T) }
}

/// Writes a field of the packet. Callers have checked that it's inside.
#[inline(always)]
pub fn write<T: Copy>(data: usize, at: usize, value: T) {
    // SAFETY: as for `read`.
    unsafe { *((data + at) as *mut T) = value }
}
