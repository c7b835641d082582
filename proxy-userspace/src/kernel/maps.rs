//! The pinned maps, opened with their types.

use super::{KernelError, Pins};
use crate::model::{DaemonSettings, NatSettings, TunnelSettings};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapInfo, PerCpuArray, PerCpuValues};
use proxy_common::{
    affinity::{Affinity, ServiceOptions},
    counters::Counters,
    guard::{ServiceLimits, SourceKey},
    keys::{FlowKey, ServiceKey},
    limits,
    net::Address,
    values::{BackendValue, FlowBudget, FlowValue, Layout, ServiceValue, Settings, TrackedFlow, VipValue},
};

/// Every pinned map. `layout` comes last in [`write_layout`]: its value says the others are whole.
pub(super) const NAMES: &[&str] = &[
    "settings",
    "services",
    "vips",
    "slots",
    "backends",
    "next_hops",
    "flows",
    "tracked_flows",
    "source_rules",
    "service_limits",
    "source_rates",
    "service_options",
    "affinities",
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

/// A pinned map by its name and kind.
macro_rules! open {
    ($pins:expr, $name:literal, $kind:ident) => {
        aya::maps::Map::$kind($crate::kernel::maps::data($pins, $name)?)
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
    pub(super) fn write_settings(
        &mut self,
        nat: &NatSettings,
        tunnel: &TunnelSettings,
    ) -> Result<(), KernelError> {
        let refused = |error| KernelError::refused("writing the map settings", error);
        let old = self.settings.get(&0, 0).map_err(refused)?;
        let new = Settings {
            nat_port_first: nat.ports.0,
            nat_port_last: nat.ports.1,
            gue_port: tunnel.gue_port,
            icmp_budget: limits::ICMP_BUDGET,
            flags: 0,
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

/// Sizes that the config sets, as (map, entries).
pub(super) fn sizes(settings: &DaemonSettings) -> [(&'static str, u32); 13] {
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
        ("flows", settings.max_flows.saturating_mul(2)),
        ("tracked_flows", settings.max_tracked_flows),
    ]
}

/// The size of a map that is pinned already: it stays until `weir unload`.
pub(super) fn adopted_size(pins: &Pins, name: &str) -> Result<Option<u32>, KernelError> {
    let path = pins.map(name);
    if !path.exists() {
        return Ok(None);
    }
    MapInfo::from_pin(&path)
        .map(|info| Some(info.max_entries()))
        .map_err(|error| KernelError::refused(format!("reading {}", path.display()), error))
}

/// Whether there are maps to adopt.
///
/// # Errors
/// They have another layout, or making them was interrupted.
pub(super) fn check_layout(pins: &Pins) -> Result<bool, KernelError> {
    let path = pins.map("layout");
    if !path.exists() {
        // A daemon that died while making the maps left some: nothing is attached to them yet.
        for name in NAMES {
            let _ = std::fs::remove_file(pins.map(name));
        }
        return Ok(false);
    }
    let map: Array<MapData, Layout> = open!(pins, "layout", Array);
    let found = map
        .get(&0, 0)
        .map_err(|error| KernelError::refused("reading the map layout", error))?;
    let wanted = Layout {
        magic: limits::LAYOUT_MAGIC,
        version: limits::LAYOUT_VERSION,
    };
    if found == wanted {
        return Ok(true);
    }
    if found == Layout::default() {
        for name in NAMES {
            let _ = std::fs::remove_file(pins.map(name));
        }
        return Ok(false);
    }
    Err(KernelError::missing(
        format!(
            "the maps pinned beside {} have layout {}, this weir has {}",
            path.display(),
            found.version,
            wanted.version
        ),
        "run `weir unload` (which ends the flows) and start again, or run the weir that made them",
    ))
}

/// Marks the maps as whole and ours.
pub(super) fn write_layout(pins: &Pins) -> Result<(), KernelError> {
    let mut map: Array<MapData, Layout> = open!(pins, "layout", Array);
    let layout = Layout {
        magic: limits::LAYOUT_MAGIC,
        version: limits::LAYOUT_VERSION,
    };
    map.set(0, layout, 0)
        .map_err(|error| KernelError::refused("writing the map layout", error))
}

/// A pinned map by its name.
pub(super) fn data(pins: &Pins, name: &str) -> Result<MapData, KernelError> {
    let path = pins.map(name);
    MapData::from_pin(&path)
        .map_err(|error| KernelError::refused(format!("opening {}", path.display()), error))
}
