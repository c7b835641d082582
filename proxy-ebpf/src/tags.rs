//! VLAN tags, taken out of a frame and put back.

use crate::{encap::Macs, head::Head, xdp};
use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use proxy_common::headers::ethernet;

/// Stands for a frame whose tags can't be taken: a first tag of that type isn't one.
pub const NONE: u64 = u64::MAX;

/// Takes the tags out of the frame and returns them, as they lie.
#[inline(never)]
pub fn take(ctx: *mut xdp_md, tags: usize) -> u64 {
    let Some(head) = Head::<{ TAGGED }>::of(&xdp::packet(&XdpContext::new(ctx))) else {
        return NONE;
    };
    let (macs, kept) = (Macs::of_head(head), head.read_u64::<12>());
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(ctx, tags as i32) } != 0 {
        return NONE;
    }
    let Some(head) = Head::<{ ethernet::LENGTH }>::of(&xdp::packet(&XdpContext::new(ctx))) else {
        return NONE;
    };
    macs.write(head);
    kept
}

/// An Ethernet header and two tags at most: an IP header follows, so that these bytes are there with one tag too.
const TAGGED: usize = ethernet::LENGTH + 2 * ethernet::VLAN_LENGTH;

/// Puts tags back where they were.
#[inline(never)]
pub fn put(ctx: *mut xdp_md, tags: usize, kept: u64) -> bool {
    let Some(head) = Head::<{ ethernet::LENGTH }>::of(&xdp::packet(&XdpContext::new(ctx))) else {
        return false;
    };
    let macs = Macs::of_head(head);
    // SAFETY: as in `take`.
    if unsafe { bpf_xdp_adjust_head(ctx, -(tags as i32)) } != 0 {
        return false;
    }
    let Some(head) = Head::<{ TAGGED }>::of(&xdp::packet(&XdpContext::new(ctx))) else {
        return false;
    };
    macs.write(head);
    head.write_u32::<12>(kept as u32);
    if tags > ethernet::VLAN_LENGTH {
        head.write_u32::<16>((kept >> 32) as u32);
    }
    true
}
