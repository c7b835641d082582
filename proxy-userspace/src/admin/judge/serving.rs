//! What serves: services and their backends, listeners' certificates, workers.

use super::{Finding, Health, find};
use crate::{
    admin::figures::{age, counted},
    admin::status::{BackendState, BackendStatus, L7Status, ListenerStatus, MemoryStatus, ServiceStatus},
};

/// A certificate that ends sooner needs attention.
const EXPIRES_SOON_SECONDS: i64 = 14 * 86_400;

/// While a worker has so many connections, one that never got any is not there for them.
const MANY_CONNECTIONS: u64 = 64;

/// A service's own health, whatever the planes do.
pub(crate) fn service_health(service: &ServiceStatus) -> Health {
    if service
        .backends
        .iter()
        .all(|backend| backend.effective_weight == 0)
    {
        Health::Failing
    } else if service
        .backends
        .iter()
        .any(|backend| backend.state == BackendState::Unhealthy)
    {
        Health::Degraded
    } else {
        Health::Healthy
    }
}

/// One finding a service at most: of 4,096 backends that fail, one is shown.
pub(crate) fn services(services: &[ServiceStatus], findings: &mut Vec<Finding>) {
    for service in services {
        let name = &service.name;
        let backends = &service.backends;
        let failing: Vec<&BackendStatus> = (backends.iter())
            .filter(|backend| backend.state == BackendState::Unhealthy)
            .collect();
        let total = counted(backends.len(), "backend");
        let health = service_health(service);
        let (what, remedy) = match (health, failing.first()) {
            (Health::Failing, None) if backends.is_empty() => (
                format!(
                    "service {name} has no backend: cluster {} is empty",
                    service.cluster
                ),
                "give it endpoints; do their names resolve?",
            ),
            (Health::Failing, None) => (
                format!("service {name}: none of {total} takes flows: all drain or have weight 0"),
                "`weir endpoint set CLUSTER ADDR --undrain`, or `--weight N`",
            ),
            (Health::Failing, Some(first)) => (
                format!("service {name}: none of {total} takes flows: {}", cause(first)),
                "look at the endpoints, and at the cluster's health_check",
            ),
            (Health::Degraded, Some(first)) => (
                format!(
                    "service {name}: {} of {total} unhealthy: {}",
                    failing.len(),
                    cause(first)
                ),
                "look at that endpoint, and at the cluster's health_check",
            ),
            _ => continue,
        };
        find(findings, health, what, remedy);
    }
}

fn cause(backend: &BackendStatus) -> String {
    let error = backend
        .health
        .as_ref()
        .and_then(|health| health.last_error.as_deref());
    let error = error.unwrap_or("its check fails");
    // Most errors name the address themselves.
    if error.contains(&backend.address) {
        error.to_owned()
    } else {
        format!("{}: {error}", backend.address)
    }
}

/// The certificate of a listener that ends first: its name, and in how many seconds.
pub(crate) fn first_expiry(listener: &ListenerStatus, now: u64) -> Option<(&str, i64)> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let first = listener.certificates.iter().min_by_key(|(_, end)| **end);
    first.map(|(name, end)| (name.as_str(), end.saturating_sub(now)))
}

/// A listener's own health, by its certificates: without any that is valid it can't serve.
pub(crate) fn listener_health(listener: &ListenerStatus, now: u64) -> Health {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let ends = || listener.certificates.values();
    if ends().len() > 0 && ends().all(|end| *end <= now) {
        Health::Failing
    } else if ends().any(|end| end.saturating_sub(now) <= EXPIRES_SOON_SECONDS) {
        Health::Degraded
    } else {
        Health::Healthy
    }
}

pub(crate) fn certificates(l7: &L7Status, now: u64, findings: &mut Vec<Finding>) {
    for listener in &l7.listeners {
        let health = listener_health(listener, now);
        if health == Health::Healthy {
            continue;
        }
        let Some((name, left)) = first_expiry(listener, now) else {
            continue;
        };
        let span = age(left.unsigned_abs());
        let when = if left > 0 {
            format!("ends in {span}")
        } else {
            format!("ended {span} ago")
        };
        let what = format!("listener {}: the certificate of {name} {when}", listener.name);
        find(
            findings,
            health,
            what,
            "replace the file: it is read again by itself",
        );
    }
}

/// Short of memory.
pub(crate) fn memory(memory: &MemoryStatus, findings: &mut Vec<Finding>) {
    let mebibytes = |bytes: u64| bytes >> 20;
    let used = format!(
        "memory: {} of {} MiB",
        mebibytes(memory.resident_bytes),
        mebibytes(memory.limit_bytes.unwrap_or(0))
    );
    let (health, then) = match memory.shortage.as_str() {
        "full" => (Health::Failing, "new connections are closed"),
        "near" => (Health::Degraded, "idle connections are closed sooner"),
        _ => return,
    };
    find(
        findings,
        health,
        format!("{used}: {then}"),
        "raise limits.memory_bytes or the control group's limit, or lower max_connections",
    );
}

/// Access logs that can't be written now.
pub(crate) fn access_logs(l7: &L7Status, findings: &mut Vec<Finding>) {
    for listener in &l7.listeners {
        if let Some(error) = &listener.log_error {
            let lost = counted(listener.log_lines_dropped as usize, "line");
            let what = format!("listener {}: {error}; {lost} lost so far", listener.name);
            find(
                findings,
                Health::Degraded,
                what,
                "make room: it is tried again by itself",
            );
        }
    }
}

pub(crate) fn workers(l7: &L7Status, before: Option<&L7Status>, findings: &mut Vec<Finding>) {
    let errors = |l7: &L7Status| l7.workers.iter().map(|worker| worker.accept_errors).sum::<u64>();
    let remedy = "raise the limit of open files (LimitNOFILE, `ulimit -n`)";
    match before {
        Some(before) if errors(l7) > errors(before) => {
            find(
                findings,
                Health::Degraded,
                "workers fail to accept connections",
                remedy,
            );
        }
        None if errors(l7) > 0 => {
            let what = format!(
                "workers failed to accept {}",
                counted(errors(l7) as usize, "time")
            );
            find(findings, Health::Healthy, what, remedy);
        }
        _ => {}
    }
    panics(l7, before, findings);
    let is_busy = l7
        .workers
        .iter()
        .any(|worker| worker.connections >= MANY_CONNECTIONS);
    for (number, worker) in l7.workers.iter().enumerate() {
        if is_busy && worker.accepted == 0 {
            let what = format!("worker {number} has accepted nothing while others have many connections");
            find(
                findings,
                Health::Degraded,
                what,
                "its CPU may be taken: `weir top`, `top -H -p PID`",
            );
        }
        // One that has just begun serves nothing yet.
        if Some(worker.generation) != l7.generation && l7.generation.is_some() && !worker.missing {
            let what = format!("worker {number} still serves generation {}", worker.generation);
            find(
                findings,
                Health::Degraded,
                what,
                "its CPU may be taken: `weir top`, `top -H -p PID`",
            );
        }
    }
}

/// Bugs of weir: what they ended is replaced, and what can't be replaced is serious.
fn panics(l7: &L7Status, before: Option<&L7Status>, findings: &mut Vec<Finding>) {
    let remedy = "a bug of weir: the log says where (`panic in`); please report it";
    for (number, worker) in l7.workers.iter().enumerate() {
        let earlier = before.and_then(|before| before.workers.get(number));
        if worker.missing {
            let what = format!("worker {number} has ended and is not replaced yet: its clients wait");
            find(findings, Health::Failing, what, remedy);
        } else if worker.panics > earlier.map_or(0, |earlier| earlier.panics) {
            // Counters alone say nothing of now.
            let health = earlier.map_or(Health::Healthy, |_| Health::Degraded);
            let times = counted(worker.panics as usize, "time");
            let what = match worker.replaced {
                0 => format!("worker {number} panicked {times}"),
                replaced => format!("worker {number} panicked {times} and was replaced {replaced}"),
            };
            find(findings, health, what, remedy);
        }
    }
}
