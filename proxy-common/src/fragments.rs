//! What both sides know of datagrams that come in fragments.

use crate::net::Address;

/// Key of `fragments`: what the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct FragmentKey {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// The sender's number for it, host order: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// IPv4: IANA protocol number, 6 or 17. IPv6: zero, since what follows the header of a later fragment needn't be said
    /// there as in the first.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FragmentKey>() == 40 && align_of::<FragmentKey>() == 4);

/// Value of `fragments`: what its first fragment said of a datagram.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct FragmentValue {
    /// Host order.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// IANA protocol number: 6 or 17.
    pub protocol: u32,
    /// When the first fragment came; the clock of [`crate::values::FlowValue::last_seen`].
    pub stamp: u64,
}

const _: () = assert!(size_of::<FragmentValue>() == 16 && align_of::<FragmentValue>() == 8);

/// Datagrams in fragments that are remembered at a time unless configured, about 120 bytes each.
pub const FRAGMENTS: u32 = 8_192;

/// How long later fragments follow the first: what Linux waits for the rest of a datagram (`net.ipv4.ipfrag_time`), between RFC
/// 791's 15 seconds and RFC 8200's 60.
pub const VALID_NS: u64 = 30_000_000_000;

/// Bit of [`crate::values::Settings::flags`]: later fragments follow the first; else all fragments are dropped.
pub const FOLLOWED: u64 = 2;
