//! ICMP errors of our own: a packet that is too large for its way, or has no hop left (docs/dataplane.md, "ICMP").

use crate::{
    flow,
    head::Head,
    maps::{ICMP_BUDGET, SETTINGS},
    packet::Packet,
    parse::Ipv4Header,
    xdp,
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use core::ptr;
use proxy_common::{
    checksum,
    headers::{ethernet, icmp, ipv4, ipv6, protocol},
    limits,
    verdict::DropReason,
};

/// Bytes of TCP or UDP that are quoted behind the IP header, RFC 792's minimum: ports and TCP's sequence number.
const TRANSPORT: usize = 8;
const QUOTED_IPV4: usize = ipv4::LENGTH + TRANSPORT;
const QUOTED_IPV6: usize = ipv6::LENGTH + TRANSPORT;
/// Of a packet that is too large: with them behind a fragment header, or the sender can't tell whose it is.
const QUOTED_LARGE: usize = QUOTED_IPV6 + ipv6::FRAGMENT_LENGTH;
/// Of the ICMP error's own headers.
const OUTER_IPV4: usize = ipv4::LENGTH + icmp::LENGTH;
const OUTER_IPV6: usize = ipv6::LENGTH + icmp::LENGTH;

const TTL: u8 = 64;
/// The least MTU of a link that IPv6 may be on (RFC 8200 section 5).
const IPV6_MTU: u32 = 1_280;

/// What is wrong with a packet, in one word: it takes no stack on its way.
#[derive(Clone, Copy)]
pub struct Complaint(u64);

impl Complaint {
    /// About a packet that isn't changed yet: the offset of its IP header, its family, whether its TTL or hop limit is used up
    /// rather than that it is too large, and the largest packet that would go through.
    #[inline(always)]
    pub fn new(l3: usize, is_ipv4: bool, reason: DropReason, mtu: u32) -> Self {
        let is_expired = matches!(reason, DropReason::TtlExpired);
        Self(l3 as u64 & 0xff | u64::from(is_ipv4) << 8 | u64::from(is_expired) << 9 | u64::from(mtu) << 32)
    }

    #[inline(always)]
    fn l3(self) -> usize {
        (self.0 & 0x1f) as usize
    }

    #[inline(always)]
    fn is_ipv4(self) -> bool {
        self.0 & 1 << 8 != 0
    }

    #[inline(always)]
    fn is_expired(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    #[inline(always)]
    fn mtu(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    fn quoted_ipv6(self) -> usize {
        if self.is_expired() {
            QUOTED_IPV6
        } else {
            QUOTED_LARGE
        }
    }
}

/// Whether a packet's sender hears of its drop.
#[inline(always)]
pub fn is_heard(reason: DropReason) -> bool {
    matches!(reason, DropReason::TtlExpired | DropReason::MtuExceeded)
}

/// Turns the packet into an ICMP error to its sender, from the address that it was sent to. False: it was left as it is, for
/// want of room, of the bytes to quote, or because there were enough of them in this moment. Two lookups.
#[inline(never)]
pub fn answer(ctx: *mut xdp_md, complaint: Complaint) -> bool {
    let packet = xdp::packet(&XdpContext::new(ctx));
    let l3 = complaint.l3();
    let can_quote = if complaint.is_ipv4() {
        packet
            .read::<Ipv4Header>(l3)
            .is_some_and(|header| header.has_no_options())
            && packet.at::<[u8; QUOTED_IPV4]>(l3).is_some()
    } else {
        packet.at::<[u8; QUOTED_LARGE]>(l3).is_some()
            || complaint.is_expired() && packet.at::<[u8; QUOTED_IPV6]>(l3).is_some()
    };
    if !can_quote || !is_in_budget() {
        return false;
    }
    let (outer, quoted) = if complaint.is_ipv4() {
        (OUTER_IPV4, QUOTED_IPV4)
    } else {
        (OUTER_IPV6, complaint.quoted_ipv6())
    };
    // MAC addresses, and the tags from byte 12 on: at most 8 bytes, which any frame with an IP header has.
    let Some(head) = Head::<{ ethernet::LENGTH + 8 }>::of(&packet) else {
        return false;
    };
    let link = Link {
        first: head.read_u32::<0>(),
        second: head.read_u32::<4>(),
        third: head.read_u32::<8>(),
        tags: head.read_u64::<12>(),
    };
    let frame_length = xdp::frame_length(&XdpContext::new(ctx)) as i32;
    // SAFETY: helpers on the program's own context; packet pointers are taken anew afterwards.
    unsafe {
        if bpf_xdp_adjust_head(ctx, -(outer as i32)) != 0 {
            return false;
        }
        // What is cut off is behind the quoted bytes, or padding.
        if bpf_xdp_adjust_tail(ctx, (l3 + quoted) as i32 - frame_length) != 0 {
            return false;
        }
    }
    let packet = xdp::packet(&XdpContext::new(ctx));
    if link.write(&packet, l3, complaint.is_ipv4()).is_none() {
        return false;
    }
    if complaint.is_ipv4() {
        write_ipv4(packet.start(), packet.end(), complaint)
    } else {
        write_ipv6(packet.start(), packet.end(), complaint)
    }
}

/// Fixed windows of 2^27 nanoseconds, 134 ms: what a flood of such packets makes is bounded (RFC 4443 section 2.4 (f)).
#[inline(always)]
fn is_in_budget() -> bool {
    let allowed = SETTINGS.get(0).map_or(0, |settings| settings.icmp_budget);
    let Some(budget) = ICMP_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot; a program isn't preempted by itself on a CPU.
    let budget = unsafe { &mut *budget };
    let window = flow::now() >> limits::ICMP_WINDOW_BITS;
    if budget.window != window {
        budget.window = window;
        budget.sent = 0;
    }
    budget.sent += 1;
    budget.sent <= u64::from(allowed)
}

/// A frame's MAC addresses and tags, as they lie.
struct Link {
    first: u32,
    second: u32,
    third: u32,
    tags: u64,
}

impl Link {
    /// Back to where the frame came from, tags kept.
    #[inline(always)]
    fn write(&self, packet: &Packet, l3: usize, is_ipv4: bool) -> Option<()> {
        let head = Head::<{ ethernet::LENGTH + 8 }>::of(packet)?;
        // Six bytes and six bytes, which change places.
        let source = u64::from(self.second >> 16) | u64::from(self.third) << 16;
        let destination = u64::from(self.first) | u64::from(self.second & 0xffff) << 32;
        head.write_u64::<0>(source | destination << 48);
        head.write_u32::<8>((destination >> 16) as u32);
        if l3 > ethernet::LENGTH {
            head.write_u32::<12>(self.tags as u32);
        }
        if l3 > ethernet::LENGTH + ethernet::VLAN_LENGTH {
            head.write_u32::<16>((self.tags >> 32) as u32);
        }
        let ethertype = if is_ipv4 { ethernet::IPV4 } else { ethernet::IPV6 };
        packet.write(l3 - 2, ethertype.to_be())
    }
}

/// The sum of `N` bytes, a multiple of 4, at an offset.
#[inline(always)]
fn sum<const N: usize>(packet: &Packet, at: usize) -> Option<u64> {
    let bytes = packet.at::<[u8; N]>(at)?;
    // SAFETY: `at` checked the bytes.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), N as u32, 0) };
    Some(sum as u64 & 0xffff_ffff)
}

/// Copies words.
#[inline(always)]
fn copy(packet: &Packet, from: usize, to: usize, words: usize) -> Option<()> {
    for word in 0..words {
        packet.write(to + word * 4, packet.read::<u32>(from + word * 4)?)?;
    }
    Some(())
}

/// RFC 792: destination unreachable, fragmentation needed (RFC 1191 section 4 has the MTU), or time exceeded.
#[inline(never)]
fn write_ipv4(start: usize, end: usize, complaint: Complaint) -> bool {
    let packet = Packet::new(start, end);
    let l3 = complaint.l3();
    let quoted = l3 + OUTER_IPV4;
    let write = || {
        let total = ((OUTER_IPV4 + QUOTED_IPV4) as u16).to_be_bytes();
        packet.write(l3, u32::from_ne_bytes([0x45, 0, total[0], total[1]]))?;
        packet.write(l3 + 4, 0_u32)?;
        packet.write(l3 + 8, u32::from_ne_bytes([TTL, protocol::ICMP, 0, 0]))?;
        copy(&packet, quoted + 16, l3 + 12, 1)?;
        copy(&packet, quoted + 12, l3 + 16, 1)?;
        let checksum = !checksum::fold(sum::<{ ipv4::LENGTH }>(&packet, l3)?);
        packet.write(l3 + 10, checksum)?;
        let (kind, code, rest) = if complaint.is_expired() {
            (icmp::TIME_EXCEEDED, 0, 0)
        } else {
            (
                icmp::UNREACHABLE,
                icmp::FRAGMENTATION_NEEDED,
                complaint.mtu().min(0xffff),
            )
        };
        let message = l3 + ipv4::LENGTH;
        packet.write(message, u32::from_ne_bytes([kind, code, 0, 0]))?;
        packet.write(message + 4, rest.to_be())?;
        let sum = sum::<{ icmp::LENGTH + QUOTED_IPV4 }>(&packet, message)?;
        packet.write(message + 2, !checksum::fold(sum))
    };
    write().is_some()
}

/// RFC 4443 sections 3.2 and 3.3: packet too big, or time exceeded.
#[inline(never)]
fn write_ipv6(start: usize, end: usize, complaint: Complaint) -> bool {
    let packet = Packet::new(start, end);
    let l3 = complaint.l3();
    let quoted = l3 + OUTER_IPV6;
    let write = || {
        let length = (icmp::LENGTH + complaint.quoted_ipv6()) as u32;
        packet.write(l3, u32::from_ne_bytes([0x60, 0, 0, 0]))?;
        packet.write(
            l3 + 4,
            u32::from_ne_bytes([0, length as u8, protocol::ICMPV6, TTL]),
        )?;
        copy(&packet, quoted + 24, l3 + 8, 4)?;
        copy(&packet, quoted + 8, l3 + 24, 4)?;
        let (kind, rest) = if complaint.is_expired() {
            (icmp::V6_TIME_EXCEEDED, 0)
        } else {
            (icmp::V6_TOO_BIG, complaint.mtu().max(IPV6_MTU))
        };
        let message = l3 + ipv6::LENGTH;
        packet.write(message, u32::from_ne_bytes([kind, 0, 0, 0]))?;
        packet.write(message + 4, rest.to_be())?;
        // The pseudo-header (RFC 8200 section 8.1): both addresses, the length and the next header.
        let pseudo = u64::from(length.to_be()) + u64::from(u32::from(protocol::ICMPV6).to_be());
        let covered = if complaint.is_expired() {
            sum::<{ icmp::LENGTH + QUOTED_IPV6 }>(&packet, message)?
        } else {
            sum::<{ icmp::LENGTH + QUOTED_LARGE }>(&packet, message)?
        };
        let sum = pseudo + sum::<32>(&packet, l3 + 8)? + covered;
        packet.write(message + 2, !checksum::fold(sum))
    };
    write().is_some()
}
