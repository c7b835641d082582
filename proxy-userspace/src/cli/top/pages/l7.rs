//! L7 listeners and workers.

use crate::{
    admin::status::{ListenerStatus, WorkerStatus},
    cli::{
        figures::age,
        judge::{Health, first_expiry, listener_health},
        status::{addresses, certificate},
        top::{
            sample::Pair,
            sheet::{Cell, Column, Row, Sheet, number, word},
        },
    },
};

const LISTENERS: [Column; 6] = [
    word("LISTENER", 0),
    word("STATE", 0),
    word("PROTOCOL", 2),
    word("ADDRESS", 1),
    number("ROUTES", 4),
    word("CERTIFICATE", 3),
];

pub(super) fn listeners(pair: Pair<'_>) -> Sheet {
    let status = &pair.now.status;
    let now = pair.now.unix_seconds;
    let row = |listener: &ListenerStatus| {
        let first = first_expiry(listener, now);
        let health = if status.l7.generation.is_none() {
            Health::Failing
        } else {
            listener_health(listener, now)
        };
        Row {
            key: listener.name.clone(),
            cells: vec![
                Cell::word(&listener.name),
                Cell::word(health.word()),
                Cell::word(&listener.protocol),
                Cell::word(addresses(&listener.addresses)),
                Cell::count(listener.routes as u64),
                match first {
                    // Sorted by what is left; the least is what one looks for.
                    Some((_, left)) => Cell::number(-(left as f64), certificate(first)),
                    None => Cell::unknown(),
                },
            ],
            health,
            detail: detail(listener, now),
        }
    };
    Sheet {
        columns: &LISTENERS,
        rows: status.l7.listeners.iter().map(row).collect(),
    }
}

fn detail(listener: &ListenerStatus, now: u64) -> String {
    let mut text = listener.addresses.join(", ");
    for (name, end) in &listener.certificates {
        let left = end.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        let span = age(left.unsigned_abs());
        text += &if left > 0 {
            format!("; {name} ends in {span}")
        } else {
            format!("; {name} ended {span} ago")
        };
    }
    text
}

const WORKERS: [Column; 11] = [
    word("WORKER", 0),
    number("BUSY", 0),
    number("CONNECTIONS", 0),
    number("NEW/S", 2),
    number("REQUESTS/S", 0),
    number("4XX/S", 3),
    number("5XX/S", 1),
    number("IN/S", 4),
    number("OUT/S", 4),
    number("GENERATION", 5),
    number("REQUESTS", 6),
];

pub(super) fn workers(pair: Pair<'_>) -> Sheet {
    let l7 = &pair.now.status.l7;
    let row = |(number, worker): (usize, &WorkerStatus)| {
        let before = pair.worker_before(number);
        let rate = |figure: fn(&WorkerStatus) -> u64| pair.rate(figure(worker), before.map(figure));
        let is_behind = l7.generation.is_some_and(|wanted| wanted != worker.generation);
        let busy = pair.busy_percent(number);
        Row {
            key: number.to_string(),
            cells: vec![
                Cell::number(-(number as f64), number.to_string()),
                busy.map_or_else(Cell::unknown, |busy| Cell::number(busy, format!("{busy:.0} %"))),
                Cell::count(worker.connections),
                Cell::rate(rate(|it| it.accepted)),
                Cell::rate(rate(|it| it.requests)),
                Cell::rate(rate(|it| it.responses[3])),
                Cell::rate(rate(|it| it.responses[4])),
                Cell::byte_rate(rate(|it| it.received_bytes)),
                Cell::byte_rate(rate(|it| it.sent_bytes)),
                Cell::count(worker.generation),
                Cell::count(worker.requests),
            ],
            health: if is_behind {
                Health::Degraded
            } else {
                Health::Healthy
            },
            detail: worker_detail(worker),
        }
    };
    Sheet {
        columns: &WORKERS,
        rows: l7.workers.iter().enumerate().map(row).collect(),
    }
}

fn worker_detail(worker: &WorkerStatus) -> String {
    let mut text = format!("serves generation {}", worker.generation);
    if worker.accept_errors > 0 {
        text += &format!("; {} failures to accept", worker.accept_errors);
    }
    for (reason, count) in &worker.handshakes_failed {
        text += &format!("; handshakes failed as {reason}: {count}");
    }
    text
}
