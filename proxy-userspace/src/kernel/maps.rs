//! The pinned maps, opened with their types.

use super::{KernelError, Pins, pins};
use crate::model::DaemonSettings;
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapInfo, PerCpuArray, PerCpuValues};
use proxy_common::{
    affinity::{Affinity, ServiceOptions},
    counters::Counters,
    fragments,
    guard::{ServiceLimits, SourceKey},
    keys::{FlowKey, ServiceKey},
    limits,
    net::Address,
    quic::{ServerKey, ServerValue},
    ranges,
    values::{BackendValue, FlowBudget, FlowValue, Layout, ServiceValue, Settings, TrackedFlow, VipValue},
    verdict::DropReason,
};
use std::path::Path;

/// Every pinned map. `layout` comes last in [`write_layout`]: its value says the others are whole.
pub(super) const NAMES: &[&str] = &[
    "settings",
    "services",
    "vips",
    "service_ranges",
    "slots",
    "backends",
    "next_hops",
    "flows",
    "tracked_flows",
    "fragments",
    "source_rules",
    "service_limits",
    "source_rates",
    "service_options",
    "affinities",
    "quic_servers",
    "service_counters",
    "backend_counters",
    "drop_counters",
    "events",
    "event_losses",
    "icmp_budget",
    "flow_budget",
    "decap_addresses",
    "decap_counters",
    "l7_services",
    "workers",
    "worker_loads",
    "steer_counters",
    "layout",
];

/// The maps, typed.
pub(super) struct Maps {
    pub(super) settings: Array<MapData, Settings>,
    pub(super) services: HashMap<MapData, ServiceKey, ServiceValue>,
    pub(super) vips: HashMap<MapData, Address, VipValue>,
    pub(super) slots: ArrayOfMaps<MapData>,
    /// The same map once more, for its file descriptor: many tables at once.
    pub(super) slots_data: MapData,
    pub(super) backends: Array<MapData, BackendValue>,
    /// For its file descriptor: a service's rules.
    pub(super) source_rules: MapData,
    pub(super) service_limits: Array<MapData, ServiceLimits>,
    pub(super) service_options: Array<MapData, ServiceOptions>,
    pub(super) affinities: HashMap<MapData, SourceKey, Affinity>,
    pub(super) quic_servers: HashMap<MapData, ServerKey, ServerValue>,
    pub(super) flows: HashMap<MapData, FlowKey, FlowValue>,
    /// The same map once more, for its file descriptor: batch reads.
    pub(super) flows_data: MapData,
    pub(super) tracked_flows: HashMap<MapData, FlowKey, TrackedFlow>,
    /// As above.
    pub(super) tracked_data: MapData,
    pub(super) service_counters: PerCpuArray<MapData, Counters>,
    pub(super) backend_counters: PerCpuArray<MapData, Counters>,
    pub(super) drop_counters: PerCpuArray<MapData, u64>,
}

/// A pinned map by its name and kind, or one by the path of its pin.
macro_rules! open {
    ($pins:expr, $name:literal, $kind:ident) => {
        $crate::kernel::maps::open!(path $pins.map($name), $name, $kind)
    };
    (path $path:expr, $name:literal, $kind:ident) => {
        aya::maps::Map::$kind($crate::kernel::maps::at(&$path)?)
            .try_into()
            .map_err(|error| KernelError::refused(concat!("opening the map ", $name), error))?
    };
}
pub(super) use open;

impl Maps {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        Ok(Self {
            settings: open!(pins, "settings", Array),
            services: open!(pins, "services", HashMap),
            vips: open!(pins, "vips", HashMap),
            slots: open!(pins, "slots", ArrayOfMaps),
            slots_data: data(pins, "slots")?,
            backends: open!(pins, "backends", Array),
            source_rules: data(pins, "source_rules")?,
            service_limits: open!(pins, "service_limits", Array),
            service_options: open!(pins, "service_options", Array),
            affinities: open!(pins, "affinities", LruHashMap),
            quic_servers: open!(pins, "quic_servers", HashMap),
            flows: open!(pins, "flows", HashMap),
            flows_data: data(pins, "flows")?,
            tracked_flows: open!(pins, "tracked_flows", HashMap),
            tracked_data: data(pins, "tracked_flows")?,
            service_counters: open!(pins, "service_counters", PerCpuArray),
            backend_counters: open!(pins, "backend_counters", PerCpuArray),
            drop_counters: open!(pins, "drop_counters", PerCpuArray),
        })
    }

    /// Writes the settings, keeping the clock offset that tests set. Events that somebody asked for who was killed end with
    /// that; one that lives asks again ([`super::EventReader::renew`]).
    pub(super) fn write_settings(&mut self, settings: &DaemonSettings) -> Result<(), KernelError> {
        let nat = &settings.nat;
        let refused = |error| KernelError::refused("writing the map settings", error);
        let old = self.settings.get(&0, 0).map_err(refused)?;
        let new = Settings {
            nat_port_first: nat.ports.0,
            nat_port_last: nat.ports.1,
            gue_port: settings.tunnel.gue_port,
            icmp_budget: limits::ICMP_BUDGET,
            flags: old.flags & ranges::wanted::ALL
                | match settings.max_fragments {
                    0 => 0,
                    _ => fragments::FOLLOWED,
                },
            clock_offset_ns: old.clock_offset_ns,
        };
        self.settings.set(0, new, 0).map_err(refused)
    }
}

/// Gives every CPU its part of the new flows that the host may store a second; none for as many as come. Written anew by each
/// daemon: what is left of this second is of no account.
pub(super) fn write_flow_budget(pins: &Pins, per_second: Option<u32>) -> Result<(), KernelError> {
    let counting = |(_, error): (_, std::io::Error)| KernelError::refused("counting the CPUs", error);
    let online = aya::util::online_cpus().map_err(counting)?.len().max(1) as u32;
    let possible = aya::util::nr_cpus().map_err(counting)?;
    let rate = per_second.map_or(0, |rate| rate.div_ceil(online));
    let budget = FlowBudget {
        rate,
        tokens: rate,
        at: 0,
    };
    let mut map: PerCpuArray<MapData, FlowBudget> = open!(pins, "flow_budget", PerCpuArray);
    let values = PerCpuValues::try_from(vec![budget; possible])
        .map_err(|error| KernelError::refused("counting the CPUs", error))?;
    map.set(0, values, 0)
        .map_err(|error| KernelError::refused("writing the map flow_budget", error))
}

/// Maps whose size the config sets.
const SIZED: usize = 15;

/// Sizes that the config sets, as (map, entries).
pub(super) fn sizes(settings: &DaemonSettings) -> [(&'static str, u32); SIZED] {
    [
        ("services", settings.max_services),
        ("vips", settings.max_services),
        ("slots", settings.max_services),
        ("service_counters", settings.max_services),
        ("backends", settings.max_backends),
        ("backend_counters", settings.max_backends),
        ("next_hops", settings.max_backends),
        ("source_rules", settings.max_services),
        ("service_limits", settings.max_services),
        ("service_options", settings.max_services),
        ("affinities", settings.max_affinities),
        ("quic_servers", settings.max_backends),
        ("flows", settings.max_flows.saturating_mul(2)),
        ("tracked_flows", settings.max_tracked_flows),
        // No map has no entries: with 0 the programs don't look at it.
        (FRAGMENTS, settings.max_fragments.max(1)),
    ]
}

/// The same for a start: sizes of maps that are pinned already, in this layout or an older one, stay until `weir unload`, and
/// with them those of new maps that go by the same indices.
pub(super) fn sizes_to_load(
    pins: &Pins,
    settings: &DaemonSettings,
) -> Result<[(&'static str, u32); SIZED], KernelError> {
    let mut settings = settings.clone();
    for (name, size) in [
        ("services", &mut settings.max_services),
        ("backends", &mut settings.max_backends),
        ("tracked_flows", &mut settings.max_tracked_flows),
    ] {
        *size = size_of_pinned(&pins.left(name))?.unwrap_or(*size);
    }
    if let Some(entries) = size_of_pinned(&pins.left("flows"))? {
        settings.max_flows = entries / 2;
    }
    Ok(sizes(&settings))
}

/// Holds nothing that is of use for longer than a moment.
const FRAGMENTS: &str = "fragments";

/// Removes pinned maps of another size that nobody will miss: they are made anew. Drops are counted from zero where a version
/// has more reasons for them.
pub(super) fn remove_outgrown(pins: &Pins, settings: &DaemonSettings) -> Result<(), KernelError> {
    let fragments = settings.max_fragments.max(1);
    for (name, entries) in [
        (FRAGMENTS, fragments),
        ("drop_counters", DropReason::COUNT as u32),
    ] {
        let path = pins.map(name);
        if size_of_pinned(&path)?.is_some_and(|adopted| adopted != entries) {
            std::fs::remove_file(&path)
                .map_err(|error| KernelError::refused(format!("removing {}", path.display()), error))?;
        }
    }
    Ok(())
}

fn size_of_pinned(path: &Path) -> Result<Option<u32>, KernelError> {
    if !path.exists() {
        return Ok(None);
    }
    MapInfo::from_pin(path)
        .map(|info| Some(info.max_entries()))
        .map_err(|error| KernelError::refused(format!("reading {}", path.display()), error))
}

/// This weir's layout.
pub(super) const LAYOUT: Layout = Layout {
    magic: limits::LAYOUT_MAGIC,
    version: limits::LAYOUT_VERSION,
};

/// The layout of the pinned maps: zeros where there are none, or where a daemon died while it made them.
pub(super) fn read_layout(pins: &Pins) -> Result<Layout, KernelError> {
    if !pins.map(pins::LAYOUT).exists() {
        return Ok(Layout::default());
    }
    let map: Array<MapData, Layout> = open!(pins, "layout", Array);
    map.get(&0, 0)
        .map_err(|error| KernelError::refused("reading the map layout", error))
}

/// Removes the pins of all maps. Best effort: what stays is found by what comes next.
pub(super) fn remove(pins: &Pins) {
    for name in NAMES {
        let _ = std::fs::remove_file(pins.map(name));
    }
}

/// Marks the maps as whole and ours.
pub(super) fn write_layout(pins: &Pins) -> Result<(), KernelError> {
    let mut map: Array<MapData, Layout> = open!(pins, "layout", Array);
    map.set(0, LAYOUT, 0)
        .map_err(|error| KernelError::refused("writing the map layout", error))
}

/// A pinned map by its name.
pub(super) fn data(pins: &Pins, name: &str) -> Result<MapData, KernelError> {
    at(&pins.map(name))
}

/// A map by the path of its pin.
pub(super) fn at(path: &Path) -> Result<MapData, KernelError> {
    MapData::from_pin(path)
        .map_err(|error| KernelError::refused(format!("opening {}", path.display()), error))
}
