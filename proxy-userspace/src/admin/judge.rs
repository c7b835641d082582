//! Whether a daemon is healthy and, if not, what is wrong and what to do: for `weir status` and `weir top`.

mod drops;
mod serving;

pub(crate) use {
    drops::{Concern, advice},
    serving::{first_expiry, listener_health, service_health},
};

use super::figures::{age, counted};
use crate::admin::{
    drain::{DrainState, DrainStatus},
    status::{ErrorStatus, KernelStatus, Status},
};

/// How it is, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Health {
    /// Nothing needs attention.
    Healthy,
    /// Something needs attention, and traffic is served.
    Degraded,
    /// A service or a listener can't serve.
    Failing,
}

impl Health {
    /// In one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }

    /// What `weir status --check` exits with.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Failing => 2,
        }
    }
}

/// Something found; with [`Health::Healthy`] it is worth knowing and no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// What it does to health.
    pub(crate) health: Health,
    /// What is so.
    pub(crate) what: String,
    /// What to do about it; empty where `what` says it.
    pub(crate) remedy: String,
}

impl Finding {
    /// Its weight in one word.
    pub(crate) fn word(&self) -> &'static str {
        match self.health {
            Health::Healthy => "note",
            health => health.word(),
        }
    }

    /// In one line, as long as `what` has one.
    pub(crate) fn text(&self) -> String {
        if self.remedy.is_empty() {
            self.what.clone()
        } else {
            format!("{}; {}", self.what, self.remedy)
        }
    }
}

/// The answer to "is it healthy, and if not, what".
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Judgement {
    /// The worst of what was found.
    pub(crate) health: Health,
    /// What there is: services, backends that take flows, listeners.
    pub(crate) summary: String,
    /// The worst first; within that, from the planes to the endpoints.
    pub(crate) findings: Vec<Finding>,
}

impl Judgement {
    /// In one line: the health, and the worst of what was found or what there is.
    pub(crate) fn line(&self) -> String {
        let word = self.health.word();
        let mut problems = self.findings.iter().filter(|one| one.health > Health::Healthy);
        let Some(worst) = problems.next() else {
            return format!("{word}: {}", self.summary);
        };
        let first_line = worst.what.lines().next().unwrap_or_default();
        match problems.count() {
            0 => format!("{word}: {first_line}"),
            more => format!("{word}, {} problems: {first_line}", more + 1),
        }
    }
}

/// Judges an answer of `GET /status`. Counters only grow, so that what they say of now takes an earlier answer of the
/// same daemon: without one, drops are worth a note, and with one, those that happened since are a problem.
pub(crate) fn judge(status: &Status, before: Option<&Status>, now: u64) -> Judgement {
    let before = before.filter(|before| {
        before.pid == status.pid && before.started_unix_seconds == status.started_unix_seconds
    });
    let mut findings = Vec::new();
    findings.extend(draining(&status.drain));
    planes(status, &mut findings);
    interfaces(&status.kernel, !status.services.is_empty(), &mut findings);
    findings.extend(status.last_error.as_ref().map(|error| last_change(error, now)));
    serving::services(&status.services, &mut findings);
    serving::certificates(&status.l7, now, &mut findings);
    serving::memory(&status.l7.memory, &mut findings);
    serving::access_logs(&status.l7, &mut findings);
    serving::workers(&status.l7, before.map(|before| &before.l7), &mut findings);
    drops::judge(&status.kernel, before.map(|before| &before.kernel), &mut findings);
    for warning in &status.warnings {
        find(&mut findings, Health::Healthy, warning.clone(), "");
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.health));
    Judgement {
        health: findings
            .iter()
            .map(|finding| finding.health)
            .max()
            .unwrap_or(Health::Healthy),
        summary: summary(status),
        findings,
    }
}

fn find(findings: &mut Vec<Finding>, health: Health, what: impl Into<String>, remedy: impl Into<String>) {
    findings.push(Finding {
        health,
        what: what.into(),
        remedy: remedy.into(),
    });
}

/// 3 services, 11 of 12 backends, 2 listeners.
fn summary(status: &Status) -> String {
    let mut parts = Vec::new();
    let listeners = status.l7.listeners.len();
    if !status.services.is_empty() || listeners == 0 {
        let backends = || status.services.iter().flat_map(|service| &service.backends);
        let taking = backends().filter(|backend| backend.effective_weight > 0).count();
        parts.push(counted(status.services.len(), "service"));
        parts.push(format!("{taking} of {}", counted(backends().count(), "backend")));
    }
    if listeners > 0 {
        parts.push(counted(listeners, "listener"));
    }
    parts.join(", ")
}

fn draining(drain: &DrainStatus) -> Option<Finding> {
    let left = age(drain.seconds_left.unwrap_or_default());
    let (what, remedy) = match drain.state {
        DrainState::Serving => return None,
        DrainState::Notice => (
            format!("the daemon drains: its listeners close in {left}"),
            "`weir drain --cancel` has it go on",
        ),
        DrainState::Closing => {
            let connections = counted(drain.connections as usize, "connection");
            (
                format!("the daemon drains: its listeners are closed, {connections} to end within {left}"),
                "it ends then; start it to serve again",
            )
        }
    };
    Some(Finding {
        health: Health::Degraded,
        what,
        remedy: remedy.into(),
    })
}

fn planes(status: &Status, findings: &mut Vec<Finding>) {
    let kernel = &status.kernel;
    let wanted = status.generation;
    match (&kernel.absent, kernel.generation) {
        (Some(_), _) if status.services.is_empty() => {}
        (Some(reason), _) => {
            let services = counted(status.services.len(), "service");
            let what = format!("no kernel plane ({reason}): {services} not forwarded");
            let remedy = "start weir as root and without --no-kernel";
            find(findings, Health::Failing, what, remedy);
        }
        (None, None) => find(
            findings,
            Health::Failing,
            format!("the kernel plane holds no generation yet, wanted is {wanted}"),
            "the last error says why; it is tried again by itself",
        ),
        (None, Some(generation)) if generation != wanted => find(
            findings,
            Health::Degraded,
            format!("the kernel plane is at generation {generation}, wanted is {wanted}"),
            "the last error says why; it is tried again by itself",
        ),
        (None, Some(_)) => {}
    }
    match status.l7.generation {
        None if !status.l7.listeners.is_empty() => find(
            findings,
            Health::Failing,
            "no listener is served yet",
            "the last error says why; it is tried again by itself",
        ),
        Some(generation) if generation != wanted => find(
            findings,
            Health::Degraded,
            format!("the listeners serve generation {generation}, wanted is {wanted}"),
            "the last error says why; it is tried again by itself",
        ),
        _ => {}
    }
}

fn interfaces(kernel: &KernelStatus, has_services: bool, findings: &mut Vec<Finding>) {
    let is_out = |xdp: &str| xdp == "absent" || xdp == "refused";
    let all_out = kernel.interfaces.iter().all(|interface| is_out(&interface.xdp));
    for interface in &kernel.interfaces {
        let warning = interface.warning.as_deref().unwrap_or_default();
        let name = &interface.name;
        if is_out(&interface.xdp) {
            let health = if all_out && has_services {
                Health::Failing
            } else {
                Health::Degraded
            };
            find(
                findings,
                health,
                format!("interface {name} is {}", interface.xdp),
                warning,
            );
        } else if !warning.is_empty() {
            find(
                findings,
                Health::Healthy,
                format!("interface {name}: {warning}"),
                "",
            );
        }
    }
}

fn last_change(error: &ErrorStatus, now: u64) -> Finding {
    let ago = age(now.saturating_sub(error.at_unix_seconds));
    Finding {
        health: Health::Degraded,
        what: format!(
            "the last change was refused {ago} ago: {}",
            error.error.trim_end()
        ),
        remedy: String::new(),
    }
}

#[cfg(test)]
mod tests;
