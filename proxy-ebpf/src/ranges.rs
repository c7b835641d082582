//! Services of several ports or addresses (docs/dataplane.md, "Ranges and prefixes").

use crate::{
    maps::{SERVICE_RANGES, SERVICES, SETTINGS, VIPS},
    words::{self, KeyWords},
};
use aya_ebpf::btf_maps::lpm_trie::Key;
use proxy_common::{
    net::Address,
    ranges::{ADDRESS_BITS, HEAD_BITS, KEY_BITS, RangeKey, RangeValue, kind, wanted},
    values::ServiceValue,
};

/// A key of `service_ranges` in words: aya's own type is packed, and LLVM would write it by bytes.
#[repr(C)]
struct Sought {
    prefix_bits: u32,
    head: u32,
    address: [u32; 4],
    last: u32,
}

const _: () = assert!(size_of::<Sought>() == size_of::<Key<RangeKey>>());

impl Sought {
    #[inline(always)]
    fn find(&self) -> Option<&'static RangeValue> {
        // SAFETY: of the same size and order, and packed needs no alignment.
        let key = unsafe { &*(&raw const *self).cast::<Key<RangeKey>>() };
        SERVICE_RANGES.get(key)
    }
}

/// Whether there are services of several ports or addresses: what a packet that `services` doesn't know may be for.
#[inline(always)]
pub fn are_there() -> bool {
    has(wanted::BY_ADDRESS | wanted::BY_PORT)
}

#[inline(always)]
fn has(bits: u64) -> bool {
    SETTINGS.get(0).is_some_and(|settings| settings.flags & bits != 0)
}

/// The service whose range a packet is in: by the longest prefix of the address, of two alike by the port alone rather than
/// a range of them. Up to two lookups, and one for the service.
#[inline(never)]
pub fn service(key: &KeyWords) -> Option<&'static ServiceValue> {
    let [_, _, _, _, a, b, c, d, ports, protocol] = *key.words();
    let port = u32::from(((ports >> 16) as u16).to_be());
    let mut sought = Sought {
        prefix_bits: KEY_BITS,
        head: u32::from(kind::BY_ADDRESS) | protocol << 8,
        address: [a, b, c, d],
        last: port,
    };
    let mut found = sought.find();
    if has(wanted::BY_PORT) {
        sought.prefix_bits = HEAD_BITS + ADDRESS_BITS;
        sought.head = u32::from(kind::BY_PORT) | protocol << 8 | port << 16;
        if let Some(by_port) = sought.find()
            && found.is_none_or(|other| by_port.address_bits >= other.address_bits)
        {
            found = Some(by_port);
        }
    }
    // SAFETY: as in `flow::service`.
    unsafe { SERVICES.get(&found?.service) }
}

/// Whether an address is a VIP. One lookup, and one where there are prefixes.
#[inline(never)]
pub fn is_vip(address: &Address) -> bool {
    // SAFETY: the value isn't kept beyond this comparison.
    if unsafe { VIPS.get(address) }.is_some() {
        return true;
    }
    let sought = Sought {
        prefix_bits: HEAD_BITS + ADDRESS_BITS,
        head: u32::from(kind::MEMBER),
        address: words::words(address),
        last: 0,
    };
    has(wanted::MEMBER) && sought.find().is_some()
}
