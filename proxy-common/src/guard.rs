//! Rules about sources and limits of their rates, as the maps hold them.

/// Key of a trie of rules: a source, IPv4 as IPv4-mapped.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct RuleKey {
    /// Network order.
    pub address: [u8; 16],
}

/// Value of a trie of rules.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct RuleValue {
    /// [`action`].
    pub action: u32,
}

/// What a rule does.
pub mod action {
    /// Dropped as `denied`.
    pub const DENY: u32 = 0;
    /// Goes on.
    pub const ALLOW: u32 = 1;
}

/// Rules of a service at most.
pub const RULES: u32 = 131_072;

/// Value of `service_limits`: what every source may send to the service. A limit that isn't set is not looked at.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServiceLimits {
    /// Packets a second.
    pub packet_rate: u32,
    /// Packets at once.
    pub packet_burst: u32,
    /// Opened connections a second.
    pub connection_rate: u32,
    /// Connections at once.
    pub connection_burst: u32,
}

const _: () = assert!(size_of::<ServiceLimits>() == 16);

/// Key of `source_rates` and `affinities`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct SourceKey {
    /// Index of the service.
    pub service: u32,
    /// Words of the source in memory order, IPv4 as IPv4-mapped. In `source_rates` of an IPv6 one the first 64 bits alone; in
    /// `affinities` what the service's masks leave.
    pub network: [u32; 4],
}

const _: () = assert!(size_of::<SourceKey>() == 20);

/// Value of `source_rates`: two token buckets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct SourceRate {
    /// Packets that may come now.
    pub packets: u32,
    /// Connections that may.
    pub connections: u32,
    /// When `packets` was counted: as `FlowValue::last_seen`.
    pub packets_at: u64,
    /// When `connections` was.
    pub connections_at: u64,
    /// Packets over the limit.
    pub packets_dropped: u64,
    /// Connections over the limit.
    pub connections_dropped: u64,
}

const _: () = assert!(size_of::<SourceRate>() == 40 && align_of::<SourceRate>() == 8);

/// Sources that are remembered at a time, over all services; the least recently used one makes room.
pub const SOURCES: u32 = 65_536;
