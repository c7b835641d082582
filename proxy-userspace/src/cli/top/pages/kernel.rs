//! Drops by reason, what else the kernel plane counts, and what was judged.

use crate::{
    admin::status::{DropStatus, KernelStatus},
    cli::{
        judge::{Concern, Health, Judgement, advice},
        top::{
            sample::Pair,
            sheet::{Cell, Column, Row, Sheet, number, word},
        },
    },
};

const DROPS: [Column; 4] = [
    word("DROP REASON", 0),
    number("DROPS/S", 0),
    number("PACKETS", 1),
    word("LOOK AT", 2),
];

/// Those that happened before those that never did.
pub(super) fn drops(pair: Pair<'_>) -> Sheet {
    let before = |label: &str| {
        let drops = pair.before()?.kernel.drops.iter();
        drops
            .clone()
            .find(|drop| drop.reason == label)
            .map(|drop| drop.packets)
    };
    let row = |drop: &DropStatus| {
        let (concern, remedy) = advice(&drop.reason);
        let rate = pair.rate(drop.packets, before(&drop.reason));
        let is_now = rate.is_some_and(|rate| rate > 0.0) && concern == Concern::Operator;
        Row {
            key: drop.reason.clone(),
            cells: vec![
                Cell::word(&drop.reason),
                Cell::rate(rate),
                Cell::count(drop.packets),
                Cell::word(remedy),
            ],
            health: if is_now { Health::Degraded } else { Health::Healthy },
            detail: remedy.into(),
        }
    };
    let mut all: Vec<&DropStatus> = pair.now.status.kernel.drops.iter().collect();
    all.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    Sheet {
        columns: &DROPS,
        rows: all.into_iter().map(row).collect(),
    }
}

const PLANE: [Column; 6] = [
    word("OF", 0),
    word("WHAT", 0),
    word("STATE", 0),
    number("COUNT", 1),
    number("PER SECOND", 1),
    word("NOTE", 2),
];

/// Both planes, interfaces, flows, steering and tunnels.
pub(super) fn plane(pair: Pair<'_>) -> Sheet {
    let status = &pair.now.status;
    let kernel = &status.kernel;
    let mut rows = vec![
        state(
            "plane",
            "kernel",
            kernel.absent.as_ref().map_or("up", |_| "absent"),
            kernel.absent.as_deref().unwrap_or(&kernel.pin_path),
        ),
        state("plane", "L7", &status.l7.steering, ""),
    ];
    for interface in &kernel.interfaces {
        let warning = interface.warning.as_deref().unwrap_or_default();
        rows.push(state("interface", &interface.name, &interface.xdp, warning));
    }
    if kernel.absent.is_none() {
        rows.push(count("flows", "NAT", kernel.flows, None));
        rows.push(count("flows", "without NAT", kernel.tracked_flows, None));
    }
    let before = pair.before().map(|before| &before.kernel);
    let steered = |kernel: &KernelStatus, outcome: &str| {
        let seen = kernel.steering.iter().find(|one| one.outcome == outcome);
        seen.map(|one| one.connections)
    };
    for one in &kernel.steering {
        let before = before.and_then(|before| steered(before, &one.outcome));
        let rate = pair.rate(one.connections, before);
        rows.push(count("steering", &one.outcome, one.connections, Some(rate)));
    }
    let delivered = |kernel: &KernelStatus, outcome: &str| {
        let seen = kernel.decap.iter().find(|one| one.outcome == outcome);
        seen.map(|one| one.packets)
    };
    for one in &kernel.decap {
        let before = before.and_then(|before| delivered(before, &one.outcome));
        let rate = pair.rate(one.packets, before);
        rows.push(count("tunnels", &one.outcome, one.packets, Some(rate)));
    }
    Sheet {
        columns: &PLANE,
        rows,
    }
}

fn state(of: &str, what: &str, state: &str, note: &str) -> Row {
    let is_out = of == "interface" && (state == "absent" || state == "refused");
    Row {
        key: format!("{of} {what}"),
        cells: vec![
            Cell::word(of),
            Cell::word(what),
            Cell::word(state),
            Cell::unknown(),
            Cell::unknown(),
            Cell::word(note),
        ],
        health: if is_out { Health::Degraded } else { Health::Healthy },
        detail: note.into(),
    }
}

/// `rate` is outer none where the count goes up and down.
fn count(of: &str, what: &str, count: u64, rate: Option<Option<f64>>) -> Row {
    Row {
        key: format!("{of} {what}"),
        cells: vec![
            Cell::word(of),
            Cell::word(what),
            Cell::word(""),
            Cell::count(count),
            Cell::rate(rate.flatten()),
            Cell::word(""),
        ],
        health: Health::Healthy,
        detail: String::new(),
    }
}

const HEALTH: [Column; 3] = [word("HEALTH", 0), word("WHAT", 0), word("REMEDY", 1)];

/// All that was found, the worst first.
pub(super) fn health(judgement: &Judgement) -> Sheet {
    let rows = judgement.findings.iter().map(|finding| Row {
        key: finding.what.clone(),
        cells: vec![
            Cell::word(finding.word()),
            Cell::word(finding.what.replace('\n', " ")),
            Cell::word(&finding.remedy),
        ],
        health: finding.health,
        detail: finding.text().replace('\n', " "),
    });
    Sheet {
        columns: &HEALTH,
        rows: rows.collect(),
    }
}
