//! Services of several ports or addresses: how their ranges and prefixes lie in the trie `service_ranges`.

use crate::{keys::ServiceKey, net::Address};

/// Entries that fit: a range of ports takes up to 30, a prefix one or two. The trie allocates as it is filled, about 80 bytes each.
pub const RANGES: u32 = 65_536;

/// Bits of a [`RangeKey`] in front of the address.
pub const HEAD_BITS: u32 = 32;

/// Bits of an address; IPv4's are the last 32 of an IPv4-mapped one.
pub const ADDRESS_BITS: u32 = 128;

/// Bits of a [`RangeKey`] that count.
pub const KEY_BITS: u32 = HEAD_BITS + ADDRESS_BITS + 16;

/// What [`RangeKey::kind`] says of the rest.
pub mod kind {
    /// An address and the first bits of a port; or the first bits of an address, for all ports.
    pub const BY_ADDRESS: u8 = 0;
    /// One port, and the first bits of an address.
    pub const BY_PORT: u8 = 1;
    /// The first bits of an address that some service has: for what isn't asked by port. Protocol and port are zero.
    pub const MEMBER: u8 = 2;
}

/// Bits of [`crate::values::Settings::flags`] about ranges, so that nobody looks for what isn't there.
pub mod wanted {
    /// There are entries of [`super::kind::BY_ADDRESS`].
    pub const BY_ADDRESS: u64 = 1 << 16;
    /// There are entries of [`super::kind::BY_PORT`].
    pub const BY_PORT: u64 = 1 << 17;
    /// There are entries of [`super::kind::MEMBER`].
    pub const MEMBER: u64 = 1 << 18;
    /// All of them.
    pub const ALL: u64 = BY_ADDRESS | BY_PORT | MEMBER;
}

/// Key of `service_ranges` behind the prefix length.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct RangeKey {
    /// [`kind`].
    pub kind: u8,
    /// IANA protocol number: 6 or 17.
    pub protocol: u8,
    /// [`kind::BY_PORT`]: the port, network order. Else zero.
    pub port: [u8; 2],
    /// The VIP.
    pub address: Address,
    /// [`kind::BY_ADDRESS`]: the port, network order, as a prefix needs it. Else zero.
    pub last: [u8; 2],
    /// Zero, beyond every prefix.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<RangeKey>() == 24 && align_of::<RangeKey>() == 4);

/// Value of `service_ranges`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct RangeValue {
    /// The service, by its first address and port: its key in `services`.
    pub service: ServiceKey,
    /// How many bits of the address its prefix has: of two matches the longer one wins, then [`kind::BY_PORT`].
    pub address_bits: u32,
}

const _: () = assert!(size_of::<RangeValue>() == 24 && align_of::<RangeValue>() == 4);
