//! Affinity: a source's new flows go to the backend of its last one, for a time.

/// Value of `service_options`: what is looked at only when a flow is opened.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServiceOptions {
    /// How long after a source opened a flow its next one goes to the same backend, in nanoseconds.
    pub affinity_ns: u64,
    /// What of an IPv4 source counts for that, as it lies in memory.
    pub ipv4_mask: u32,
    /// What either end of its connections may send in a TCP segment at most, with NAT; 0 for as much as the ends agree on.
    pub max_segment_size: u32,
    /// The same of an IPv6 source.
    pub ipv6_mask: [u32; 4],
}

const _: () = assert!(size_of::<ServiceOptions>() == 32 && align_of::<ServiceOptions>() == 8);

/// Value of `affinities`; its key is a [`crate::guard::SourceKey`] with the masked source.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct Affinity {
    /// Index of the backend that the last flow was opened to.
    pub backend: u32,
    /// [`crate::values::BackendValue::incarnation`] then.
    pub incarnation: u32,
    /// When, on the clock of [`crate::values::FlowValue::last_seen`].
    pub opened: u64,
}

const _: () = assert!(size_of::<Affinity>() == 16 && align_of::<Affinity>() == 8);

/// Sources that are remembered unless configured, over all services; about 130 bytes each. The least recently used one makes room.
pub const SOURCES: u32 = 65_536;
