//! Affinity: a source's new flows go to the backend of its last one, for a time (docs/dataplane.md, "Affinity").

use crate::{
    flow,
    maps::{AFFINITIES, SERVICE_OPTIONS},
    tracked,
    words::{self, KeyWords},
};
use aya_ebpf::bindings::BPF_ANY;
use proxy_common::{
    affinity::{Affinity, ServiceOptions},
    guard::SourceKey,
    values::{NO_BACKEND, ServiceValue, backend_flags},
};

/// The backend that the source's last flow was opened to, if it takes another one; its index, or [`NO_BACKEND`]. Lookups: 3
/// (`service_options`, `affinities`, its backend).
#[inline(never)]
pub fn find(key: &KeyWords, service: &ServiceValue) -> u32 {
    let Some(options) = SERVICE_OPTIONS.get(service.index) else {
        return NO_BACKEND;
    };
    // SAFETY: read at once; programs replace values whole, and an entry that is reused under us has its backend checked.
    let Some(affinity) = (unsafe { AFFINITIES.get(&source(key, service, options)) }) else {
        return NO_BACKEND;
    };
    // Another CPU may have stored it a moment after this one asked for the time.
    let age = flow::now().saturating_sub(affinity.opened);
    match tracked::live(affinity.backend) {
        Some(backend)
            if backend.incarnation == affinity.incarnation
                && backend.flags & backend_flags::DRAINING == 0
                && age <= options.affinity_ns =>
        {
            affinity.backend
        }
        _ => NO_BACKEND,
    }
}

/// Remembers whom the source's flow was opened to. Two lookups, one of them an insert.
#[inline(never)]
pub fn store(key: &KeyWords, service: &ServiceValue, backend: u32, incarnation: u32) -> u32 {
    let Some(options) = SERVICE_OPTIONS.get(service.index) else {
        return 0;
    };
    let affinity = Affinity {
        backend,
        incarnation,
        opened: flow::now(),
    };
    // The least recently used source makes room: an error means that another CPU was faster.
    let _ = AFFINITIES.insert(&source(key, service, options), &affinity, u64::from(BPF_ANY));
    0
}

#[inline(always)]
fn source(key: &KeyWords, service: &ServiceValue, options: &ServiceOptions) -> SourceKey {
    let [a, b, c, d, ..] = *key.words();
    let network = if words::is_ipv4([a, b, c, d]) {
        [a, b, c, d & options.ipv4_mask]
    } else {
        let [e, f, g, h] = options.ipv6_mask;
        [a & e, b & f, c & g, d & h]
    };
    SourceKey {
        service: service.index,
        network,
    }
}
