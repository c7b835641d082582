//! The kernel plane: loads the programs, adopts what is pinned, and keeps the maps equal to a Snapshot.

mod apply;
mod attach;
mod batch;
mod capacity;
mod counters;
mod decap;
mod encode;
mod error;
mod events;
mod expire;
mod guard;
mod host_settings;
mod ids;
mod interfaces;
mod links;
mod maps;
mod migrate;
mod names;
mod news;
mod object;
mod occupant;
mod pins;
mod plan;
mod question;
mod quic;
mod ranges;
mod slots;
pub mod steer;
mod table;
mod tracking;
mod vip_addresses;

pub use capacity::{MapCost, capacity};
pub use counters::{AttachedInterface, BackendCounters, KernelCounters, ServiceCounters};
pub use error::KernelError;
pub use events::{EventReader, clock_offset};
pub use names::Names;
pub use news::{News, NewsWatch};
pub use object::OBJECT;
pub use question::{AffinityFacts, BackendFacts, Condition, EntryFacts, FlowFacts, SlotState, Stage};
pub use steer::Steering;

use crate::{
    health::{Way, Ways},
    model::{
        BackendAddr, DaemonSettings, EndpointId, ForwardMode, ListenAddr, NatSettings, ServerId, Service,
        Snapshot, TunnelSettings,
    },
};
use decap::Decap;
use ids::Ids;
use interfaces::Interfaces;
use maps::Maps;
use migrate::Older;
use pins::Pins;
use proxy_common::{keys::FlowKey, net::Protocol, probe_mark, values::SAME_PORT};
use ranges::Ranges;
use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tracking::Rules;

/// How often, at most, services are looked at that nothing new is known of: the host's routes may have changed.
const LOOK: Duration = Duration::from_secs(1);

/// How many backends then, in turns: a question to the kernel each.
const LOOK_BACKENDS: usize = 1_024;

/// What loading gives.
type Loaded = (Maps, Ids, Steering, Decap, Interfaces);

/// The attached programs and their maps. Dropping it detaches nothing: maps and links are pinned.
pub struct KernelPlane {
    maps: Maps,
    ids: Ids,
    nat: NatSettings,
    tunnel: TunnelSettings,
    interfaces: Interfaces,
    steering: Steering,
    decap: Decap,
    ranges: Ranges,
    rules: HashMap<u32, Rules>,
    flows: usize,
    tracked_flows: usize,
    /// When services were looked at that nothing new was known of.
    looked_at: Instant,
    /// What the maps hold; none where some of it is to be looked at again.
    applied: Option<Snapshot>,
    /// Holds the lock on the maps.
    pins: Pins,
}

impl KernelPlane {
    /// Loads the programs, adopts maps and links under the pin path or makes them, attaches: to the interfaces, of which
    /// there may be none, or some later ([`KernelPlane::attend`]), and to the network namespace.
    ///
    /// Forwarding is never interrupted: maps are adopted as they are, or taken over from an older layout, and links are pointed to
    /// the new programs atomically (`BPF_LINK_UPDATE`).
    ///
    /// # Errors
    /// One line that says what is missing (privilege, bpffs, kernel feature, another XDP program) and the remedy.
    pub fn open(settings: &DaemonSettings) -> Result<Self, KernelError> {
        let mut pins = Pins::prepare(&settings.pin_path)?;
        let (maps, ids, steering, decap, interfaces) = match migrate::begin(&mut pins)? {
            None => Self::load(&pins, settings, None)?,
            Some(older) => older.take_over(&mut pins, |pins| Self::load(pins, settings, Some(older)))?,
        };
        Ok(Self {
            maps,
            ids,
            nat: settings.nat.clone(),
            tunnel: settings.tunnel.clone(),
            interfaces,
            steering,
            decap,
            ranges: Ranges::open(&pins)?,
            rules: HashMap::new(),
            flows: 0,
            tracked_flows: 0,
            looked_at: Instant::now(),
            applied: None,
            pins,
        })
    }

    /// Loads, fills the maps where an older layout's are taken over, and attaches.
    fn load(pins: &Pins, settings: &DaemonSettings, older: Option<&Older>) -> Result<Loaded, KernelError> {
        let object = object::load(pins, settings)?;
        let mut maps = Maps::open(pins)?;
        if let Some(older) = older {
            older.convert(pins, &mut maps)?;
        }
        let lock = pins.lock_settings()?;
        maps.write_settings(settings)?;
        drop(lock);
        maps::write_flow_budget(pins, settings.new_flows_per_second)?;
        host_settings::warn_of_port_overlap(settings.nat.ports);
        let ids = Ids::adopt(&maps)?;
        let steering = Steering::open(pins)?;
        let decap = Decap::open(pins, settings)?;
        let interfaces = Interfaces::open(object, pins, settings)?;
        Ok((maps, ids, steering, decap, interfaces))
    }

    /// Makes the maps equal to the snapshot, all or nothing per service; returns how many map
    /// writes it took. Nothing is flushed: what is already right is left alone. After an error the
    /// services not yet reached run as before.
    ///
    /// # Errors
    /// A map is full (nothing was written then), or the kernel refused a write.
    pub fn apply(&mut self, snapshot: &Snapshot) -> Result<usize, KernelError> {
        self.steering.check(&snapshot.listeners)?;
        self.ranges.check(snapshot)?;
        let before = self.applied.take();
        let sources = (&self.nat, &self.tunnel);
        let mut writes = apply::apply(&mut self.maps, &mut self.ids, sources, snapshot, before.as_ref())?;
        writes += self.ranges.apply(&self.pins, snapshot)?;
        writes += self.steering.apply(&snapshot.listeners)?;
        writes += self.decap.apply()?;
        if before.is_none_or(|before| !Arc::ptr_eq(&before.services, &snapshot.services)) {
            self.rules = rules(&self.ids, snapshot);
        }
        self.applied = Some(snapshot.clone());
        Ok(writes)
    }

    /// Attaches to interfaces that have appeared. Returns whether services have to be looked at with an apply, since sources and
    /// routes of backends may be others.
    pub fn attend(&mut self, news: &News) -> bool {
        let is_any_new = self.interfaces.attend(&self.pins);
        if is_any_new
            || news
                .addresses_of
                .iter()
                .any(|ifindex| self.interfaces.has(*ifindex))
        {
            self.ids.unsettle();
            self.applied = None;
            return true;
        }
        // A routing daemon may change a thousand routes a second, and there may be 100,000 backends.
        if self.looked_at.elapsed() < LOOK {
            return false;
        }
        self.looked_at = Instant::now();
        self.applied = None;
        self.ids.unsettle_next(LOOK_BACKENDS)
    }

    /// Where workers are registered for the connections that [`KernelPlane::apply`] steers.
    pub fn steering(&mut self) -> &mut Steering {
        &mut self.steering
    }

    /// Backends that the maps hold as dead: after a restart, what the last daemon knew.
    pub fn dead_backends(&self) -> Vec<(ListenAddr, Protocol, BackendAddr)> {
        self.ids.dead_backends()
    }

    /// Ends flows whose idle timeout has passed, and those of dead or removed backends.
    /// Returns how many flows were ended and how many are left.
    ///
    /// # Errors
    /// The kernel refused a read or a delete.
    pub fn expire_flows(&mut self) -> Result<(usize, usize), KernelError> {
        let (ended, left) = expire::expire(&mut self.maps, &self.ids, &self.rules)?;
        // The host's addresses may have changed, and with them where tunnels end.
        self.decap.apply()?;
        let (tracked_ended, tracked_left) = tracking::sweep(&mut self.maps, &mut self.ids, &self.rules)?;
        self.flows = left;
        self.tracked_flows = tracked_left;
        Ok((ended + tracked_ended, left + tracked_left))
    }

    /// The ways of probes to backends that get packets without NAT: by way of the first service that they are backends of.
    pub fn ways(&self, snapshot: &Snapshot) -> Ways {
        let mut ways = Ways::new();
        for service in snapshot
            .services
            .iter()
            .filter(|service| service.mode != ForwardMode::Nat)
        {
            let Some(live) = self.ids.service(&encode::service_key(service)) else {
                continue;
            };
            for (address, (index, _)) in &live.backends {
                let id = EndpointId {
                    cluster: service.cluster.clone(),
                    address: *address,
                };
                if let Some(mark) = probe_mark::mark(*index) {
                    let mut vip = service.address.0;
                    // Of several ports the one that the endpoint is written with.
                    if address.0.port() != SAME_PORT {
                        vip.set_port(address.0.port().clamp(vip.port(), service.span.last_port));
                    }
                    ways.entry(id).or_insert(Way { vip, mark });
                }
            }
        }
        ways
    }

    /// All counters, summed over CPUs.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn counters(&self) -> Result<KernelCounters, KernelError> {
        counters::read(
            &self.maps,
            &self.ids,
            (&self.steering, &self.decap),
            (self.flows, self.tracked_flows),
            self.interfaces.states(),
        )
    }

    /// Where packets of this flow to a service go: the client's address, the VIP's, as they arrive; with the server ID in their
    /// connection ID, if they have one that the service reads. None where the maps don't have it.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn flow(
        &self,
        service: &Service,
        key: &FlowKey,
        server_id: Option<ServerId>,
    ) -> Result<Option<FlowFacts>, KernelError> {
        question::flow(
            &self.maps,
            &self.ids,
            &encode::service_key(service),
            key,
            server_id,
        )
    }

    /// Removes every pinned map and link under the path, which detaches the programs, and the local routes of L7 VIPs. Returns the
    /// names of what was removed; an absent directory is no error.
    ///
    /// # Errors
    /// No permission, or the directory holds something that is not ours.
    pub fn unload(pin_path: &Path) -> Result<Vec<String>, KernelError> {
        pins::unload(pin_path, |path| {
            let mut removed = steer::remove_routes(path)?;
            removed.extend(decap::remove_vips(path)?);
            Ok(removed)
        })
    }
}

/// What sweeps have to know of each service, by its index.
fn rules(ids: &Ids, snapshot: &Snapshot) -> HashMap<u32, Rules> {
    let rules = snapshot.services.iter().filter_map(|service| {
        let rules = Rules {
            timeouts: service.idle_timeouts,
            tracking: service.tracking,
        };
        Some((ids.service(&encode::service_key(service))?.index, rules))
    });
    rules.collect()
}
