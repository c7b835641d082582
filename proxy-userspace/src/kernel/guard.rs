//! A service's rules about sources and their limits, into the maps.

use super::{KernelError, batch};
use crate::model::{Guard, Rate};
use aya::maps::{MapData, lpm_trie::Key};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_LPM_TRIE;
use ipnet::IpNet;
use proxy_common::{
    guard::{RULES, RuleKey, RuleValue, ServiceLimits, action},
    net::Address,
};
use std::os::fd::AsFd;

/// `BPF_F_NO_PREALLOC` of include/uapi/linux/bpf.h: the kernel makes no other tries.
const TRIE_FLAGS: u32 = 1;

/// Whether there are rules at all.
pub(super) fn has_rules(guard: &Guard) -> bool {
    !guard.allow.is_empty() || !guard.deny.is_empty()
}

/// A trie of the service's rules.
pub(super) fn rules(guard: &Guard) -> Result<MapData, KernelError> {
    let count = guard.allow.len() + guard.deny.len();
    let making = |error| KernelError::refused(format!("making a trie of {count} rules"), error);
    let shape = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_LPM_TRIE as u32,
        size_of::<Key<RuleKey>>() as u32,
        size_of::<RuleValue>() as u32,
        RULES,
        TRIE_FLAGS,
    );
    let data = MapData::create(shape, "source_rules", None).map_err(making)?;
    let rules = guard.allow.iter().map(|prefix| (prefix, action::ALLOW));
    let rules = rules.chain(guard.deny.iter().map(|prefix| (prefix, action::DENY)));
    let (keys, values): (Vec<Key<RuleKey>>, Vec<RuleValue>) = rules
        .map(|(prefix, action)| (key(prefix), RuleValue { action }))
        .unzip();
    batch::update(data.fd().as_fd(), &keys, &values)
        .map_err(|error| KernelError::refused("writing rules", error))?;
    Ok(data)
}

fn key(prefix: &IpNet) -> Key<RuleKey> {
    let address = Address::from(prefix.network()).bytes;
    // IPv4 is held IPv4-mapped.
    let before = if prefix.network().is_ipv4() { 96 } else { 0 };
    Key::new(before + u32::from(prefix.prefix_len()), RuleKey { address })
}

/// What a source may send.
pub(super) fn limits(guard: &Guard) -> ServiceLimits {
    let rate = |rate: Option<Rate>| rate.map_or((0, 0), |rate| (rate.per_second, rate.burst));
    let (packet_rate, packet_burst) = rate(guard.packets);
    let (connection_rate, connection_burst) = rate(guard.connections);
    ServiceLimits {
        packet_rate,
        packet_burst,
        connection_rate,
        connection_burst,
    }
}
