//! The lines above the table: which daemon, how it is, what it does in all, and the pages.

use super::{Paint, cut};
use crate::{
    admin::status::{CounterStatus, Status},
    cli::{
        figures::{age, grouped, rate, scaled},
        judge::Health,
        top::{pages::Page, sample::Pair, state::Top},
    },
};
use ratatui::text::{Line, Span};

pub(super) fn lines(top: &Top, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    vec![
        daemon(top, paint, width),
        health(top, paint, width),
        Line::raw(cut(
            &top.pair().map(|pair| totals(pair, width)).unwrap_or_default(),
            width,
        )),
        pages(top, paint, width),
    ]
}

fn daemon(top: &Top, paint: Paint, width: usize) -> Line<'static> {
    let left = match top.pair() {
        None => format!("weir top {}", env!("CARGO_PKG_VERSION")),
        Some(pair) => {
            let status = &pair.now.status;
            let up = pair.now.unix_seconds.saturating_sub(status.started_unix_seconds);
            format!(
                "weir {}  pid {}  up {}  {}",
                status.version,
                status.pid,
                age(up),
                generations(status)
            )
        }
    };
    let right = match (top.is_paused, top.interval.subsec_millis()) {
        (true, _) => "PAUSED".to_owned(),
        (false, 0) => format!("every {}s", top.interval.as_secs()),
        (false, _) => format!("every {}ms", top.interval.as_millis()),
    };
    Line::styled(both_ends(&left, &right, width), paint.strong())
}

/// What is wanted, and what each plane has.
fn generations(status: &Status) -> String {
    let text =
        |generation: Option<u64>| generation.map_or_else(|| "none".into(), |number| number.to_string());
    let kernel = match &status.kernel.absent {
        Some(_) => "absent".into(),
        None => text(status.kernel.generation),
    };
    let l7 = text(status.l7.generation);
    format!("generation {} (kernel {kernel}, L7 {l7})", status.generation)
}

fn health(top: &Top, paint: Paint, width: usize) -> Line<'static> {
    match (&top.away, top.judgement()) {
        (Some(why), _) => {
            let state = if top.pair().is_some() {
                "unreachable, what is shown was its last answer"
            } else {
                "unreachable"
            };
            Line::styled(
                cut(&format!("{state}: {why}"), width),
                paint.health(Health::Failing),
            )
        }
        (None, Some(judgement)) => {
            Line::styled(cut(&judgement.line(), width), paint.health(judgement.health))
        }
        (None, None) => Line::raw("waiting for the daemon's first answer"),
    }
}

/// Less than that has no room for all totals.
const WIDE: usize = 100;

/// All services and all workers.
fn totals(pair: Pair<'_>, width: usize) -> String {
    let status = &pair.now.status;
    let shown = |per_second: Option<f64>| per_second.map_or_else(|| "-".into(), rate);
    let l4 = |figure: fn(&CounterStatus) -> u64| {
        pair.total(|status| {
            let counters = status
                .services
                .iter()
                .filter_map(|service| service.counters.as_ref());
            counters.map(figure).sum()
        })
    };
    let mut parts = Vec::new();
    if status.kernel.absent.is_none() {
        let bytes = l4(|it| it.bytes + it.reply_bytes).filter(|_| width >= WIDE);
        let drops = pair.total(|status| status.kernel.drops.iter().map(|drop| drop.packets).sum());
        parts.push(format!(
            "L4 {} pps, {}{} flows, {} drops/s",
            shown(l4(|it| it.packets + it.reply_packets)),
            bytes.map_or_else(String::new, |bytes| format!("{}/s, ", scaled(bytes as u64))),
            grouped(status.kernel.flows + status.kernel.tracked_flows),
            shown(drops)
        ));
    }
    if !status.l7.listeners.is_empty() {
        let connections = status.l7.workers.iter().map(|worker| worker.connections).sum();
        parts.push(format!(
            "L7 {} conns, {} req/s, {} 5xx/s",
            grouped(connections),
            shown(pair.l7_total(|worker| worker.requests)),
            shown(pair.l7_total(|worker| worker.responses[4]))
        ));
    }
    parts.join("; ")
}

/// The pages with their keys, that which is shown in brackets; the filter at the right.
fn pages(top: &Top, paint: Paint, width: usize) -> Line<'static> {
    let (page, service) = top.page();
    let mut spans = Vec::new();
    let mut length = 0;
    for (at, tab) in Page::TABS.iter().enumerate() {
        let is_here = *tab == page || (*tab == Page::Services && page == Page::Backends);
        let text = match (is_here, service) {
            (true, Some(service)) => format!("[{} {} > {service}]", at + 1, tab.title()),
            (true, None) => format!("[{} {}]", at + 1, tab.title()),
            (false, _) => format!(" {} {} ", at + 1, tab.title()),
        };
        length += text.chars().count();
        if length > width && !is_here {
            break;
        }
        let style = if is_here { paint.chosen() } else { paint.quiet() };
        spans.push(Span::styled(text, style));
    }
    let filter = &top.chosen().filter;
    if !filter.is_empty() {
        let text = cut(&format!("  filter: {filter}"), width.saturating_sub(length));
        spans.push(Span::styled(text, paint.strong()));
    }
    Line::from(spans)
}

/// The right one is left out where both don't fit.
fn both_ends(left: &str, right: &str, width: usize) -> String {
    let used = left.chars().count() + right.chars().count();
    match width.checked_sub(used) {
        Some(gap) if gap > 1 => format!("{left}{}{right}", " ".repeat(gap)),
        _ => cut(left, width),
    }
}
