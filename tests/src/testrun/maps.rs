//! The program's pinned maps, and a model that is loaded from them.

use anyhow::{Context, Result, ensure};
use aya::{
    Pod,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray, PerCpuValues, of_maps::ArrayOfMaps},
};
use proxy_common::{
    affinity::{Affinity, ServiceOptions},
    counters::Counters,
    decap::{DecapOutcome, DecapValue},
    fragments::{FragmentKey, FragmentValue},
    guard::SourceKey,
    keys::{FlowKey, ServiceKey},
    net::Address,
    quic::{ServerKey, ServerValue},
    values::{BackendValue, FlowBudget, FlowValue, ServiceValue, Settings, SlotValue, TrackedFlow, VipValue},
    verdict::DropReason,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
    ptr,
};

/// The maps, open by their pins.
pub struct Maps {
    pub(super) services: BpfHashMap<MapData, ServiceKey, ServiceValue>,
    pub(super) vips: BpfHashMap<MapData, Address, VipValue>,
    slots: ArrayOfMaps<MapData>,
    pub(super) backends: Array<MapData, BackendValue>,
    pub(super) flows: BpfHashMap<MapData, FlowKey, FlowValue>,
    pub(super) flow_entries_max: usize,
    pub(super) tracked_flows: BpfHashMap<MapData, FlowKey, TrackedFlow>,
    pub(super) fragments: BpfHashMap<MapData, FragmentKey, FragmentValue>,
    pub(super) affinities: BpfHashMap<MapData, SourceKey, Affinity>,
    pub(super) quic_servers: BpfHashMap<MapData, ServerKey, ServerValue>,
    service_options: Array<MapData, ServiceOptions>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) flow_budget: PerCpuArray<MapData, FlowBudget>,
    pub(super) service_counters: PerCpuArray<MapData, Counters>,
    pub(super) backend_counters: PerCpuArray<MapData, Counters>,
    pub(super) drops: PerCpuArray<MapData, u64>,
    pub(super) decap_addresses: BpfHashMap<MapData, Address, DecapValue>,
    pub(super) decap_counters: PerCpuArray<MapData, u64>,
}

impl Maps {
    pub(super) fn from_pins(pins: &Path) -> Result<Self> {
        let open = |name: &str| {
            MapData::from_pin(pins.join(name)).with_context(|| format!("open the pinned map {name}"))
        };
        Ok(Self {
            services: hash(open("services")?)?,
            vips: hash(open("vips")?)?,
            slots: Map::ArrayOfMaps(open("slots")?).try_into()?,
            backends: Map::Array(open("backends")?).try_into()?,
            flow_entries_max: open("flows")?.info()?.max_entries() as usize,
            flows: hash(open("flows")?)?,
            tracked_flows: hash(open("tracked_flows")?)?,
            fragments: Map::LruHashMap(open("fragments")?).try_into()?,
            affinities: Map::LruHashMap(open("affinities")?).try_into()?,
            quic_servers: hash(open("quic_servers")?)?,
            service_options: Map::Array(open("service_options")?).try_into()?,
            flow_budget: Map::PerCpuArray(open("flow_budget")?).try_into()?,
            settings: Map::Array(open("settings")?).try_into()?,
            service_counters: Map::PerCpuArray(open("service_counters")?).try_into()?,
            backend_counters: Map::PerCpuArray(open("backend_counters")?).try_into()?,
            drops: Map::PerCpuArray(open("drop_counters")?).try_into()?,
            decap_addresses: hash(open("decap_addresses")?)?,
            decap_counters: Map::PerCpuArray(open("decap_counters")?).try_into()?,
        })
    }

    /// The entry of a flow.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowValue>> {
        match self.flows.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every entry of the flow table.
    ///
    /// # Errors
    /// The kernel refused a lookup.
    pub fn flows(&self) -> Result<HashMap<FlowKey, FlowValue>> {
        self.flows.iter().map(|entry| Ok(entry?)).collect()
    }

    /// The entry of a flow in `tracked_flows`.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn tracked_flow(&self, key: &FlowKey) -> Result<Option<TrackedFlow>> {
        match self.tracked_flows.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every entry of `tracked_flows`.
    ///
    /// # Errors
    /// The kernel refused a lookup.
    pub fn tracked_flows(&self) -> Result<HashMap<FlowKey, TrackedFlow>> {
        self.tracked_flows.iter().map(|entry| Ok(entry?)).collect()
    }

    /// Every entry of `fragments`.
    ///
    /// # Errors
    /// The kernel refused a lookup.
    pub fn fragments(&self) -> Result<HashMap<FragmentKey, FragmentValue>> {
        self.fragments.iter().map(|entry| Ok(entry?)).collect()
    }

    /// Removes an entry of `fragments`.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_fragment(&mut self, key: &FragmentKey) -> Result<()> {
        Ok(self.fragments.remove(key)?)
    }

    /// The slots of a service's table, of which there are so many. By its memory: fuzzers read all tables again and again, and a system
    /// call a slot would take most of their time.
    pub(super) fn table(&self, service: u32, size: u32) -> Result<Vec<SlotValue>> {
        let table = self.slots.get(&service, 0)?;
        let there = table.info()?.max_entries();
        ensure!(
            there == size,
            "service {service} has a table of {there} slots, not {size}"
        );
        let bytes = size as usize * size_of::<SlotValue>();
        // SAFETY: a fresh mapping of a map's file descriptor, no address wished for.
        let memory = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                table.fd(),
                0,
            )
        }?;
        let slots = (0..size as usize)
            // SAFETY: the mapping holds so many slots, and any bytes are a valid one.
            .map(|slot| unsafe { memory.cast::<SlotValue>().add(slot).read_volatile() })
            .collect();
        // SAFETY: the mapping made above, which nobody refers to any more.
        unsafe { munmap(memory, bytes) }?;
        Ok(slots)
    }

    /// The largest TCP segments of services that have one, by index: of such as were removed too, whose flows are there for a while.
    pub(super) fn segments(&self) -> Result<HashMap<u32, u16>> {
        let mut segments = HashMap::new();
        for index in 0..self.service_options.len() {
            let size = self.service_options.get(&index, 0)?.max_segment_size;
            if size != 0 {
                segments.insert(index, size.try_into()?);
            }
        }
        Ok(segments)
    }

    /// Index and incarnation of the backends that server IDs name, by service.
    pub(super) fn servers(&self) -> Result<HashMap<u32, HashMap<[u8; 16], (u32, u32)>>> {
        let mut services: HashMap<u32, HashMap<_, _>> = HashMap::new();
        for entry in self.quic_servers.iter() {
            let (key, value) = entry?;
            let servers = services.entry(key.service).or_default();
            servers.insert(key.server_id, (value.backend, value.incarnation));
        }
        Ok(services)
    }

    /// Every entry of `affinities`.
    ///
    /// # Errors
    /// The kernel refused a lookup.
    pub fn affinities(&self) -> Result<HashMap<SourceKey, Affinity>> {
        self.affinities.iter().map(|entry| Ok(entry?)).collect()
    }

    /// Removes an entry from the flow table.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<()> {
        Ok(self.flows.remove(key)?)
    }

    /// Packets dropped for a reason.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn drops(&self, reason: DropReason) -> Result<u64> {
        Ok(self.drops.get(&(reason as u32), 0)?.iter().sum())
    }

    /// Packets of tunnels with this outcome.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn decapsulated(&self, outcome: DecapOutcome) -> Result<u64> {
        Ok(self.decap_counters.get(&(outcome as u32), 0)?.iter().sum())
    }

    /// Addresses that are marked in `decap_addresses`.
    pub(super) fn marked(&self, flag: u32) -> Result<HashSet<IpAddr>> {
        let entries: Vec<_> = self.decap_addresses.iter().collect::<Result<_, _>>()?;
        let marked = entries.into_iter().filter(|(_, value)| value.flags & flag != 0);
        Ok(marked.map(|(address, _)| address.into()).collect())
    }

    /// Counters of a service.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn service_counters(&self, index: u32) -> Result<Counters> {
        counters(&self.service_counters, index)
    }

    /// Counters of a backend.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn backend_counters(&self, index: u32) -> Result<Counters> {
        counters(&self.backend_counters, index)
    }

    /// The settings.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.settings.get(&0, 0)?)
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// The kernel refused the write.
    pub fn set_settings(&mut self, settings: Settings) -> Result<()> {
        Ok(self.settings.set(0, settings, 0)?)
    }

    /// Replaces every CPU's budget of new flows.
    ///
    /// # Errors
    /// The kernel refused the write.
    pub fn set_flow_budget(&mut self, budget: FlowBudget) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(self
            .flow_budget
            .set(0, PerCpuValues::try_from(vec![budget; cpus])?, 0)?)
    }

    /// Every CPU's budget of new flows.
    ///
    /// # Errors
    /// The kernel refused the lookup.
    pub fn flow_budgets(&self) -> Result<Vec<FlowBudget>> {
        Ok(self.flow_budget.get(&0, 0)?.to_vec())
    }

    /// Writes a backend past the daemon.
    ///
    /// # Errors
    /// The kernel refused the write.
    pub fn set_backend(&mut self, index: u32, value: BackendValue) -> Result<()> {
        Ok(self.backends.set(index, value, 0)?)
    }

    /// Entries that fit into the flow table.
    pub(super) fn flow_entries_max(&self) -> usize {
        self.flow_entries_max
    }
}

fn hash<K: Pod, V: Pod>(data: MapData) -> Result<BpfHashMap<MapData, K, V>> {
    Ok(Map::HashMap(data).try_into()?)
}

fn counters(map: &PerCpuArray<MapData, Counters>, index: u32) -> Result<Counters> {
    let mut sum = Counters::default();
    for part in map.get(&index, 0)?.iter() {
        sum.add(part);
    }
    Ok(sum)
}
