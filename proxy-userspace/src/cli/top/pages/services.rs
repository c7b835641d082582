//! L4 services, and the backends of one.

use crate::{
    admin::status::{BackendState, BackendStatus, CounterStatus, ServiceStatus},
    cli::{
        judge::{Health, service_health},
        status::{health, state, weight},
        top::{
            sample::{Pair, service_key},
            sheet::{Cell, Column, Row, Sheet, number, word},
        },
    },
};
use std::collections::HashMap;

const SERVICES: [Column; 13] = [
    word("SERVICE", 0),
    word("STATE", 0),
    number("BACKENDS", 1),
    number("PPS", 0),
    number("BYTES/S", 2),
    number("FLOWS/S", 2),
    number("DROPS/S", 1),
    word("VIP", 4),
    number("REPLIES/S", 5),
    word("MODE", 3),
    word("CLUSTER", 6),
    number("PACKETS", 7),
    number("DROPS", 8),
];

pub(super) fn services(pair: Pair<'_>) -> Sheet {
    let earlier = pair.services_before();
    let has_plane = pair.now.status.kernel.absent.is_none();
    let row = |service: &ServiceStatus| {
        let key = service_key(service);
        let before = earlier.get(&key).and_then(|before| before.counters);
        let rates = Rates::new(pair, service.counters, before);
        let health = if has_plane {
            service_health(service)
        } else {
            Health::Failing
        };
        let all = service.backends.len();
        let taking = service
            .backends
            .iter()
            .filter(|backend| backend.effective_weight > 0);
        let taking = taking.count();
        Row {
            cells: vec![
                Cell::word(&service.name),
                Cell::word(health.word()),
                Cell::number(taking as f64, format!("{taking}/{all}")),
                Cell::rate(rates.of(|it| it.packets)),
                Cell::byte_rate(rates.of(|it| it.bytes)),
                Cell::rate(rates.of(|it| it.flows)),
                Cell::rate(rates.of(|it| it.drops)),
                Cell::word(format!("{} {}", service.protocol, service.address)),
                Cell::rate(rates.of(|it| it.reply_packets)),
                Cell::word(&service.mode),
                Cell::word(&service.cluster),
                total(service.counters, |it| it.packets),
                total(service.counters, |it| it.drops),
            ],
            health,
            detail: format!(
                "{} {} {}, cluster {}; Enter shows its backends",
                service.mode, service.protocol, service.address, service.cluster
            ),
            key,
        }
    };
    Sheet {
        columns: &SERVICES,
        rows: pair.now.status.services.iter().map(row).collect(),
    }
}

const BACKENDS: [Column; 10] = [
    word("BACKEND", 0),
    word("STATE", 0),
    number("WEIGHT", 3),
    number("EFFECTIVE", 5),
    number("SHARE", 1),
    number("PPS", 0),
    number("BYTES/S", 4),
    number("FLOWS/S", 2),
    number("PACKETS", 7),
    word("HEALTH CHECK", 6),
];

pub(super) fn backends(pair: Pair<'_>, service: &str) -> Sheet {
    let services = &pair.now.status.services;
    let now = services.iter().find(|one| service_key(one) == service);
    let before = pair.services_before().get(service).copied();
    let earlier: HashMap<&str, Option<CounterStatus>> = before
        .iter()
        .flat_map(|before| &before.backends)
        .map(|backend| (backend.address.as_str(), backend.counters))
        .collect();
    let row = |backend: &BackendStatus| {
        let before = earlier.get(backend.address.as_str()).copied().flatten();
        let rates = Rates::new(pair, backend.counters, before);
        let check = health(backend, pair.now.unix_seconds);
        Row {
            key: backend.address.clone(),
            cells: vec![
                Cell::word(&backend.address),
                Cell::word(state(backend)),
                Cell::number(f64::from(backend.weight), weight(backend)),
                Cell::count(backend.effective_weight.into()),
                Cell::number(backend.share_percent, format!("{:.1} %", backend.share_percent)),
                Cell::rate(rates.of(|it| it.packets)),
                Cell::byte_rate(rates.of(|it| it.bytes)),
                Cell::rate(rates.of(|it| it.flows)),
                total(backend.counters, |it| it.packets),
                Cell::word(&check),
            ],
            health: match backend.state {
                BackendState::Unhealthy => Health::Failing,
                BackendState::Draining => Health::Degraded,
                BackendState::Healthy | BackendState::Unknown => Health::Healthy,
            },
            detail: format!("health check: {check}"),
        }
    };
    Sheet {
        columns: &BACKENDS,
        rows: now.iter().flat_map(|now| &now.backends).map(row).collect(),
    }
}

fn total(counters: Option<CounterStatus>, figure: impl Fn(CounterStatus) -> u64) -> Cell {
    counters.map_or_else(Cell::unknown, |counters| Cell::count(figure(counters)))
}

/// Counters now and before.
struct Rates<'a> {
    pair: Pair<'a>,
    now: Option<CounterStatus>,
    before: Option<CounterStatus>,
}

impl<'a> Rates<'a> {
    fn new(pair: Pair<'a>, now: Option<CounterStatus>, before: Option<CounterStatus>) -> Self {
        Self { pair, now, before }
    }

    fn of(&self, figure: impl Fn(CounterStatus) -> u64) -> Option<f64> {
        self.pair.rate(figure(self.now?), self.before.map(figure))
    }
}
