//! Who may send to a service, and how much: prefixes and rates by source (docs/dataplane.md, "Protection").

use crate::{
    flow,
    maps::{SERVICE_LIMITS, SOURCE_RATES, SOURCE_RULES},
    words::{self, KeyWords},
};
use aya_ebpf::{bindings::BPF_ANY, btf_maps::lpm_trie::Key};
use proxy_common::{
    guard::{RuleKey, SourceKey, SourceRate, action},
    values::{ServiceValue, service_flags},
    verdict::DropReason,
};

/// Flags of services that are guarded.
pub const GUARDED: u32 = service_flags::RULES
    | service_flags::RULES_ALLOW
    | service_flags::PACKET_LIMIT
    | service_flags::CONNECTION_LIMIT;

/// No reason against a packet.
pub const ADMITTED: u64 = 0;

/// Whether a packet may come in: [`ADMITTED`], or one more than the code of the drop reason. `opens`: it opens a connection.
/// Lookups: 2 for rules (the service's trie, and in it), 2 for limits (what is allowed, what was used).
#[inline(never)]
pub fn admit(key: &KeyWords, service: &ServiceValue, opens: bool) -> u64 {
    if service.flags & (service_flags::RULES | service_flags::RULES_ALLOW) != 0 && !is_allowed(key, service) {
        return 1 + DropReason::Denied as u64;
    }
    let mut wanted = service.flags & service_flags::PACKET_LIMIT;
    if opens {
        wanted |= service.flags & service_flags::CONNECTION_LIMIT;
    }
    if wanted == 0 {
        return ADMITTED;
    }
    take(key, service, wanted)
}

/// [`admit`] as a result.
///
/// # Errors
/// Why the packet may not come in.
#[inline(always)]
pub fn check(key: &KeyWords, service: &ServiceValue, opens: bool) -> Result<(), DropReason> {
    match admit(key, service, opens) {
        ADMITTED => Ok(()),
        code => Err(DropReason::from_code((code - 1) as u32)),
    }
}

/// By the longest prefix that has the source; without one, what the service does with all others.
#[inline(always)]
fn is_allowed(key: &KeyWords, service: &ServiceValue) -> bool {
    let rule = RuleKey {
        address: key.key().source.bytes,
    };
    match SOURCE_RULES.get_value_ptr_mut(service.index, &Key::new(128, rule)) {
        // SAFETY: read at once; rules are replaced with their trie, never changed.
        Some(rule) => unsafe { (*rule).action == action::ALLOW },
        None => service.flags & service_flags::RULES_ALLOW == 0,
    }
}

/// Takes a token for a packet, and one for a connection, from the source's buckets.
#[inline(always)]
fn take(key: &KeyWords, service: &ServiceValue, wanted: u32) -> u64 {
    let Some(limits) = SERVICE_LIMITS.get(service.index) else {
        return ADMITTED;
    };
    let [a, b, c, d, ..] = *key.words();
    // IPv6 by /64: what one host may have for the asking.
    let is_ipv4 = words::is_ipv4([a, b, c, d]);
    let source = SourceKey {
        service: service.index,
        network: if is_ipv4 { [0, 0, c, d] } else { [a, b, 0, 0] },
    };
    let now = flow::now();
    let Some(rate) = SOURCE_RATES.get_ptr_mut(&source) else {
        let fresh = SourceRate {
            packets: limits.packet_burst.saturating_sub(1),
            connections: limits
                .connection_burst
                .saturating_sub(u32::from(wanted & service_flags::CONNECTION_LIMIT != 0)),
            packets_at: now,
            connections_at: now,
            packets_dropped: 0,
            connections_dropped: 0,
        };
        // Least recently used sources make room: an error means that another CPU was faster.
        let _ = SOURCE_RATES.insert(&source, &fresh, u64::from(BPF_ANY));
        return ADMITTED;
    };
    // SAFETY: a map value's pointer is valid until the program returns. CPUs that meet here may take a token too few or many.
    let rate = unsafe { &mut *rate };
    if wanted & service_flags::PACKET_LIMIT != 0 {
        refill(
            &mut rate.packets,
            &mut rate.packets_at,
            now,
            limits.packet_rate,
            limits.packet_burst,
        );
        if rate.packets == 0 {
            rate.packets_dropped += 1;
            return 1 + DropReason::PacketLimit as u64;
        }
        rate.packets -= 1;
    }
    if wanted & service_flags::CONNECTION_LIMIT != 0 {
        refill(
            &mut rate.connections,
            &mut rate.connections_at,
            now,
            limits.connection_rate,
            limits.connection_burst,
        );
        if rate.connections == 0 {
            rate.connections_dropped += 1;
            return 1 + DropReason::ConnectionLimit as u64;
        }
        rate.connections -= 1;
    }
    ADMITTED
}

/// Adds the whole tokens of the time since `at`, and leaves the rest of it for the next packet.
#[inline(always)]
pub fn refill(tokens: &mut u32, at: &mut u64, now: u64, rate: u32, burst: u32) {
    const SECOND: u64 = 1_000_000_000;
    // Another CPU may have counted a moment after this one asked for the time.
    let passed = now.saturating_sub(*at);
    // A bucket is full after so long; also bounds the product below.
    if passed >= SECOND * 60 || rate == 0 {
        *tokens = if rate == 0 { *tokens } else { burst };
        *at = now;
        return;
    }
    let added = passed * u64::from(rate) / SECOND;
    if added == 0 {
        return;
    }
    let filled = u64::from(*tokens) + added;
    if filled >= u64::from(burst) {
        *tokens = burst;
        *at = now;
    } else {
        *tokens = filled as u32;
        *at += added * SECOND / u64::from(rate);
    }
}
