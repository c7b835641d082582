//! The short way: what nearly all packets are, decided in registers; anything else takes the long way.
//!
//! Plain packets (no VLAN tag, no IP options, extension headers or fragments, TCP or UDP with sound lengths) to no
//! service, to one that forwards by direct server return, or of an open flow of NAT. The long way ([`crate::xdp`]) gives the same answers to
//! all of them: leaving this file out changes the speed alone.

use crate::{
    dsr,
    flow::{self, Ours},
    guard,
    head::Head,
    job::Job,
    maps::SERVICES,
    nat,
    packet::Packet,
    ranges,
    words::KeyWords,
};
use aya_ebpf::bindings::xdp_md;
use core::mem::MaybeUninit;
use proxy_common::{
    headers::{ethernet, ipv4, ipv6, protocol, tcp, udp},
    values::{mode, service_flags},
    verdict::{self, Verdict},
};

/// The packet takes the long way.
pub const LONG_WAY: u64 = u64::MAX;

/// Ethernet and IPv4 headers, and TCP's: frames are padded to 60 bytes, so that UDP has these too.
const IPV4_BYTES: usize = ethernet::LENGTH + ipv4::LENGTH + tcp::LENGTH;
/// The same for IPv6 and UDP.
const IPV6_BYTES: usize = ethernet::LENGTH + ipv6::LENGTH + udp::LENGTH;

const L3: usize = ethernet::LENGTH;

/// Decides about a packet: a packed verdict, or [`LONG_WAY`]. Lookups: 1 for a packet to no service (`services`; up to 3 where there are ranges); to one 6
/// more (`slots`, its table, `backends`, `next_hops`, two counters), and 1 where the slot isn't plain (`tracked_flows`).
///
/// A function of its own: its stack frame is gone before the long way begins.
#[inline(never)]
pub fn decide(ctx: *mut xdp_md) -> u64 {
    // SAFETY: the program's own context.
    let packet = unsafe { Packet::between(&(*ctx).data, &(*ctx).data_end) };
    let Some(head) = Head::<IPV4_BYTES>::of(&packet) else {
        return LONG_WAY;
    };
    const IPV4: u16 = ethernet::IPV4.to_be();
    const IPV6: u16 = ethernet::IPV6.to_be();
    if head.read_u8::<0>() & 1 != 0 {
        return LONG_WAY;
    }
    let mut job = MaybeUninit::uninit();
    // SAFETY: its fields are written before they are read.
    let job: &mut Job = unsafe { &mut *job.as_mut_ptr() };
    let is_plain = match head.read_u16::<12>() {
        IPV4 => read_ipv4(&packet, head, job),
        IPV6 => read_ipv6(&packet, job),
        _ => None,
    };
    if is_plain.is_none() {
        return LONG_WAY;
    }
    // SAFETY: as in `flow::service`.
    let service = match unsafe { SERVICES.get(&job.key.service()) } {
        None if ranges::are_there() => ranges::service(&job.key),
        found => found,
    };
    let Some(service) = service else {
        return match flow::may_be_ours(job.key.destination_port()) {
            Ours::No => verdict::pack(Ok(Verdict::Pass)),
            Ours::Reply => nat::to_client(ctx, job),
            Ours::Tunnel => LONG_WAY,
        };
    };
    if service.mode == mode::NAT {
        if service.flags & (guard::GUARDED | service_flags::QUIC) != 0 {
            return LONG_WAY;
        }
        return nat::to_backend(ctx, job);
    }
    match dsr::forward(ctx, job, service) {
        Err(reason) => dsr::drop(ctx, job, L3 as u32, service.index, reason),
        verdict => verdict::pack(verdict),
    }
}

#[inline(always)]
fn read_ipv4(packet: &Packet, head: Head<IPV4_BYTES>, job: &mut Job) -> Option<()> {
    const FRAGMENT: u16 = ipv4::FRAGMENT_MASK.to_be();
    if head.read_u8::<{ L3 }>() != 0x45 || head.read_u16::<{ L3 + 6 }>() & FRAGMENT != 0 {
        return None;
    }
    let length = u16::from_be(head.read_u16::<{ L3 + 2 }>());
    let payload = usize::from(length).wrapping_sub(ipv4::LENGTH);
    if L3 + usize::from(length) > packet.len() || payload > 0xffff {
        return None;
    }
    const PORTS: usize = L3 + ipv4::LENGTH;
    let protocol = head.read_u8::<{ L3 + 9 }>();
    job.opens = match protocol {
        protocol::TCP => {
            let header = usize::from(head.read_u8::<{ PORTS + 12 }>() >> 4) * 4;
            if header < tcp::LENGTH || header > payload {
                return None;
            }
            job.tcp_flags = head.read_u8::<{ PORTS + tcp::FLAGS_OFFSET }>();
            tcp::opens(job.tcp_flags)
        }
        protocol::UDP => {
            let stated = usize::from(u16::from_be(head.read_u16::<{ PORTS + 4 }>()));
            if stated < udp::LENGTH || stated > payload {
                return None;
            }
            job.tcp_flags = 0;
            false
        }
        _ => return None,
    };
    job.key = KeyWords::ipv4(
        head.read_u32::<{ L3 + 12 }>(),
        head.read_u32::<{ L3 + 16 }>(),
        head.read_u32::<PORTS>(),
        protocol,
    );
    job.mtu = 0;
    job.is_about = false;
    job.is_ipv4 = true;
    job.ttl = head.read_u8::<{ L3 + 8 }>();
    job.class = head.read_u8::<{ L3 + 1 }>();
    job.length = u32::from(length);
    Some(())
}

#[inline(always)]
fn read_ipv6(packet: &Packet, job: &mut Job) -> Option<()> {
    let head = Head::<IPV6_BYTES>::of(packet)?;
    let first = u32::from_be(head.read_u32::<{ L3 }>());
    let payload = usize::from(u16::from_be(head.read_u16::<{ L3 + 4 }>()));
    if first >> 28 != 6 || L3 + ipv6::LENGTH + payload > packet.len() {
        return None;
    }
    const PORTS: usize = L3 + ipv6::LENGTH;
    let protocol = head.read_u8::<{ L3 + 6 }>();
    job.opens = match protocol {
        protocol::TCP => {
            let head = Head::<{ PORTS + tcp::LENGTH }>::of(packet)?;
            let header = usize::from(head.read_u8::<{ PORTS + 12 }>() >> 4) * 4;
            if header < tcp::LENGTH || header > payload {
                return None;
            }
            job.tcp_flags = head.read_u8::<{ PORTS + tcp::FLAGS_OFFSET }>();
            tcp::opens(job.tcp_flags)
        }
        protocol::UDP => {
            let stated = usize::from(u16::from_be(head.read_u16::<{ PORTS + 4 }>()));
            if stated < udp::LENGTH || stated > payload {
                return None;
            }
            job.tcp_flags = 0;
            false
        }
        _ => return None,
    };
    job.key = KeyWords::new(
        [
            head.read_u32::<{ L3 + 8 }>(),
            head.read_u32::<{ L3 + 12 }>(),
            head.read_u32::<{ L3 + 16 }>(),
            head.read_u32::<{ L3 + 20 }>(),
        ],
        [
            head.read_u32::<{ L3 + 24 }>(),
            head.read_u32::<{ L3 + 28 }>(),
            head.read_u32::<{ L3 + 32 }>(),
            head.read_u32::<{ L3 + 36 }>(),
        ],
        head.read_u32::<PORTS>(),
        protocol,
    );
    if !job.key.is_pure_ipv6() {
        return None;
    }
    job.mtu = 0;
    job.is_about = false;
    job.is_ipv4 = false;
    job.ttl = head.read_u8::<{ L3 + 7 }>();
    job.class = (first >> 20) as u8;
    job.length = (ipv6::LENGTH + payload) as u32;
    Some(())
}
