//! `weir status`: one screen.

use super::{
    SocketArgs, print,
    table::{Align::Left, Align::Right, Table},
};
use crate::admin::{
    call,
    status::{BackendState, BackendStatus, CounterStatus, KernelStatus, Status},
};
use anyhow::Context;
use hyper::Method;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `weir status`.
#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// No daemon there.
pub(super) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let body = call(&args.socket.socket, Method::GET, "/status", None::<&()>)?;
    if args.json {
        return print(&body);
    }
    let status: Status = serde_json::from_slice(&body)
        .context("the daemon is of another version; use --json, or the weir it was started from")?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    print(render(&status, now).as_bytes())
}

fn render(status: &Status, now: u64) -> String {
    let mut parts = vec![head(status, now)];
    if !status.services.is_empty() {
        parts.push(services(status));
        parts.push(backends(status, now));
    }
    parts.extend(untracked(status));
    parts.extend(steering(&status.kernel));
    parts.extend(decap(&status.kernel));
    parts.extend(drops(&status.kernel));
    parts.join("\n")
}

fn head(status: &Status, now: u64) -> String {
    let kernel = &status.kernel;
    let plane = match (&kernel.absent, kernel.generation) {
        (Some(reason), _) => format!("no kernel plane ({reason})"),
        (None, Some(generation)) if generation == status.generation => "kernel plane up to date".into(),
        (None, Some(generation)) => format!("kernel plane at generation {generation}"),
        (None, None) => "kernel plane not yet written".into(),
    };
    let up = age(now.saturating_sub(status.started_unix_seconds));
    let mut text = format!(
        "weir {}, pid {}, up {up}, generation {}, {plane}\n",
        status.version, status.pid, status.generation
    );
    if kernel.absent.is_none() {
        let interfaces = kernel
            .interfaces
            .iter()
            .map(|it| format!("{} ({})", it.name, it.xdp));
        let interfaces: Vec<String> = interfaces.collect();
        text += &format!(
            "interfaces: {}; flows: {}",
            interfaces.join(", "),
            grouped(kernel.flows)
        );
        if kernel.tracked_flows > 0 {
            text += &format!(", tracked without NAT: {}", grouped(kernel.tracked_flows));
        }
        text.push('\n');
    }
    for interface in &kernel.interfaces {
        if let Some(warning) = &interface.warning {
            text += &format!("warning: {}: {warning}\n", interface.name);
        }
    }
    for warning in &status.warnings {
        text += &format!("warning: {warning}\n");
    }
    if let Some(error) = &status.last_error {
        let ago = age(now.saturating_sub(error.at_unix_seconds));
        text += &format!(
            "last error, {ago} ago: {}\n",
            error.error.trim_end().replace('\n', "\n  ")
        );
    }
    text
}

fn services(status: &Status) -> String {
    let mut table = Table::new([
        ("SERVICE", Left),
        ("VIP", Left),
        ("MODE", Left),
        ("CLUSTER", Left),
        ("PACKETS", Right),
        ("BYTES", Right),
        ("REPLIES", Right),
        ("FLOWS OPENED", Right),
        ("DROPS", Right),
    ]);
    for service in &status.services {
        table.row([
            service.name.clone(),
            format!("{} {}", service.protocol, service.address),
            service.mode.clone(),
            service.cluster.clone(),
            counted(service.counters, |it| grouped(it.packets)),
            counted(service.counters, |it| scaled(it.bytes)),
            counted(service.counters, |it| grouped(it.reply_packets)),
            counted(service.counters, |it| grouped(it.flows)),
            counted(service.counters, |it| grouped(it.drops)),
        ]);
    }
    table.render()
}

fn backends(status: &Status, now: u64) -> String {
    let mut table = Table::new([
        ("SERVICE", Left),
        ("BACKEND", Left),
        ("STATE", Left),
        ("WEIGHT", Left),
        ("SHARE", Right),
        ("PACKETS", Right),
        ("FLOWS OPENED", Right),
        ("HEALTH CHECK", Left),
    ]);
    for service in &status.services {
        for backend in &service.backends {
            table.row([
                service.name.clone(),
                backend.address.clone(),
                state(backend),
                weight(backend),
                format!("{:.1} %", backend.share_percent),
                counted(backend.counters, |it| grouped(it.packets)),
                counted(backend.counters, |it| grouped(it.flows)),
                health(backend, now),
            ]);
        }
    }
    table.render()
}

fn untracked(status: &Status) -> Option<String> {
    let mut table = Table::new([("FLOWS NOT REMEMBERED OF", Left), ("PACKETS", Right)]);
    let mut is_empty = true;
    for service in &status.services {
        let packets = service.counters.map_or(0, |counters| counters.untracked);
        if packets > 0 {
            table.row([service.name.clone(), grouped(packets)]);
            is_empty = false;
        }
    }
    (!is_empty).then(|| table.render())
}

fn steering(kernel: &KernelStatus) -> Option<String> {
    let mut table = Table::new([("L7 CONNECTIONS STEERED", Left), ("COUNT", Right)]);
    let seen: Vec<_> = kernel.steering.iter().filter(|one| one.connections > 0).collect();
    for one in &seen {
        table.row([one.outcome.clone(), grouped(one.connections)]);
    }
    (!seen.is_empty()).then(|| table.render())
}

fn decap(kernel: &KernelStatus) -> Option<String> {
    let mut table = Table::new([("THROUGH TUNNELS TO THIS HOST", Left), ("PACKETS", Right)]);
    let seen: Vec<_> = kernel.decap.iter().filter(|one| one.packets > 0).collect();
    for one in &seen {
        table.row([one.outcome.clone(), grouped(one.packets)]);
    }
    (!seen.is_empty()).then(|| table.render())
}

fn drops(kernel: &KernelStatus) -> Option<String> {
    let mut table = Table::new([("DROP REASON", Left), ("PACKETS", Right)]);
    let seen: Vec<_> = kernel.drops.iter().filter(|drop| drop.packets > 0).collect();
    for drop in &seen {
        table.row([drop.reason.clone(), grouped(drop.packets)]);
    }
    (!seen.is_empty()).then(|| table.render())
}

fn state(backend: &BackendStatus) -> String {
    let word = match backend.state {
        BackendState::Healthy => "healthy",
        BackendState::Unhealthy => "unhealthy",
        BackendState::Draining => "draining",
        BackendState::Unknown => "unknown",
    };
    match &backend.overridden {
        Some(config) if config.drain != backend.drain && config.drain => format!("{word} (config: drain)"),
        Some(config) if config.drain != backend.drain => format!("{word} (config: no drain)"),
        _ => word.into(),
    }
}

fn weight(backend: &BackendStatus) -> String {
    match &backend.overridden {
        Some(config) if config.weight != backend.weight => {
            format!("{} (config: {})", backend.weight, config.weight)
        }
        _ => backend.weight.to_string(),
    }
}

fn health(backend: &BackendStatus, now: u64) -> String {
    let Some(health) = &backend.health else {
        return "none".into();
    };
    let Some(changed) = health.changed_unix_seconds else {
        return match &health.last_error {
            Some(error) if backend.state == BackendState::Unhealthy => error.clone(),
            Some(error) => format!("no verdict yet, {error}"),
            None => "no verdict yet".into(),
        };
    };
    let since = age(now.saturating_sub(changed));
    match (backend.state, &health.last_error) {
        (BackendState::Unhealthy, Some(error)) => format!("fails for {since}: {error}"),
        (BackendState::Unhealthy, None) => format!("fails for {since}"),
        _ => format!("passes for {since}"),
    }
}

fn counted(counters: Option<CounterStatus>, cell: impl FnOnce(CounterStatus) -> String) -> String {
    counters.map_or_else(|| "-".into(), cell)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes to three digits or so.
fn scaled(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// The two greatest units: 3d 4h, 5m 6s.
fn age(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown: Vec<String> = parts[first..]
        .iter()
        .take(2)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests;
