//! Which service and which backend an index in the maps stands for, without the daemon.

use super::{KernelError, Pins, encode, maps::open};
use crate::model::{BackendAddr, ListenAddr};
use aya::maps::{Array, HashMap, MapData};
use proxy_common::{
    keys::ServiceKey,
    net::Protocol,
    values::{BackendValue, ServiceValue},
};
use std::collections::HashMap as Table;

/// Services and backends by index.
pub struct Names {
    services: HashMap<MapData, ServiceKey, ServiceValue>,
    backends: Array<MapData, BackendValue>,
    by_index: Table<u32, (ListenAddr, Protocol)>,
}

impl Names {
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let mut names = Self {
            services: open!(pins, "services", HashMap),
            backends: open!(pins, "backends", Array),
            by_index: Table::new(),
        };
        names.renew()?;
        Ok(names)
    }

    /// Reads the services again: a system call or two each.
    pub(super) fn renew(&mut self) -> Result<(), KernelError> {
        self.by_index.clear();
        for entry in self.services.iter() {
            let (key, value) =
                entry.map_err(|error| KernelError::refused("reading the map services", error))?;
            self.by_index.insert(value.index, encode::listener(&key));
        }
        Ok(())
    }

    /// The service of an index.
    pub fn service(&mut self, index: u32) -> Option<(ListenAddr, Protocol)> {
        if !self.by_index.contains_key(&index) && index != proxy_common::events::NO_SERVICE {
            // A new one. An error leaves it unknown.
            let _ = self.renew();
        }
        self.by_index.get(&index).copied()
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = (ListenAddr, Protocol)> {
        self.by_index.values().copied()
    }

    /// The backend that has an index now. One system call.
    pub fn backend(&self, index: u32) -> Option<BackendAddr> {
        let value = self.backends.get(&index, 0).ok()?;
        (value.incarnation != 0).then(|| encode::backend_addr(value.address, value.port))
    }
}
