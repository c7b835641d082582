//! What this host itself sends to a service without NAT: its own clients' packets, and health probes, which name their
//! backend by the socket's mark and otherwise go the same way as everybody's.

use crate::{
    dsr,
    encap::{self, Macs},
    events::{Backends, What, Witness},
    head::Head,
    job::Job,
    maps::{BACKENDS, NEXT_HOPS},
    next_hop,
    packet::Packet,
    parse::Headers,
    quic,
    report::{self, TC_PASS},
    route,
    words::{KeyWords, holds_ipv4, last_word, words},
};
use aya_ebpf::programs::TcContext;
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh,
    },
    helpers::generated::{bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_store_bytes},
};
use core::mem::MaybeUninit;
use proxy_common::{
    headers::{ethernet, tcp},
    net::Address,
    probe_mark,
    values::{NextHop, ServiceValue, backend_flags, mode},
    verdict::DropReason,
};

/// Sends a client's packet to its backend.
#[inline(never)]
pub fn forward(skb: *mut __sk_buff, headers: &Headers, service: &ServiceValue) -> i32 {
    let mut job = MaybeUninit::uninit();
    // SAFETY: all fields that are read are written first.
    let job: &mut Job = unsafe { &mut *job.as_mut_ptr() };
    read(skb, headers, job);
    let witness = TcContext::new(skb);
    job.heed(service, quic::of_skb(skb, service, headers));
    let sent = dsr::choose(&witness, job, service).and_then(|()| match send(skb, job) {
        action if action >= 0 => Ok(action),
        code => Err(DropReason::from_code((-1 - code) as u32)),
    });
    match sent {
        Ok(ON_ITS_WAY) => TC_PASS,
        Ok(action) => {
            report::count_client(
                service.index,
                job.index,
                job.length + ethernet::LENGTH as u32,
                job.opens,
            );
            if action == SENT_BY_STACK { TC_PASS } else { action }
        }
        Err(reason) => {
            report::count_service_drop(service.index);
            let what = What::dropped(reason, service.index);
            witness.tell(Some(job.key.key()), what, Backends::only(job.index));
            report::tc_action(Err(reason))
        }
    }
}

/// Sends a packet with a probe's mark to the backend that it names; none if there is no mark, or no such backend.
#[inline(never)]
pub fn probe(skb: *mut __sk_buff, headers: &Headers) -> i32 {
    // SAFETY: the program's own context.
    let mark = unsafe { (*skb).mark };
    let Some(index) = probe_mark::backend(mark) else {
        return NO_PROBE;
    };
    let Some(backend) = BACKENDS.get(index) else {
        return NO_PROBE;
    };
    if backend.incarnation == 0 || backend.mode == mode::NAT {
        return NO_PROBE;
    }
    let mut job = MaybeUninit::uninit();
    // SAFETY: as in `forward`.
    let job: &mut Job = unsafe { &mut *job.as_mut_ptr() };
    read(skb, headers, job);
    job.index = index;
    job.hash = index;
    job.backend = backend;
    if backend.mode != mode::DSR_L2 {
        // What comes here again is the tunnel's packet.
        // SAFETY: the program's own context, of which programs may write this field.
        unsafe { (*skb).mark = 0 };
    }
    match send(skb, job) {
        SENT_BY_STACK | ON_ITS_WAY => TC_PASS,
        action if action >= 0 => action,
        code => report::tc_action(Err(DropReason::from_code((-1 - code) as u32))),
    }
}

/// What [`probe`] says of packets that are none.
pub const NO_PROBE: i32 = -1;

/// The stack delivers it to this host.
const SENT_BY_STACK: i32 = i32::MAX;

/// It was counted when it was here first.
const ON_ITS_WAY: i32 = i32::MAX - 1;

#[inline(always)]
fn read(skb: *mut __sk_buff, headers: &Headers, job: &mut Job) {
    // SAFETY: the program's own context.
    let packet = unsafe { Packet::between(&(*skb).data, &(*skb).data_end) };
    let [first, second]: [u8; 2] = packet.read(headers.l3()).unwrap_or([0; 2]);
    job.key = KeyWords::of(&headers.key);
    job.length = u32::from(headers.ip_length());
    job.is_ipv4 = headers.is_ipv4;
    job.ttl = headers.ttl;
    job.class = if headers.is_ipv4 {
        second
    } else {
        first << 4 | second >> 4
    };
    job.tcp_flags = headers.tcp_flags;
    job.opens = tcp::opens(headers.tcp_flags);
    job.is_about = false;
}

/// A TC action; or -1 less the code of a drop reason. Its TTL stays: this host is no hop of its own packets.
#[inline(never)]
fn send(skb: *mut __sk_buff, job: &mut Job) -> i32 {
    let backend = job.backend;
    if backend.flags & backend_flags::LOCAL != 0 {
        return SENT_BY_STACK;
    }
    let Some(hop) = NEXT_HOPS.get_ptr_mut(job.index) else {
        return -1 - DropReason::NoBackend as i32;
    };
    let is_l2 = backend.mode == mode::DSR_L2;
    if let Err(reason) = next_hop::way(skb, hop, backend, is_l2) {
        return -1 - reason as i32;
    }
    // SAFETY: a map value's pointer is valid until the program returns.
    let ifindex = unsafe { (*hop).ifindex };
    if is_l2 && is_addressed(skb, hop) {
        return ON_ITS_WAY;
    }
    if is_l2 {
        return to_neighbour(ifindex, &backend.address);
    }
    if !encapsulate(skb, job) {
        return -1 - DropReason::NoHeadroom as i32;
    }
    // SAFETY: no parameters: the helper resolves the route of the outer packet itself.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Whether a frame has the backend's MAC address already: it was redirected, and passes here once more on its way out.
#[inline(always)]
fn is_addressed(skb: *mut __sk_buff, hop: *const NextHop) -> bool {
    // SAFETY: the program's own context; a map value's pointer is valid until the program returns.
    let (packet, hop, ifindex) = unsafe {
        (
            Packet::between(&(*skb).data, &(*skb).data_end),
            &*hop,
            (*skb).ifindex,
        )
    };
    let Some(head) = Head::<{ ethernet::LENGTH }>::of(&packet) else {
        return false;
    };
    const ADDRESS: u64 = (1 << 48) - 1;
    let wanted = Macs::of(hop).first();
    hop.ifindex == ifindex && (head.read_u64::<0>() ^ wanted) & ADDRESS == 0
}

/// Through the kernel's neighbour table, to this address.
#[inline(always)]
pub fn to_neighbour(ifindex: u32, address: &Address) -> i32 {
    // SAFETY: all-zero is a valid bpf_redir_neigh: integers and a union of integers.
    let mut neighbour: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    if holds_ipv4(address) {
        neighbour.nh_family = route::AF_INET.into();
        neighbour.__bindgen_anon_1.ipv4_nh = last_word(address);
    } else {
        neighbour.nh_family = route::AF_INET6.into();
        neighbour.__bindgen_anon_1.ipv6_nh = words(address);
    }
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the struct lives on the stack, the size is its.
    unsafe { bpf_redirect_neigh(ifindex, &raw mut neighbour, size, 0) as i32 }
}

/// Makes room as the kernel's own tunnels do, so that checksums and segments left to the hardware stay right, and writes the
/// outer headers there.
#[inline(never)]
fn encapsulate(skb: *mut __sk_buff, job: &Job) -> bool {
    let backend = job.backend;
    let is_ipv4 = holds_ipv4(&backend.address);
    let is_gue = backend.mode == mode::GUE;
    let bytes = encap::overhead(backend.mode, &backend.address);
    let mut flags = if is_ipv4 {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
    } else {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
    };
    if is_gue {
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
    }
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_skb_adjust_room(skb, bytes as i32, BPF_ADJ_ROOM_MAC, u64::from(flags)) } != 0 {
        return false;
    }
    let ethertype = if is_ipv4 { ethernet::IPV4 } else { ethernet::IPV6 };
    encap::for_skb(job, backend.mode, |offset, words| {
        let from = words.as_ptr().cast();
        let length = size_of_val(words) as u32;
        // SAFETY: `from` points to that many bytes; the helper checks the packet's bounds.
        unsafe { bpf_skb_store_bytes(skb, (ethernet::LENGTH + offset) as u32, from, length, 0) == 0 }
    }) && {
        let ethertype = ethertype.to_be();
        let from = core::ptr::from_ref(&ethertype).cast();
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(skb, ethernet::LENGTH as u32 - 2, from, 2, 0) == 0 }
    }
}
