//! Weir's kernel programs, one BPF object: an XDP balancer, the TC programs for what XDP can't see, and the
//! steering of L7 connections.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "handed over by value, keys and values would be copied on the 512 bytes of stack"
)]

mod affinity;
mod budget;
mod complain;
mod decap;
mod dsr;
mod encap;
mod events;
mod fast;
mod flow;
mod fragments;
mod guard;
mod head;
mod icmp;
mod job;
mod maps;
mod nat;
mod next_hop;
mod packet;
mod parse;
mod quic;
mod ranges;
mod report;
mod rewrite;
mod route;
mod segment;
mod sk_steer;
mod tags;
mod tc;
mod tc_direct;
mod tracked;
mod words;
mod xdp;

use aya_ebpf::{
    bindings::{sk_action::SK_PASS, xdp_action::XDP_PASS},
    macros::{classifier, sk_lookup, xdp},
    programs::{SkLookupContext, TcContext, XdpContext},
};

/// Licence the kernel is told: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Packets as they arrive: clients' to a VIP, backends' replies, ICMP about either.
#[xdp(frags)]
pub fn xdp_balancer(ctx: XdpContext) -> u32 {
    report::xdp_action(xdp::balance(&ctx))
}

/// The same for generic XDP, where a program that takes frames in pieces is given a copy of the
/// packet whose MAC header length is lost (skb_pp_cow_data doesn't copy `mac_len`, Linux 6.9 to at
/// least 6.18), so that `tc_ingress` would not find the handover.
#[xdp]
pub fn xdp_generic(ctx: XdpContext) -> u32 {
    report::xdp_action(xdp::balance(&ctx))
}

/// Packets that reach a backend through a tunnel: the whole of the program on a host that balances nothing.
#[xdp(frags)]
pub fn xdp_decap(ctx: XdpContext) -> u32 {
    decap::deliver(ctx.ctx);
    XDP_PASS
}

/// The same for generic XDP, which copies less for a program that takes whole packets alone.
#[xdp]
pub fn xdp_decap_generic(ctx: XdpContext) -> u32 {
    decap::deliver(ctx.ctx);
    XDP_PASS
}

/// Sends what `xdp_balancer` translated but had no neighbour for.
#[classifier]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    tc::hand_over(&ctx)
}

/// Packets this host sends: replies of backends on it, and what its own clients send to a VIP.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    report::tc_action(tc::egress(&ctx))
}

/// Handshakes that a backend's host sends from a VIP. Goes before `tc_egress`, and never ends the way of a packet: TCX_NEXT.
#[classifier]
pub fn tc_segments(ctx: TcContext) -> i32 {
    segment::egress(ctx.skb.skb);
    -1
}

/// Connections to L7 addresses: which worker's socket gets them. Never drops: what it doesn't steer is the host's.
#[sk_lookup]
pub fn sk_steer(ctx: SkLookupContext) -> u32 {
    sk_steer::steer(&ctx);
    SK_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
