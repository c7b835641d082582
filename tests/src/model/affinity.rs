//! A source's new flows go to the backend of its last one, for a time (docs/dataplane.md, "Affinity").

use super::Model;
use proxy_common::{
    affinity::Affinity,
    values::{ServiceValue, backend_flags},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Model {
    /// The backend that a source's next flow goes to, if it has one.
    pub(super) fn affine(&self, service: &ServiceValue, source: IpAddr) -> Option<u32> {
        let rule = self.affinity_rules.get(&service.index)?;
        let entry = self.affinities.get(&(service.index, network(source, *rule)))?;
        let backend = self.backends.get(&entry.backend)?;
        let takes_flows = backend.flags & (backend_flags::DEAD | backend_flags::DRAINING) == 0;
        let is_young = self.now <= entry.opened + rule.timeout.as_nanos() as u64;
        (backend.incarnation == entry.incarnation && takes_flows && is_young).then_some(entry.backend)
    }

    /// Notes whom a source's flow was opened to.
    pub(super) fn remember(&mut self, service: &ServiceValue, source: IpAddr, index: u32) {
        let Some(rule) = self.affinity_rules.get(&service.index) else {
            return;
        };
        let backend = self.backends.get(&index);
        let Some(backend) = backend.filter(|backend| backend.flags & backend_flags::DEAD == 0) else {
            return;
        };
        let entry = Affinity {
            backend: index,
            incarnation: backend.incarnation,
            opened: self.now,
        };
        self.affinities
            .insert((service.index, network(source, *rule)), entry);
    }
}

/// What of a source counts.
pub fn network(source: IpAddr, rule: weir::model::Affinity) -> IpAddr {
    match source {
        IpAddr::V4(address) => {
            let rest = 32 - u32::from(rule.ipv4_prefix);
            Ipv4Addr::from_bits((u64::from(address.to_bits()) >> rest << rest) as u32).into()
        }
        IpAddr::V6(address) => {
            let rest = 128 - u32::from(rule.ipv6_prefix);
            Ipv6Addr::from_bits(address.to_bits() >> rest << rest).into()
        }
    }
}
