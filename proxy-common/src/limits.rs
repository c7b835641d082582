//! Sizes and bounds that both planes rely on; each constant carries its reason.

/// Shape of the pinned maps. Raise it with every change of a key, a value or a map's type, and say in the daemon's
/// `kernel/migrate` how maps of the layout before are taken over. Maps of any other layout a daemon refuses, rather than misreads.
pub const LAYOUT_VERSION: u32 = 2;

/// Marks the `layout` map as ours: "WEIR" in ASCII.
pub const LAYOUT_MAGIC: u32 = 0x5745_4952;

/// Maglev slots of a service unless it says otherwise. A prime, as in section 3.4 of the Maglev
/// paper (NSDI '16), large enough that 1,000 equal endpoints differ by at most one slot in 65.
pub const MAGLEV_SIZE: u32 = 65_537;

/// Largest Maglev table a service may ask for; also the paper's larger prime.
pub const MAGLEV_SIZE_MAX: u32 = 655_373;

/// Services (VIP, port, protocol) that fit unless configured; an outer slot map entry is 8 bytes.
pub const SERVICES: u32 = 1_024;

/// Backends over all services that fit unless configured (56 bytes each, 32 for the next hop, and 48 per CPU to count).
pub const BACKENDS: u32 = 16_384;

/// NAT flows that fit unless configured. A flow takes two entries, one a direction, of about
/// 160 bytes each.
pub const FLOWS: u32 = 262_144;

/// Flows that fit into `tracked_flows` unless configured, about 120 bytes each: those that a change of backends moved the slot
/// of, and those of services with `tracking: always`.
pub const TRACKED_FLOWS: u32 = 131_072;

/// How long a next hop is used without asking the routing table again, in jiffies: 64 ms to 640 ms.
pub const NEXT_HOP_JIFFIES: u32 = 64;

/// ICMP errors of our own are counted in windows of 2^27 nanoseconds, 134 ms.
pub const ICMP_WINDOW_BITS: u32 = 27;

/// ICMP errors of our own that a CPU may send in a window: 1,000 a second, Linux's `icmp_msgs_per_sec`.
pub const ICMP_BUDGET: u16 = 134;

/// UDP port of GUE unless configured (IANA).
pub const GUE_PORT: u16 = 6_080;

/// Source ports tried for a new NAT flow before it is dropped as `port_exhausted`. Bounded for
/// the verifier; at 70 % of the ports taken one flow in 300 fails, at 90 % one in 5.
pub const PORT_PROBES: u32 = 16;

/// First and last source port for NAT unless configured: below Linux's usual ephemeral range
/// (32768 to 60999), so that the host's own connections to a backend can't collide with flows.
pub const NAT_PORTS: (u16, u16) = (1_024, 32_767);

/// VLAN tags parsed: 802.1Q inside 802.1ad.
pub const VLAN_TAGS: usize = 2;

/// IPv6 extension headers walked before a packet for a VIP is dropped.
pub const EXTENSION_HEADERS: usize = 6;

/// How coarse a flow's `last_seen` is, in nanoseconds: a flow's entry is written at most this
/// often, so that a busy flow's cache line stays clean. Idle timeouts are whole seconds.
pub const LAST_SEEN_GRAIN_NS: u64 = 500_000_000;
