//! Values of the BPF maps, with their layout asserted. Field names are what `bpftool` prints.

use crate::{keys::FlowKey, net::Address};

/// A slot or a flow without a backend.
pub const NO_BACKEND: u32 = u32::MAX;

/// The port of a backend that gets packets with the port they were sent to.
pub const SAME_PORT: u16 = 0;

/// Value of `services`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServiceValue {
    /// Index into `slots` and `service_counters`, fixed while the service lives.
    pub index: u32,
    /// Slots in its Maglev table.
    pub table_size: u32,
    /// Forwarding mode, [`mode`].
    pub mode: u16,
    /// UDP port that GUE packets are sent to, host order.
    pub gue_port: u16,
    /// [`service_flags`].
    pub flags: u32,
}

const _: () = assert!(size_of::<ServiceValue>() == 16);

/// Bits of [`ServiceValue::flags`].
pub mod service_flags {
    /// The slot follows from the source address alone: all flows of a client, to one backend.
    pub const HASH_SOURCE: u32 = 1;
    /// The slot follows from the source and destination address.
    pub const HASH_ADDRESSES: u32 = 2;
    /// Every flow is stored, not only those of slots that moved.
    pub const TRACK_ALWAYS: u32 = 4;
    /// No flow is stored: every packet follows its slot.
    pub const TRACK_NEVER: u32 = 8;
    /// Sources are held against the service's rules; who has none may send.
    pub const RULES: u32 = 16;
    /// The same, but who has no rule may not.
    pub const RULES_ALLOW: u32 = 32;
    /// Packets of a source are limited.
    pub const PACKET_LIMIT: u32 = 64;
    /// Connections that a source opens are limited.
    pub const CONNECTION_LIMIT: u32 = 128;
    /// A source's new flows go to the backend of its last one, for a time. Without NAT only together with TRACK_ALWAYS.
    pub const AFFINITY: u32 = 256;
    /// A datagram's QUIC connection ID may name its backend; [`crate::quic::flags`] say how it is read.
    pub const QUIC: u32 = 512;
}

/// Forwarding modes of a service.
pub mod mode {
    /// Full NAT: both addresses and both ports are translated.
    pub const NAT: u16 = 0;
    /// Direct server return on one link: the MAC addresses alone are changed.
    pub const DSR_L2: u16 = 1;
    /// Direct server return through IP in IP (RFC 2003, RFC 2473, RFC 4213).
    pub const IPIP: u16 = 2;
    /// Direct server return through Generic UDP Encapsulation, variant 1: IP right behind the UDP header
    /// (draft-ietf-intarea-gue-09 section 4).
    pub const GUE: u16 = 3;
}

/// Value of `vips`: an address with at least one service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct VipValue {
    /// Services on this address.
    pub services: u32,
}

/// Element of a service's Maglev table. An array's elements take 8 bytes whatever their size.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct SlotValue {
    /// Index into `backends`, or [`NO_BACKEND`].
    pub backend: u32,
    /// The slot's state: [`slot_state::PLAIN`], [`slot_state::TRACKED`], or while it is moving the backend that flows
    /// without an entry belong to.
    pub previous: u32,
}

const _: () = assert!(size_of::<SlotValue>() == 8);

impl SlotValue {
    /// A slot that nothing is to be remembered of.
    #[inline(always)]
    pub const fn plain(backend: u32) -> Self {
        Self {
            backend,
            previous: slot_state::PLAIN,
        }
    }

    /// The backend that flows without an entry belong to, if the slot is moving.
    #[inline(always)]
    pub const fn moving_from(&self) -> Option<u32> {
        match self.previous {
            slot_state::PLAIN | slot_state::TRACKED => None,
            previous => Some(previous),
        }
    }
}

/// Values of [`SlotValue::previous`] that are no backend's index.
pub mod slot_state {
    /// Every packet follows the slot.
    pub const PLAIN: u32 = u32::MAX;
    /// An entry in `tracked_flows` wins; without one a packet follows the slot.
    pub const TRACKED: u32 = u32::MAX - 1;
}

/// Value of `backends`: one endpoint of one service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct BackendValue {
    /// Where its packets go.
    pub address: Address,
    /// Source address that NAT gives packets to it; the client's or the VIP's where
    /// [`backend_flags::LOCAL`] is set. With tunnels the outer source, before its low bits are varied.
    pub source: Address,
    /// Host order, or [`SAME_PORT`].
    pub port: u16,
    /// [`backend_flags`].
    pub flags: u16,
    /// Index of its service.
    pub service: u32,
    /// Counts the uses of this index: a flow whose incarnation differs is not this backend's. Zero: the entry is free.
    pub incarnation: u32,
    /// Effective weight, for the reader's eye: the Maglev table is what decides.
    pub weight: u32,
    /// Bits of the outer source address's last 32 that vary with the flow's hash, host order.
    pub source_bits: u32,
    /// Its service's forwarding mode, [`mode`].
    pub mode: u16,
    /// Its service's UDP port of GUE, host order.
    pub gue_port: u16,
}

const _: () = assert!(size_of::<BackendValue>() == 56 && align_of::<BackendValue>() == 4);

/// Bits of [`BackendValue::flags`].
pub mod backend_flags {
    /// Its flows are lost: a packet of one goes to the slot's backend.
    pub const DEAD: u16 = 1;
    /// Keeps its flows and gets no new ones.
    pub const DRAINING: u16 = 2;
    /// The address is this host's: deliver to the stack, translate replies at TC egress.
    pub const LOCAL: u16 = 4;
}

/// Value of `flows`. A flow has two entries, one for each direction; each holds what its packets
/// become. The other direction's key is [`FlowValue::peer_key`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct FlowValue {
    /// New source.
    pub source: Address,
    /// New destination.
    pub destination: Address,
    /// New source port, host order.
    pub source_port: u16,
    /// New destination port, host order.
    pub destination_port: u16,
    /// [`flow_flags`].
    pub flags: u16,
    /// TCP flags seen in this direction, [`seen`].
    pub seen: u8,
    /// TCP flags seen in the other direction, [`seen`].
    pub peer_seen: u8,
    /// Index of its service.
    pub service: u32,
    /// Index of its backend.
    pub backend: u32,
    /// [`BackendValue::incarnation`] when the flow was opened.
    pub incarnation: u32,
    /// IANA protocol number: 6 or 17, as in the key.
    pub protocol: u32,
    /// Monotonic time in nanoseconds of the last packet in this direction, no finer than
    /// [`crate::limits::LAST_SEEN_GRAIN_NS`]. On the clock of `bpf_ktime_get_coarse_ns`
    /// (CLOCK_MONOTONIC_COARSE).
    pub last_seen: u64,
}

const _: () = assert!(size_of::<FlowValue>() == 64 && align_of::<FlowValue>() == 8);

impl FlowValue {
    /// The key of the entry for the other direction.
    #[inline(always)]
    pub const fn peer_key(&self) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol as u8,
            pad: [0; 3],
        }
    }

    /// Whether either side has ended the connection: RST from one, or FIN.
    #[inline(always)]
    pub const fn is_closing(&self) -> bool {
        (self.seen | self.peer_seen) & (seen::FIN | seen::RST) != 0
    }

    /// Whether the other side has not answered yet.
    #[inline(always)]
    pub const fn is_opening(&self) -> bool {
        self.seen == 0 || self.peer_seen == 0
    }
}

/// Bits of [`FlowValue::flags`].
pub mod flow_flags {
    /// The entry translates replies, from a backend to a client.
    pub const REPLY: u16 = 1;
    /// What this entry's packets become is delivered on this host: no route lookup, no TTL.
    pub const TO_HOST: u16 = 2;
    /// This entry's packets are sent by this host: they are seen at TC egress.
    pub const FROM_HOST: u16 = 4;
}

/// Bits of [`FlowValue::seen`]. UDP sets [`seen::PACKET`] alone.
pub mod seen {
    /// Any packet.
    pub const PACKET: u8 = 1;
    /// TCP FIN.
    pub const FIN: u8 = 2;
    /// TCP RST.
    pub const RST: u8 = 4;
    /// A packet that doesn't open the flow: all but a TCP SYN. In `tracked_flows` alone, which see one direction.
    pub const GOING: u8 = 8;
}

/// Value of `tracked_flows`: the backend of a flow that doesn't follow its slot, or may not for long.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct TrackedFlow {
    /// Index of its backend.
    pub backend: u32,
    /// [`BackendValue::incarnation`] when the flow was stored.
    pub incarnation: u32,
    /// Index of its service.
    pub service: u32,
    /// What clients' packets said of its state, [`seen`].
    pub seen: u32,
    /// As [`FlowValue::last_seen`].
    pub last_seen: u64,
}

const _: () = assert!(size_of::<TrackedFlow>() == 24 && align_of::<TrackedFlow>() == 8);

impl TrackedFlow {
    /// Whether the client has ended the connection.
    #[inline(always)]
    pub const fn is_closing(&self) -> bool {
        self.seen & (seen::FIN | seen::RST) as u32 != 0
    }

    /// Whether the client has sent nothing but what opens a connection.
    #[inline(always)]
    pub const fn is_opening(&self) -> bool {
        self.seen & seen::GOING as u32 == 0
    }
}

/// Value of `next_hops`: where packets for the backend of this index leave, as the kernel's routing table said a moment
/// ago. Written by the programs alone.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct NextHop {
    /// Destination MAC address, then source.
    pub macs: [u8; 12],
    /// The interface to leave by.
    pub ifindex: u32,
    /// The way's MTU: bytes of an IP packet.
    pub mtu: u32,
    /// [`BackendValue::incarnation`] of the backend this is about.
    pub incarnation: u32,
    /// Of no use from this jiffy on: its low half, within [`crate::limits::NEXT_HOP_JIFFIES`].
    pub until: u32,
    /// With NAT the interface that packets of this way came by; else zero.
    pub arrived: u32,
}

const _: () = assert!(size_of::<NextHop>() == 32 && align_of::<NextHop>() == 4);

/// The one entry of `settings`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct Settings {
    /// First source port NAT hands out, host order.
    pub nat_port_first: u16,
    /// Last one, inclusive.
    pub nat_port_last: u16,
    /// UDP port that GUE packets come to on a backend's host, host order.
    pub gue_port: u16,
    /// ICMP errors of our own that a CPU may send in a window of 2^[`crate::limits::ICMP_WINDOW_BITS`] nanoseconds.
    pub icmp_budget: u16,
    /// Added to the clock that stamps flows, in nanoseconds: zero but in tests.
    pub clock_offset_ns: u64,
    /// [`crate::events::wanted`] and [`crate::ranges::wanted`].
    pub flags: u64,
}

const _: () = assert!(size_of::<Settings>() == 24);

/// The one entry of `icmp_budget`: a CPU's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct IcmpBudget {
    /// The window, counted from the clock's zero.
    pub window: u64,
    /// ICMP errors asked for in it.
    pub sent: u64,
}

const _: () = assert!(size_of::<IcmpBudget>() == 16);

/// The one entry of `flow_budget`: a CPU's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct FlowBudget {
    /// Flows that it may store a second, and at once; 0 for as many as come.
    pub rate: u32,
    /// Of which it may store so many now.
    pub tokens: u32,
    /// When that was counted: as [`FlowValue::last_seen`].
    pub at: u64,
}

const _: () = assert!(size_of::<FlowBudget>() == 16);

/// The one entry of `layout`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct Layout {
    /// [`crate::limits::LAYOUT_MAGIC`].
    pub magic: u32,
    /// [`crate::limits::LAYOUT_VERSION`].
    pub version: u32,
}

/// What `xdp_balancer` leaves in front of a packet whose neighbour is unresolved, for
/// `tc_ingress` to send it by way of the kernel's neighbour table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct Handover {
    /// [`crate::limits::LAYOUT_MAGIC`], to tell it from other programs' metadata.
    pub magic: u32,
    /// The interface to leave by.
    pub ifindex: u32,
    /// The neighbour that is to get it; zero for whom the packet's own destination is routed to.
    pub neighbour: Address,
}

const _: () = assert!(
    size_of::<Handover>() == 24,
    "bpf_xdp_adjust_meta wants a multiple of 4"
);
