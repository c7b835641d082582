//! `weir status`: one screen, and above all whether it is healthy and, if not, what.

use super::{
    SocketArgs,
    figures::{age, grouped, scaled},
    judge::{self, Health, Judgement, judge},
    print,
    table::{Align::Left, Align::Right, Table},
    unix_seconds,
};
use crate::admin::{
    call,
    status::{BackendState, BackendStatus, CounterStatus, KernelStatus, L7Status, Status},
};
use anyhow::Context;
use hyper::Method;
use std::process::ExitCode;

/// Arguments of `weir status`.
#[derive(clap::Args)]
#[command(after_help = "\
The first line is the answer: healthy, degraded (something needs attention and traffic is served) or failing (a service or
a listener can't serve); then a line a problem with its remedy. With --check the exit code says the same: 0, 1, and 2,
which is also that of a daemon that doesn't answer. Without it any answer is 0, and none is 1.")]
pub(super) struct StatusArgs {
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    /// Exit with 0 if healthy, 1 if degraded, 2 if failing or nobody answers.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks the daemon and prints its answer.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    match show(args) {
        Ok(health) if args.check => ExitCode::from(health.exit_code()),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(if args.check {
                Health::Failing.exit_code()
            } else {
                1
            })
        }
    }
}

fn show(args: &StatusArgs) -> anyhow::Result<Health> {
    let body = call(&args.socket.socket, Method::GET, "/status", None::<&()>)?;
    if args.json {
        print(&body)?;
        if !args.check {
            return Ok(Health::Healthy);
        }
    }
    let status: Status = serde_json::from_slice(&body)
        .context("the daemon is of another version; use --json, or the weir it was started from")?;
    let now = unix_seconds();
    let judgement = judge(&status, None, now);
    if !args.json {
        print(render(&status, &judgement, now).as_bytes())?;
    }
    Ok(judgement.health)
}

fn render(status: &Status, judgement: &Judgement, now: u64) -> String {
    let mut parts = vec![answer(judgement) + &head(status, now)];
    if !status.services.is_empty() {
        parts.push(services(status));
        parts.push(backends(status, now));
    }
    if !status.l7.listeners.is_empty() {
        parts.push(listeners(&status.l7, now));
        parts.push(workers(&status.l7));
    }
    parts.extend(untracked(status));
    parts.extend(steering(&status.kernel));
    parts.extend(decap(&status.kernel));
    parts.extend(drops(&status.kernel));
    parts.join("\n")
}

/// What was asked: is it healthy, and if not, what.
fn answer(judgement: &Judgement) -> String {
    let mut text = format!("{}: {}\n", judgement.health.word(), judgement.summary);
    for finding in &judgement.findings {
        let lines = finding.text().replace('\n', "\n      ");
        text += &format!("  {}: {lines}\n", finding.word());
    }
    text
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

fn listeners(l7: &L7Status, now: u64) -> String {
    let mut table = Table::new([
        ("LISTENER", Left),
        ("PROTOCOL", Left),
        ("ADDRESS", Left),
        ("ROUTES", Right),
        ("CERTIFICATE", Left),
    ]);
    for listener in &l7.listeners {
        table.row([
            listener.name.clone(),
            listener.protocol.clone(),
            addresses(&listener.addresses),
            listener.routes.to_string(),
            certificate(judge::first_expiry(listener, now)),
        ]);
    }
    table.render()
}

/// The first, and how many more there are.
pub(super) fn addresses(all: &[String]) -> String {
    match all {
        [] => "-".into(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} (+{})", more.len()),
    }
}

/// When the first of a listener's certificates ends.
pub(super) fn certificate(first: Option<(&str, i64)>) -> String {
    match first {
        None => "-".into(),
        Some((_, left)) if left > 0 => format!("ends in {}", age(left.unsigned_abs())),
        Some((_, left)) => format!("ended {} ago", age(left.unsigned_abs())),
    }
}

fn workers(l7: &L7Status) -> String {
    let mut table = Table::new([
        ("WORKER", Left),
        ("CONNECTIONS", Right),
        ("ACCEPTED", Right),
        ("REQUESTS", Right),
        ("4XX", Right),
        ("5XX", Right),
        ("RECEIVED", Right),
        ("SENT", Right),
        ("FAILED HANDSHAKES", Right),
    ]);
    for (number, worker) in l7.workers.iter().enumerate() {
        let [_, _, _, client_errors, server_errors] = worker.responses;
        table.row([
            number.to_string(),
            grouped(worker.connections),
            grouped(worker.accepted),
            grouped(worker.requests),
            grouped(client_errors),
            grouped(server_errors),
            scaled(worker.received_bytes),
            scaled(worker.sent_bytes),
            grouped(worker.handshakes_failed.values().sum()),
        ]);
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

/// Its state, and what the config says otherwise.
pub(super) fn state(backend: &BackendStatus) -> String {
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

/// Its weight, and what the config says otherwise.
pub(super) fn weight(backend: &BackendStatus) -> String {
    match &backend.overridden {
        Some(config) if config.weight != backend.weight => {
            format!("{} (config: {})", backend.weight, config.weight)
        }
        _ => backend.weight.to_string(),
    }
}

/// What its check says, and since when.
pub(super) fn health(backend: &BackendStatus, now: u64) -> String {
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

#[cfg(test)]
pub(crate) mod tests;
