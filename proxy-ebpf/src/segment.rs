//! The largest segment that an end of a TCP connection may send, as the other end told it (MSS, RFC 9293 section 3.7.1): lowered in the
//! handshake, so that packets fit where there is less room than the ends know of.

use crate::{
    decap,
    maps::{DECAP_ADDRESSES, SERVICE_OPTIONS},
    packet::Packet,
    parse::Headers,
    xdp,
};
use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_store_bytes},
    programs::XdpContext,
};
use proxy_common::{
    checksum::Delta,
    decap::decap_flags,
    headers::{ipv4, ipv6, protocol, tcp},
    net::Address,
};

/// Rounds that a walk over options takes at most: 40 bytes, of which the option that is looked for takes 4.
const ROUNDS: usize = 37;

/// The MSS option of a handshake's packet.
struct Found {
    /// Of its value.
    offset: usize,
    /// As it lies.
    value: u16,
}

/// The end of the list of options, and one byte of nothing.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const MSS_LENGTH: u8 = 4;

/// The offset of the MSS option's value; 0 if there is none. Offsets are cut to 16 bits for the verifier: it forgets by which options a round
/// came.
#[inline(always)]
fn option(packet: &Packet, l4: u64) -> u64 {
    let Some(size) = packet.read::<u8>(l4 as usize + 12) else {
        return 0;
    };
    let stop = l4 + u64::from(size >> 4) * 4;
    let mut at = (l4 + tcp::LENGTH as u64) & 0xffff;
    for _ in 0..ROUNDS {
        if at + u64::from(MSS_LENGTH) > stop {
            return 0;
        }
        let Some([kind, length]) = packet.read::<[u8; 2]>(at as usize) else {
            return 0;
        };
        if kind == MSS && length == MSS_LENGTH {
            return at + 2;
        }
        let length = if kind == NOTHING { 1 } else { length };
        if kind == END || length == 0 {
            return 0;
        }
        at = (at + u64::from(length)) & 0xffff;
    }
    0
}

/// [`option`] at XDP, as a global function: the verifier goes through its rounds once, and not once for each state that a caller may be in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn option_xdp(ctx: *mut xdp_md, l4: u64) -> u64 {
    option(&xdp::packet(&XdpContext::new(ctx)), l4 & 0xffff)
}

/// The same at TC.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn option_skb(skb: *mut __sk_buff, l4: u64) -> u64 {
    // SAFETY: the program's own context.
    let packet = unsafe { Packet::between(&(*skb).data, &(*skb).data_end) };
    option(&packet, l4 & 0xffff)
}

/// The option at this offset, 0 for none, if it says more than `most`.
#[inline(always)]
fn above(packet: &Packet, offset: u64, most: u16) -> Option<Found> {
    let offset = offset as usize;
    if offset == 0 {
        return None;
    }
    let value: u16 = packet.read(offset)?;
    (u16::from_be(value) > most).then_some(Found { offset, value })
}

/// Both values as a checksum adds them up: words begin at even offsets of the TCP header.
#[inline(always)]
fn words(found: &Found, l4: usize, most: u16) -> (u16, u16) {
    let (old, new) = (found.value, most.to_be());
    if (found.offset - l4) & 1 == 0 {
        (old, new)
    } else {
        (old.swap_bytes(), new.swap_bytes())
    }
}

/// What a service's connections may send at most, of a handshake's packet; 0 for as much as they like. One lookup.
#[inline(always)]
fn most_of(service: u32) -> u16 {
    SERVICE_OPTIONS
        .get(service)
        .map_or(0, |options| options.max_segment_size as u16)
}

/// Lowers it in a packet of a NAT flow with SYN, at XDP.
#[inline(never)]
pub fn lower_xdp(ctx: *mut xdp_md, headers: &Headers, service: u32) -> u32 {
    let most = most_of(service);
    let (packet, l4) = (xdp::packet(&XdpContext::new(ctx)), headers.l4());
    if most != 0
        && let Some(found) = above(&packet, option_xdp(ctx, l4 as u64), most)
        && let Some(sum) = packet.read::<u16>(l4 + tcp::CHECKSUM_OFFSET)
    {
        let (old, new) = words(&found, l4, most);
        packet.write(found.offset, most.to_be());
        packet.write(l4 + tcp::CHECKSUM_OFFSET, Delta::new().half(old, new).apply(sum));
    }
    0
}

/// The same of a packet that this host sends.
#[inline(never)]
pub fn lower_skb(skb: *mut __sk_buff, headers: &Headers, service: u32) -> u32 {
    let most = most_of(service);
    if most != 0 {
        lower(skb, headers.l4(), most);
    }
    0
}

/// By the helpers that know of checksums left to the hardware.
#[inline(always)]
fn lower(skb: *mut __sk_buff, l4: usize, most: u16) {
    // SAFETY: the program's own context.
    let packet = unsafe { Packet::between(&(*skb).data, &(*skb).data_end) };
    let Some(found) = above(&packet, option_skb(skb, l4 as u64), most) else {
        return;
    };
    let (old, new) = words(&found, l4, most);
    let value = most.to_be();
    let from = core::ptr::from_ref(&value).cast();
    let checksum = (l4 + tcp::CHECKSUM_OFFSET) as u32;
    // SAFETY: helpers on the program's own context, which check the packet's bounds; `from` points to two bytes.
    unsafe {
        bpf_l4_csum_replace(skb, checksum, u64::from(old), u64::from(new), 2);
        bpf_skb_store_bytes(skb, found.offset as u32, from, 2, 0);
    }
}

/// Lowers it in what a backend's host sends from a VIP: the answers don't pass the balancer, and what clients send is to fit into its
/// tunnel. One lookup for packets with SYN, none for others. IPv6 extension headers are not walked: handshakes have none.
#[inline(always)]
pub fn egress(skb: *mut __sk_buff) {
    // SAFETY: the program's own context.
    let packet = unsafe { Packet::between(&(*skb).data, &(*skb).data_end) };
    if let Some((l4, most)) = of_a_vip(&packet) {
        lower(skb, l4, most);
    }
}

/// Offset of the TCP header of a packet with SYN from a VIP, and what is to be sent to that at most.
#[inline(always)]
fn of_a_vip(packet: &Packet) -> Option<(usize, u16)> {
    let (l3, is_ipv4) = decap::link(packet)?;
    let (number, l4) = if is_ipv4 {
        let size = usize::from(packet.read::<u8>(l3)? & 0x0f) * 4;
        let fragment = u16::from_be(packet.read(l3 + 6)?);
        if size < ipv4::LENGTH || fragment & ipv4::FRAGMENT_MASK != 0 {
            return None;
        }
        (packet.read::<u8>(l3 + 9)?, l3 + size)
    } else {
        (packet.read::<u8>(l3 + 6)?, l3 + ipv6::LENGTH)
    };
    let flags: u8 = packet.read(l4 + tcp::FLAGS_OFFSET)?;
    if number != protocol::TCP || flags & tcp::SYN == 0 {
        return None;
    }
    let source = if is_ipv4 {
        Address::from_ipv4(packet.read(l3 + 12)?)
    } else {
        Address::from_ipv6(packet.read(l3 + 8)?)
    };
    // SAFETY: the value isn't kept beyond this expression.
    let flags = unsafe { DECAP_ADDRESSES.get(&source) }.map_or(0, |value| value.flags);
    let most = (flags >> decap_flags::MAX_SEGMENT_SHIFT) as u16;
    (most != 0).then_some((l4, most))
}
