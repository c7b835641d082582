//! The maps, all pinned by the loader; each says who writes, who reads and what it costs.

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap},
    macros::btf_map,
};
use proxy_common::{
    affinity::{self, Affinity, ServiceOptions},
    counters::Counters,
    decap::{self, DecapOutcome, DecapValue},
    events::{self, Event},
    fragments::{self, FragmentKey, FragmentValue},
    guard::{self, RuleKey, RuleValue, ServiceLimits, SourceKey, SourceRate},
    keys::{FlowKey, ServiceKey},
    limits,
    net::Address,
    quic::{ServerKey, ServerValue},
    ranges::{self, RangeKey, RangeValue},
    steer::{self, L7Key, L7Service, SteerOutcome, WorkerLoad},
    values::{
        BackendValue, FlowBudget, FlowValue, IcmpBudget, Layout, NextHop, ServiceValue, Settings, SlotValue,
        TrackedFlow, VipValue,
    },
    verdict::DropReason,
};

/// Shape of these maps. Written once by the daemon that makes them, read by the one that adopts them.
#[btf_map(name = "layout")]
pub static LAYOUT: Array<Layout, 1> = Array::new();

/// What all packets need to know. Written by the daemon.
#[btf_map(name = "settings")]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// (VIP, port, protocol) to service. Written by the daemon, read once a packet. 36 bytes an entry.
#[btf_map(name = "services")]
pub static SERVICES: HashMap<ServiceKey, ServiceValue, { limits::SERVICES as usize }> = HashMap::new();

/// Addresses with a service. Written by the daemon, read for ICMP and for packets that don't parse.
#[btf_map(name = "vips")]
pub static VIPS: HashMap<Address, VipValue, { limits::SERVICES as usize }> = HashMap::new();

/// Ports and addresses of services that have several, to the service. Written by the daemon, read up to twice a packet that
/// `services` doesn't know, if there are such services. About 80 bytes an entry, allocated as it is filled.
#[btf_map(name = "service_ranges")]
pub static SERVICE_RANGES: LpmTrie<RangeKey, RangeValue, { ranges::RANGES as usize }> = LpmTrie::new();

/// A service's Maglev table: the inner map. `BPF_F_INNER_MAP` lets tables differ in size; the
/// price is that the JIT doesn't inline the lookup. `BPF_F_MMAPABLE` lets the daemon fill it at
/// memory speed.
type Table =
    Array<SlotValue, { limits::MAGLEV_SIZE as usize }, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;

/// Service index to Maglev table. The daemon builds a table, then swaps it in: readers see the old
/// or the new one. 8 bytes an entry, and 8 per slot (array elements are rounded up to 8).
#[btf_map(name = "slots")]
pub static SLOTS: ArrayOfMaps<Table, { limits::SERVICES as usize }> = ArrayOfMaps::new();

/// Backend index to backend. Written by the daemon. 56 bytes an entry.
#[btf_map(name = "backends")]
pub static BACKENDS: Array<BackendValue, { limits::BACKENDS as usize }> = Array::new();

/// Backend index to the way there, with NAT for packets of open flows. Written by the programs, for all CPUs, and good for a moment:
/// neither a daemon's death nor a change of routes leaves packets on a wrong way. 32 bytes an entry.
#[btf_map(name = "next_hops")]
pub static NEXT_HOPS: Array<NextHop, { limits::BACKENDS as usize }> = Array::new();

/// Both directions of every NAT flow. Written by the programs; the daemon ends idle flows, nothing
/// evicts: a full table drops new flows and keeps the old. Preallocated, since allocating under
/// load can fail. About 160 bytes an entry, two entries a flow.
#[btf_map(name = "flows")]
pub static FLOWS: HashMap<FlowKey, FlowValue, { 2 * limits::FLOWS as usize }> = HashMap::new();

/// Flows of services without NAT that don't follow their slot, or may not for long. Written by the programs; the daemon ends
/// idle ones and those that their slot agrees with, nothing evicts. Preallocated, 112 bytes an entry and 16 for a bucket.
#[btf_map(name = "tracked_flows")]
pub static TRACKED_FLOWS: HashMap<FlowKey, TrackedFlow, { limits::TRACKED_FLOWS as usize }> = HashMap::new();

/// Datagrams that come in fragments, to what the first one said. Written by the programs; the least recently used one makes room,
/// and after [`fragments::VALID_NS`] an entry is good for nothing. Preallocated, 104 bytes an entry and 16 for a bucket.
#[btf_map(name = "fragments")]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, { fragments::FRAGMENTS as usize }> =
    LruHashMap::new();

/// By service index. Written by the programs; zeroed by the daemon when an index is used anew.
#[btf_map(name = "service_counters")]
pub static SERVICE_COUNTERS: PerCpuArray<Counters, { limits::SERVICES as usize }> = PerCpuArray::new();

/// By backend index. As above.
#[btf_map(name = "backend_counters")]
pub static BACKEND_COUNTERS: PerCpuArray<Counters, { limits::BACKENDS as usize }> = PerCpuArray::new();

/// Addresses of a backend's host where tunnels end, and VIPs that it serves. Written by the daemon, read for packets of
/// tunnels. 24 bytes an entry.
#[btf_map(name = "decap_addresses")]
pub static DECAP_ADDRESSES: HashMap<Address, DecapValue, { decap::DECAP_ADDRESSES as usize }> =
    HashMap::new();

/// Packets that came through tunnels, by [`DecapOutcome`]. Written by the programs.
#[btf_map(name = "decap_counters")]
pub static DECAP_COUNTERS: PerCpuArray<u64, { DecapOutcome::COUNT }> = PerCpuArray::new();

/// A service's rules about sources: the inner map, made whole and then swapped in.
type Rules = LpmTrie<RuleKey, RuleValue, { guard::RULES as usize }>;

/// Service index to rules. Written by the daemon, read for packets to services that have some. 8 bytes an entry; a rule takes
/// about 80.
#[btf_map(name = "source_rules")]
pub static SOURCE_RULES: ArrayOfMaps<Rules, { limits::SERVICES as usize }> = ArrayOfMaps::new();

/// Service index to what a source may send. Written by the daemon. 16 bytes an entry.
#[btf_map(name = "service_limits")]
pub static SERVICE_LIMITS: Array<ServiceLimits, { limits::SERVICES as usize }> = Array::new();

/// What sources have left of it. Written by the programs; the least recently used source makes room. 112 bytes an entry.
#[btf_map(name = "source_rates")]
pub static SOURCE_RATES: LruHashMap<SourceKey, SourceRate, { guard::SOURCES as usize }> = LruHashMap::new();

/// Service index to what is looked at only when a flow is opened. Written by the daemon. 32 bytes an entry.
#[btf_map(name = "service_options")]
pub static SERVICE_OPTIONS: Array<ServiceOptions, { limits::SERVICES as usize }> = Array::new();

/// Sources of services with affinity, and whom their last flows were opened to. Written by the programs; age is judged where an
/// entry is used, and the least recently used source makes room. 88 bytes an entry and 16 for a bucket.
#[btf_map(name = "affinities")]
pub static AFFINITIES: LruHashMap<SourceKey, Affinity, { affinity::SOURCES as usize }> = LruHashMap::new();

/// Server IDs in QUIC connection IDs of services that ask for them, to the backend. Written by the daemon. About 80 bytes an entry,
/// allocated as it is filled.
#[btf_map(name = "quic_servers")]
pub static QUIC_SERVERS: HashMap<
    ServerKey,
    ServerValue,
    { limits::BACKENDS as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// What a CPU has sent of ICMP errors of our own. Written by the programs.
#[btf_map(name = "icmp_budget")]
pub static ICMP_BUDGET: PerCpuArray<IcmpBudget, 1> = PerCpuArray::new();

/// How many new flows a CPU may store. The daemon writes the rate when it starts, the programs what is left.
#[btf_map(name = "flow_budget")]
pub static FLOW_BUDGET: PerCpuArray<FlowBudget, 1> = PerCpuArray::new();

/// Packets dropped, by [`DropReason`]. Written by the programs.
#[btf_map(name = "drop_counters")]
pub static DROP_COUNTERS: PerCpuArray<u64, { DropReason::COUNT }> = PerCpuArray::new();

/// What happened to packets, while somebody wants to know ([`events::wanted`]). Written by the programs, read by
/// `weir monitor`. A full ring keeps what it has.
#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, { events::RING as usize }> = RingBuf::new();

/// Events that found no room in the ring. Written by the programs.
#[btf_map(name = "event_losses")]
pub static EVENT_LOSSES: PerCpuArray<u64, 1> = PerCpuArray::new();

/// (address, port prefix) to L7 listener. Written by the daemon, read up to three times a lookup by `sk_steer`.
/// A trie with the address in front: a range of ports is the few prefixes it consists of. Allocated as it is
/// filled, about 80 bytes an entry.
#[btf_map(name = "l7_services")]
pub static L7_SERVICES: LpmTrie<L7Key, L7Service, { steer::L7_SERVICES as usize }> = LpmTrie::new();

/// Worker number to its listening socket. Written by the daemon; the kernel removes a socket that is closed, so
/// that those of a daemon that died are gone at once. 8 bytes an entry.
#[btf_map(name = "workers")]
pub static WORKERS: SockMap<{ steer::WORKERS }> = SockMap::new();

/// Worker number to what it has to do. Mapped into the daemon's memory, where every worker writes its own line
/// without a system call; read by `sk_steer` for every choice, which it notes there. One page.
#[btf_map(name = "worker_loads")]
pub static WORKER_LOADS: Array<WorkerLoad, { steer::WORKERS }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Lookups for L7 addresses, by [`SteerOutcome`]. Written by `sk_steer`.
#[btf_map(name = "steer_counters")]
pub static STEER_COUNTERS: PerCpuArray<u64, { SteerOutcome::COUNT }> = PerCpuArray::new();
