//! Fragments: the first one of a datagram has the ports, and the others follow it (docs/dataplane.md, "Fragments").

use crate::{
    flow,
    maps::{FRAGMENTS, SETTINGS},
    parse::Headers,
    ranges,
    words::KeyWords,
};
use aya_ebpf::bindings::BPF_ANY;
use core::mem::transmute;
use proxy_common::fragments::{FOLLOWED, FragmentKey, FragmentValue, VALID_NS};

/// Whether later fragments may follow the first.
#[inline(always)]
pub fn are_followed() -> bool {
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.flags & FOLLOWED != 0)
}

/// Remembers the ports of a datagram by its first fragment, if that is a service's (`is_service`), for a VIP all the same, or a
/// reply. An insert, and up to two lookups before it.
#[inline(never)]
pub fn remember(headers: &Headers, is_service: bool) -> u32 {
    let is_ours =
        is_service || ranges::is_vip(&headers.key.destination) || flow::reply(&headers.key).is_some();
    if !is_ours {
        return 0;
    }
    let value = FragmentValue {
        source_port: headers.key.source_port,
        destination_port: headers.key.destination_port,
        protocol: u32::from(headers.key.protocol),
        stamp: flow::now(),
    };
    // An error means that another CPU was faster, or has the node that was to make room: the later ones are dropped then.
    let _ = FRAGMENTS.insert(&key(headers), &value, u64::from(BPF_ANY));
    1
}

/// Completes the key of a later fragment. False: its datagram isn't known. One lookup.
#[inline(never)]
pub fn complete(headers: &mut Headers) -> bool {
    // SAFETY: read at once; a value that is replaced meanwhile is another datagram's with the same identification.
    let Some(value) = (unsafe { FRAGMENTS.get(&key(headers)) }) else {
        return false;
    };
    if flow::now().wrapping_sub(value.stamp) > VALID_NS {
        return false;
    }
    headers.key.source_port = value.source_port;
    headers.key.destination_port = value.destination_port;
    headers.key.protocol = value.protocol as u8;
    true
}

#[inline(always)]
fn key(headers: &Headers) -> FragmentKey {
    let [a, b, c, d, e, f, g, h, _, protocol] = *KeyWords::of(&headers.key).words();
    let protocol = if headers.is_ipv4 { protocol } else { 0 };
    let [low, high] = headers.identification.map(u16::from_be);
    let identification = u32::from(high) << 16 | u32::from(low);
    let words = [a, b, c, d, e, f, g, h, identification, protocol];
    // SAFETY: 40 bytes: both addresses, the identification, the protocol.
    unsafe { transmute::<[u32; 10], FragmentKey>(words) }
}
