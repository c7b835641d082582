//! Outer headers: IP in IP and GUE.

use crate::{
    head::Head,
    job::Job,
    packet::Packet,
    route,
    words::{holds_ipv4, words},
    xdp,
};
use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, xdp_md},
    helpers::generated::bpf_xdp_adjust_head,
    programs::XdpContext,
};
use proxy_common::{
    checksum,
    headers::{ethernet, ipv4, ipv6, protocol, udp},
    net::Address,
    values::{NextHop, mode},
    verdict::DropReason,
};

/// Both MAC addresses of a frame, as they lie.
#[derive(Clone, Copy)]
pub struct Macs(u64, u32);

impl Macs {
    /// Those of a way that is known.
    #[inline(always)]
    pub fn of(hop: &NextHop) -> Self {
        let pointer = hop.macs.as_ptr();
        // SAFETY: twelve bytes at the start of a map's value, which is aligned to 8.
        unsafe { Self(pointer.cast::<u64>().read(), pointer.add(8).cast::<u32>().read()) }
    }

    /// Those of the routing table's answer.
    #[inline(always)]
    pub fn of_fib(fib: &FibLookup) -> Self {
        let mut macs = [0u64; 2];
        // SAFETY: twelve of sixteen bytes, with nothing else borrowed from them.
        route::write_macs(fib, unsafe { &mut *macs.as_mut_ptr().cast::<[u8; 12]>() });
        Self(macs[0], macs[1] as u32)
    }

    /// The first eight bytes: the destination, and two of the source.
    #[inline(always)]
    pub fn first(self) -> u64 {
        self.0
    }

    /// Those that a frame has.
    #[inline(always)]
    pub fn of_head<const N: usize>(head: Head<N>) -> Self {
        Self(head.read_u64::<0>(), head.read_u32::<8>())
    }

    /// Writes them.
    #[inline(always)]
    pub fn write<const N: usize>(self, head: Head<N>) {
        head.write_u64::<0>(self.0);
        head.write_u32::<8>(self.1);
    }
}

const TTL: u8 = 64;
const UDP: usize = udp::LENGTH;

/// Bytes that a mode puts in front of the IP packet.
#[inline(always)]
pub fn overhead(mode: u16, backend: &Address) -> u32 {
    let network = if holds_ipv4(backend) {
        ipv4::LENGTH
    } else {
        ipv6::LENGTH
    };
    match mode {
        mode::IPIP => network as u32,
        mode::GUE => (network + UDP) as u32,
        _ => 0,
    }
}

/// One hop less for the client's packet: in the tunnel's mouth too (RFC 2003 section 3.1), or packets would go round for
/// ever between two nodes that take each other for a backend.
#[inline(always)]
pub fn lower_ttl(job: &Job, packet: &Packet) -> Option<()> {
    if job.is_ipv4 {
        let head = Head::<{ ethernet::LENGTH + ipv4::LENGTH }>::of(packet)?;
        let sum = head.read_u16::<{ ethernet::LENGTH + 10 }>();
        head.write_u8::<{ ethernet::LENGTH + 8 }>(job.ttl.wrapping_sub(1));
        head.write_u16::<{ ethernet::LENGTH + 10 }>(checksum::of_lower_ttl(sum));
    } else {
        let head = Head::<{ ethernet::LENGTH + ipv6::LENGTH }>::of(packet)?;
        head.write_u8::<{ ethernet::LENGTH + 7 }>(job.ttl.wrapping_sub(1));
    }
    Some(())
}

/// What stands in the outer headers.
struct Outer {
    source: [u32; 4],
    destination: [u32; 4],
    /// Bytes of the inner packet.
    length: u32,
    hash: u32,
    inner: u8,
    class: u8,
    gue_port: u16,
}

/// Puts the outer headers in front of an untagged frame's packet.
///
/// DSCP and ECN are those of the inner packet (RFC 6040 section 4.1); IPv4 may not be fragmented; the low bits of the
/// source, and GUE's source port, follow the flow, so that receivers spread flows over their queues.
///
/// # Errors
/// There is no room for them.
#[inline(always)]
pub fn encapsulate(ctx: *mut xdp_md, job: &Job, mode: u16) -> Result<(), DropReason> {
    let is_done = if holds_ipv4(&job.backend.address) && mode == mode::IPIP {
        ipip_ipv4(ctx, job.macs, &Outer::new(job))
    } else {
        encapsulate_frame(ctx, job, mode)
    };
    if is_done {
        Ok(())
    } else {
        Err(DropReason::NoHeadroom)
    }
}

/// The other combinations, with a stack frame of their own.
#[inline(never)]
fn encapsulate_frame(ctx: *mut xdp_md, job: &Job, mode: u16) -> bool {
    let outer = Outer::new(job);
    match (holds_ipv4(&job.backend.address), mode == mode::GUE) {
        (true, false) => ipip_ipv4(ctx, job.macs, &outer),
        (true, true) => gue_ipv4(ctx, job.macs, &outer),
        (false, false) => ipip_ipv6(ctx, job.macs, &outer),
        (false, true) => gue_ipv6(ctx, job.macs, &outer),
    }
}

/// The outer headers for a socket buffer, part by part: `write` puts words at an offset from the outer IP header. False if it
/// says so.
#[inline(always)]
pub fn for_skb(job: &Job, mode: u16, write: impl Fn(usize, &[u32]) -> bool) -> bool {
    let outer = Outer::new(job);
    let is_gue = mode == mode::GUE;
    let more = if is_gue { UDP as u32 } else { 0 };
    let protocol = if is_gue { protocol::UDP } else { outer.inner };
    let network = if holds_ipv4(&job.backend.address) {
        let mut words = outer.ipv4(protocol, more);
        let sum = words.iter().fold(0, |sum, word| sum + u64::from(*word));
        let [a, b, ..] = words[2].to_ne_bytes();
        let [c, d] = (!checksum::fold_words(sum)).to_ne_bytes();
        words[2] = u32::from_ne_bytes([a, b, c, d]);
        if !write(0, &words) {
            return false;
        }
        ipv4::LENGTH
    } else {
        let [first, second] = outer.ipv6(protocol, more);
        if !(write(0, &[first, second]) && write(8, &outer.source) && write(24, &outer.destination)) {
            return false;
        }
        ipv6::LENGTH
    };
    !is_gue || write(network, &outer.udp())
}

impl Outer {
    #[inline(always)]
    fn new(job: &Job) -> Self {
        let [a, b, c, last] = words(&job.backend.source);
        let varied = u32::from_be(last) ^ (job.hash & job.backend.source_bits);
        Self {
            source: [a, b, c, varied.to_be()],
            destination: words(&job.backend.address),
            length: job.length,
            hash: job.hash,
            inner: if job.is_ipv4 {
                protocol::IPIP
            } else {
                protocol::IPV6
            },
            class: job.class,
            gue_port: job.backend.gue_port,
        }
    }

    /// RFC 791: TTL 64, don't fragment; without its checksum.
    #[inline(always)]
    fn ipv4(&self, protocol: u8, more: u32) -> [u32; 5] {
        let [_, _, high, low] = (self.length + more + ipv4::LENGTH as u32).to_be_bytes();
        [
            u32::from_ne_bytes([0x45, self.class, high, low]),
            u32::from_ne_bytes([0, 0, 0x40, 0]),
            u32::from_ne_bytes([TTL, protocol, 0, 0]),
            self.source[3],
            self.destination[3],
        ]
    }

    /// RFC 8200 in front of the addresses: hop limit 64; the flow label is 20 bits of the hash (RFC 6438).
    #[inline(always)]
    fn ipv6(&self, next_header: u8, more: u32) -> [u32; 2] {
        let first = 6 << 28 | u32::from(self.class) << 20 | self.hash & 0xf_ffff;
        let [_, _, high, low] = (self.length + more).to_be_bytes();
        [first.to_be(), u32::from_ne_bytes([high, low, next_header, TTL])]
    }

    /// The source port is of the dynamic ones (RFC 6335), and follows the flow. No checksum: the inner packet has its own
    /// (RFC 6935 allows that for tunnels over IPv6).
    #[inline(always)]
    fn udp(&self) -> [u32; 2] {
        let [a, b] = ((0xc000 | self.hash & 0x3fff) as u16).to_be_bytes();
        let [c, d] = self.gue_port.to_be_bytes();
        let [_, _, high, low] = (self.length + UDP as u32).to_be_bytes();
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([high, low, 0, 0]),
        ]
    }
}

/// Makes room; the frame's first `N` bytes.
#[inline(always)]
fn grow<const N: usize>(ctx: *mut xdp_md) -> Option<Head<N>> {
    let bytes = N - ethernet::LENGTH;
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(ctx, -(bytes as i32)) } != 0 {
        return None;
    }
    Head::of(&xdp::packet(&XdpContext::new(ctx)))
}

const IPIP_IPV4: usize = ethernet::LENGTH + ipv4::LENGTH;
const IPIP_IPV6: usize = ethernet::LENGTH + ipv6::LENGTH;

#[inline(always)]
fn ipip_ipv4(ctx: *mut xdp_md, macs: Macs, outer: &Outer) -> bool {
    let Some(head) = grow::<IPIP_IPV4>(ctx) else {
        return false;
    };
    write_ipv4(head, macs, outer, outer.inner, 0);
    true
}

#[inline(always)]
fn gue_ipv4(ctx: *mut xdp_md, macs: Macs, outer: &Outer) -> bool {
    let Some(head) = grow::<{ IPIP_IPV4 + UDP }>(ctx) else {
        return false;
    };
    write_ipv4(head, macs, outer, protocol::UDP, UDP as u32);
    let [first, second] = outer.udp();
    head.write_u32::<IPIP_IPV4>(first);
    head.write_u32::<{ IPIP_IPV4 + 4 }>(second);
    true
}

#[inline(always)]
fn ipip_ipv6(ctx: *mut xdp_md, macs: Macs, outer: &Outer) -> bool {
    let Some(head) = grow::<IPIP_IPV6>(ctx) else {
        return false;
    };
    write_ipv6(head, macs, outer, outer.inner, 0);
    true
}

#[inline(always)]
fn gue_ipv6(ctx: *mut xdp_md, macs: Macs, outer: &Outer) -> bool {
    let Some(head) = grow::<{ IPIP_IPV6 + UDP }>(ctx) else {
        return false;
    };
    write_ipv6(head, macs, outer, protocol::UDP, UDP as u32);
    let [first, second] = outer.udp();
    head.write_u32::<IPIP_IPV6>(first);
    head.write_u32::<{ IPIP_IPV6 + 4 }>(second);
    true
}

const L3: usize = ethernet::LENGTH;

#[inline(always)]
fn write_ipv4<const N: usize>(head: Head<N>, macs: Macs, outer: &Outer, protocol: u8, more: u32) {
    macs.write(head);
    head.write_u16::<12>(ethernet::IPV4.to_be());
    let [first, second, third, source, destination] = outer.ipv4(protocol, more);
    let sum =
        u64::from(first) + u64::from(second) + u64::from(third) + u64::from(source) + u64::from(destination);
    head.write_u32::<{ L3 }>(first);
    head.write_u32::<{ L3 + 4 }>(second);
    head.write_u32::<{ L3 + 8 }>(third);
    head.write_u16::<{ L3 + 10 }>(!checksum::fold_words(sum));
    head.write_u32::<{ L3 + 12 }>(source);
    head.write_u32::<{ L3 + 16 }>(destination);
}

#[inline(always)]
fn write_ipv6<const N: usize>(head: Head<N>, macs: Macs, outer: &Outer, next_header: u8, more: u32) {
    macs.write(head);
    head.write_u16::<12>(ethernet::IPV6.to_be());
    let [first, second] = outer.ipv6(next_header, more);
    head.write_u32::<{ L3 }>(first);
    head.write_u32::<{ L3 + 4 }>(second);
    let [a, b, c, d] = outer.source;
    head.write_u32::<{ L3 + 8 }>(a);
    head.write_u32::<{ L3 + 12 }>(b);
    head.write_u32::<{ L3 + 16 }>(c);
    head.write_u32::<{ L3 + 20 }>(d);
    let [a, b, c, d] = outer.destination;
    head.write_u32::<{ L3 + 24 }>(a);
    head.write_u32::<{ L3 + 28 }>(b);
    head.write_u32::<{ L3 + 32 }>(c);
    head.write_u32::<{ L3 + 36 }>(d);
}
