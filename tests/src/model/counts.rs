//! What the model counts.

use proxy_common::{
    counters::Counters,
    values::{FlowValue, flow_flags},
};
use std::collections::HashMap;

/// Packets, bytes, flows and drops.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// By service index.
    pub services: HashMap<u32, Counters>,
    /// By backend index.
    pub backends: HashMap<u32, Counters>,
}

impl Counts {
    pub(super) fn forwarded(&mut self, entry: &FlowValue, bytes: u64) {
        let service = self.services.entry(entry.service).or_default();
        let backend = self.backends.entry(entry.backend).or_default();
        for counters in [service, backend] {
            if entry.flags & flow_flags::REPLY != 0 {
                counters.reply_packets += 1;
                counters.reply_bytes += bytes;
            } else {
                counters.packets += 1;
                counters.bytes += bytes;
            }
        }
    }

    pub(super) fn direct(&mut self, service: u32, backend: u32, bytes: u64, opens: bool) {
        for counters in [
            self.services.entry(service).or_default(),
            self.backends.entry(backend).or_default(),
        ] {
            counters.packets += 1;
            counters.bytes += bytes;
            counters.flows += u64::from(opens);
        }
    }

    pub(super) fn opened(&mut self, entry: &FlowValue) {
        self.services.entry(entry.service).or_default().flows += 1;
        self.backends.entry(entry.backend).or_default().flows += 1;
    }
}
