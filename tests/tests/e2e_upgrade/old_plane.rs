//! The kernel plane of layout 1, as its daemon left it: its programs attached, its maps filled in its shapes, all pinned.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray},
    programs::{Program, ProgramError, SchedClassifier, SkLookup, TcAttachType, Xdp, XdpMode, links::FdLink},
};
use proxy_common::{
    keys::ServiceKey,
    limits,
    maglev::{self, MaglevEndpoint},
    net::{Address, Protocol},
    values::{Layout, VipValue},
};
use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::lab::{BACKENDS, Family, INTERFACES, Running, tool};

/// The maps of layout 1.
pub const NAMES: [&str; 14] = [
    "settings",
    "services",
    "vips",
    "slots",
    "backends",
    "flows",
    "service_counters",
    "backend_counters",
    "drop_counters",
    "l7_services",
    "workers",
    "worker_loads",
    "steer_counters",
    "layout",
];

/// `BPF_F_MMAPABLE` and `BPF_F_INNER_MAP`.
const TABLE_FLAGS: u32 = (1 << 10) | (1 << 12);

#[repr(C)]
#[derive(Clone, Copy)]
struct ServiceValue {
    index: u32,
    table_size: u32,
    mode: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BackendValue {
    address: Address,
    source: Address,
    port: u16,
    flags: u16,
    service: u32,
    incarnation: u32,
    weight: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Settings {
    nat_ports: [u16; 2],
    flags: u32,
    clock_offset_ns: u64,
}

// SAFETY: integers without padding.
unsafe impl Pod for ServiceValue {}
// SAFETY: as above.
unsafe impl Pod for BackendValue {}
// SAFETY: as above.
unsafe impl Pod for Settings {}

/// A service as layout 1 has it.
#[derive(Clone, Copy, Debug)]
pub struct OldService {
    pub listener: SocketAddr,
    pub protocol: Protocol,
    pub index: u32,
    /// The backends' indices; in the order of the topology.
    pub backends: [u32; BACKENDS],
}

impl OldService {
    pub fn key(&self) -> ServiceKey {
        ServiceKey {
            address: self.listener.ip().into(),
            port: self.listener.port(),
            protocol: self.protocol as u8,
            pad: 0,
        }
    }

    /// No two backends have the same.
    pub fn incarnation(backend: u32) -> u32 {
        1_000_000 + backend
    }
}

/// The services that [`Running`] has, on indices that no daemon would choose.
pub fn services() -> Vec<OldService> {
    let pairs = Family::BOTH
        .into_iter()
        .flat_map(|family| [Protocol::Tcp, Protocol::Udp].map(|protocol| (Running::vip(family), protocol)));
    (0..)
        .zip(pairs)
        .map(|(n, (listener, protocol))| OldService {
            listener,
            protocol,
            index: 3 + 2 * n,
            backends: [40, 41, 43].map(|first| first + 7 * n),
        })
        .collect()
}

/// Loaded, filled and attached. What it pinned the kernel keeps, as that of a daemon that died.
pub struct OldPlane {
    pins: PathBuf,
    object: Ebpf,
}

impl OldPlane {
    /// Makes it under the pin path of a daemon that hasn't been started.
    pub fn start(running: &Running) -> Result<Self> {
        let pins = running.daemon.pin_path().to_owned();
        for folder in ["links", "programs"] {
            std::fs::create_dir_all(pins.join(folder))?;
        }
        let bytes = object()?;
        let mut plane = running.topology.balancer.run(|| -> Result<Self> {
            let mut loader = EbpfLoader::new();
            let paths = NAMES.map(|name| (name, pins.join(name)));
            for (name, path) in &paths {
                loader.map_pin_path(name, path.as_path());
            }
            for (name, entries) in [
                ("services", 100),
                ("vips", 100),
                ("slots", 100),
                ("service_counters", 100),
            ] {
                loader.map_max_entries(name, entries);
            }
            for (name, entries) in [
                ("backends", 1_000),
                ("backend_counters", 1_000),
                ("flows", 131_072),
            ] {
                loader.map_max_entries(name, entries);
            }
            let object = loader.load(&bytes).context("load the programs of layout 1")?;
            let mut plane = Self { pins, object };
            plane.fill()?;
            plane.attach()?;
            Ok(plane)
        })?;
        plane.pin_programs()?;
        Ok(plane)
    }

    /// What is counted of client's packets of all services, and packets dropped.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let counters: PerCpuArray<MapData, [u64; 6]> =
            Map::PerCpuArray(self.map("service_counters")?).try_into()?;
        let mut packets = 0;
        for service in services() {
            packets += counters
                .get(&service.index, 0)?
                .iter()
                .map(|cpu| cpu[0])
                .sum::<u64>();
        }
        let drops: PerCpuArray<MapData, u64> = Map::PerCpuArray(self.map("drop_counters")?).try_into()?;
        let drops = drops.iter().collect::<Result<Vec<_>, _>>()?;
        Ok((packets, drops.iter().flat_map(|cpus| cpus.iter()).sum()))
    }

    /// An old map that may not be pinned any more, to be pinned again: from the programs, which hold it.
    pub fn held(&self) -> Result<Vec<(&'static str, MapData)>> {
        NAMES.iter().map(|name| Ok((*name, self.map(name)?))).collect()
    }

    /// Says that the maps have another layout.
    pub fn set_layout(&self, version: u32) -> Result<()> {
        let mut layout: Array<MapData, Layout> = Map::Array(self.map("layout")?).try_into()?;
        let magic = limits::LAYOUT_MAGIC;
        Ok(layout.set(0, Layout { magic, version }, 0)?)
    }

    fn map(&self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.pins.join(name)).with_context(|| format!("open the pinned map {name}"))
    }

    fn fill(&mut self) -> Result<()> {
        let mut settings: Array<MapData, Settings> = Map::Array(self.map("settings")?).try_into()?;
        let nat_ports = limits::NAT_PORTS.into();
        settings.set(
            0,
            Settings {
                nat_ports,
                flags: 0,
                clock_offset_ns: 0,
            },
            0,
        )?;
        let mut vips: HashMap<MapData, Address, VipValue> = Map::HashMap(self.map("vips")?).try_into()?;
        for family in Family::BOTH {
            vips.insert(Address::from(family.vip(1)), VipValue { services: 2 }, 0)?;
        }
        for service in services() {
            self.add(&service)?;
        }
        self.set_layout(1)
    }

    fn add(&self, service: &OldService) -> Result<()> {
        let family = if service.listener.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let mut backends: Array<MapData, BackendValue> = Map::Array(self.map("backends")?).try_into()?;
        let mut endpoints = Vec::new();
        for (n, index) in service.backends.into_iter().enumerate() {
            let (address, port) = (family.backend(n).into(), service.listener.port());
            endpoints.push(MaglevEndpoint {
                address,
                port,
                weight: 1,
            });
            let value = BackendValue {
                address,
                source: family.balancer().into(),
                port,
                flags: 0,
                service: service.index,
                incarnation: OldService::incarnation(index),
                weight: 1,
            };
            backends.set(index, value, 0)?;
        }
        let mut table: Array<MapData, u32> = Array::create(limits::MAGLEV_SIZE, TABLE_FLAGS)?;
        for (slot, endpoint) in (0..).zip(maglev::build(&endpoints, limits::MAGLEV_SIZE)) {
            table.set(slot, service.backends[endpoint as usize], 0)?;
        }
        let mut slots: ArrayOfMaps<MapData, Array<MapData, u32>> =
            Map::ArrayOfMaps(self.map("slots")?).try_into()?;
        slots.set(service.index, &table, 0)?;
        let mut services: HashMap<MapData, ServiceKey, ServiceValue> =
            Map::HashMap(self.map("services")?).try_into()?;
        let value = ServiceValue {
            index: service.index,
            table_size: limits::MAGLEV_SIZE,
            mode: 0,
            flags: 0,
        };
        Ok(services.insert(service.key(), value, 0)?)
    }

    fn attach(&mut self) -> Result<()> {
        let netns = File::open("/proc/thread-self/ns/net")?;
        let steer: &mut SkLookup = program(&mut self.object, "sk_steer")?;
        steer.load()?;
        let id = steer.attach(netns)?;
        FdLink::from(steer.take_link(id)?).pin(self.pins.join("links/netns-sk_steer"))?;
        for (name, hook) in [
            ("tc_ingress", TcAttachType::Ingress),
            ("tc_egress", TcAttachType::Egress),
        ] {
            let classifier: &mut SchedClassifier = program(&mut self.object, name)?;
            classifier.load()?;
            for interface in INTERFACES {
                let id = classifier.attach(interface, hook)?;
                let link: FdLink = classifier.take_link(id)?.try_into()?;
                link.pin(self.pins.join(format!("links/{interface}-{name}")))?;
            }
        }
        let xdp: &mut Xdp = program(&mut self.object, "xdp_balancer")?;
        xdp.load()?;
        for interface in INTERFACES {
            let id = xdp.attach(interface, XdpMode::Driver)?;
            let link: FdLink = xdp.take_link(id)?.try_into()?;
            link.pin(self.pins.join(format!("links/{interface}-xdp_balancer")))?;
        }
        Ok(())
    }

    fn pin_programs(&mut self) -> Result<()> {
        for name in ["xdp_balancer", "tc_ingress", "tc_egress", "sk_steer"] {
            let program = self.object.program_mut(name).context(name)?;
            program.pin(self.pins.join("programs").join(name))?;
        }
        Ok(())
    }
}

fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    Ok(object.program_mut(name).context(name.to_owned())?.try_into()?)
}

/// The object, unpacked.
fn object() -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/layouts/layout-1.o.gz");
    let output = Command::new(tool("gzip")?).arg("-dc").arg(&path).output()?;
    anyhow::ensure!(output.status.success(), "gzip -dc {} failed", path.display());
    Ok(output.stdout)
}
