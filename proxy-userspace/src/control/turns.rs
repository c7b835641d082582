//! The loop of the control thread: waits for events, gathers all that wait, takes one turn.

use super::{
    Core, Event, Step, Wish,
    chores::Chores,
    host::HostWatch,
    service::{self, Watchdog},
};
use crate::{
    discovery::Discovery,
    health::{Checks, Report},
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time,
};
use tracing::info;

/// Most events of a kind taken into one turn, so that a flood can't keep a turn from starting.
const EVENTS_PER_TURN: usize = 1_024;

/// What waits for the next turn waits at most this much longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The signals that control obeys. Made early: until then SIGHUP kills.
pub struct Signals {
    upgrade: Signal,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over SIGHUP, SIGUSR2, SIGTERM and SIGINT. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self {
            upgrade: signal(SignalKind::user_defined2())?,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Whom control listens to.
pub struct Inputs {
    /// The API, and the watch over files.
    pub events: mpsc::Receiver<Event>,
    /// The thread for upgrades.
    pub steps: mpsc::Receiver<Step>,
    /// Signals.
    pub signals: Signals,
    /// DNS.
    pub discovery: Discovery,
}

/// How control came to its end.
pub enum End {
    /// By a signal: all is stopped.
    Stopped,
    /// Another process is the daemon, which waits for this word; connections run here ([`drain`]). And the signal that came meanwhile.
    Left(oneshot::Sender<()>, Option<&'static str>),
}

/// Takes turns until SIGTERM or SIGINT, or until another process takes over. `upgrade` is what SIGUSR2 calls.
pub async fn run(core: &mut Core, inputs: &mut Inputs, upgrade: impl Fn()) -> End {
    let Inputs {
        events,
        steps,
        signals,
        discovery,
    } = inputs;
    let (report_sender, mut reports) = mpsc::channel(EVENTS_PER_TURN);
    let mut checks = Checks::new(report_sender);
    checks.follow(core.clusters(), &core.ways());
    let mut host = HostWatch::open(core);
    let mut watchdog = Watchdog::new();
    let mut chores = Chores::new(core);
    let mut ending = None;
    loop {
        let mut batch = Vec::new();
        let mut found = Vec::new();
        let mut is_hangup = false;
        tokio::select! {
            _ = signals.terminate.recv() => ending = Some("SIGTERM"),
            _ = signals.interrupt.recv() => ending = Some("SIGINT"),
            _ = signals.upgrade.recv() => upgrade(),
            Some(step) = steps.recv() => {
                if let Some(waiting) = take_step(core, step, ending.is_some()).await {
                    return End::Left(waiting, ending);
                }
            }
            _ = signals.hangup.recv() => {
                is_hangup = true;
                batch.push(hang_up(core));
            }
            () = watchdog.tell() => {}
            chore = chores.next(core.guards_memory()) => chore.run(core, &mut checks, discovery),
            () = alarm(core.drain_alarm()) => {
                if core.advance_drain() {
                    return finish_drain(core);
                }
            }
            Some(event) = events.recv() => batch.push(event),
            Some(report) = reports.recv() => found.push(report),
            news = host.next() => core.attend(&news),
            answer = discovery.next() => batch.push(Event::Resolved(answer)),
        }
        // Amid a hand-over the next process may be about to serve: it leaves or takes back first.
        if let Some(signal) = ending
            && !core.is_handing_over
        {
            return stop(signal, core);
        }
        gather(events, &mut batch);
        gather(&mut reports, &mut found);
        batch.extend(current(&checks, found));
        let answers = std::iter::from_fn(|| discovery.try_next()).take(EVENTS_PER_TURN);
        batch.extend(answers.map(Event::Resolved));
        if batch.is_empty() {
            continue;
        }
        let begin = Instant::now();
        if core.turn(batch) {
            checks.follow(core.clusters(), &core.ways());
            discovery.follow(core.clusters());
        }
        if is_hangup {
            service::ready_again(&core.summary());
        }
        // Half of the time is the probes' and the API's: else a storm of verdicts, each worth a turn
        // over thousands of endpoints, would starve the very probes that it consists of.
        time::sleep(begin.elapsed().min(LONGEST_PAUSE)).await;
    }
}

/// Logs were rotated, or the config is to be read.
fn hang_up(core: &Core) -> Event {
    service::reloading();
    core.reopen_logs();
    Event::Wish(Wish::hangup())
}

/// Never, without a time.
async fn alarm(at: Option<time::Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Does a step of an upgrade; returns who waits for this process to have left, if that was the last.
async fn take_step(core: &mut Core, step: Step, is_ending: bool) -> Option<oneshot::Sender<()>> {
    match step {
        Step::HandOver(asker) => {
            let _gone = asker.send(core.hand_over().map_err(|error| error.to_string()));
        }
        Step::TakeBack(asker, told) => {
            core.take_back();
            let _gone = asker.send(());
            if is_ending {
                let _told = time::timeout(LAST_WORD, told).await;
            }
        }
        Step::Leave(asker) => {
            core.leave();
            return Some(asker);
        }
    }
    None
}

/// Whatever waits already becomes part of the same turn.
fn gather<T>(queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>) {
    while batch.len() < EVENTS_PER_TURN
        && let Ok(event) = queue.try_recv()
    {
        batch.push(event);
    }
}

fn current(checks: &Checks, found: Vec<Report>) -> impl Iterator<Item = Event> {
    (found.into_iter())
        .filter(|report| checks.is_current(report))
        .map(Event::Health)
}

/// Requests that run have this long to finish when the daemon stops.
const FINISH: Duration = Duration::from_secs(10);

/// The last connection has ended, or its time is over.
fn finish_drain(core: &mut Core) -> End {
    core.plane.l7_mut().join();
    log_stop("drained", core);
    End::Stopped
}

fn stop(signal: &str, core: &mut Core) -> End {
    service::stopping();
    info!(
        "{signal}: requests that run have {} s to finish",
        FINISH.as_secs()
    );
    core.plane.forget_sockets();
    core.plane.l7_mut().stop(Instant::now() + FINISH);
    core.plane.l7_mut().join();
    log_stop(signal, core);
    End::Stopped
}

/// The thread for upgrades says why one failed within this time, before the daemon ends.
const LAST_WORD: Duration = Duration::from_secs(10);

/// How often it is looked whether the last connection has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How a process stays that was taken over from.
pub struct Stay {
    least: Duration,
    most: Duration,
}

impl Stay {
    /// At least so long, also without connections, unless it is told to end; at most so long with connections.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most }
    }
}

/// Lets connections finish after another process took over: until their time is over, or a signal, that has come or comes, shortens it.
pub async fn drain(core: &mut Core, signals: &mut Signals, signal: Option<&str>, stay: Stay) {
    let began = Instant::now();
    core.plane.l7_mut().leave(began + stay.most);
    let mut is_told = signal.is_some();
    if is_told {
        core.plane.l7_mut().stop(began + FINISH);
    }
    let mut looks = time::interval(LOOK);
    while !core.plane.l7().has_ended() || (!is_told && began.elapsed() < stay.least) {
        tokio::select! {
            _ = looks.tick() => continue,
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        is_told = true;
        core.plane.l7_mut().stop(Instant::now() + FINISH);
    }
    core.plane.l7_mut().join();
    info!("the last connections have ended");
}

fn log_stop(signal: &str, core: &Core) {
    if core.plane.absence().is_some() {
        info!("{signal}: stopped");
    } else {
        info!(
            "{signal}: stopped; the kernel goes on forwarding, without health checks; `weir unload` ends that"
        );
    }
}
