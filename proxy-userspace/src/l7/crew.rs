//! The workers' threads: started, told, counted, and replaced when one is gone that nobody told to stop.

use super::{
    balance::Seat,
    counters::Counters,
    pressure::{Pressure, Shortage},
    worker::{self, Command, Start},
};
use crate::kernel::steer::LoadMap;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

/// A worker that was replaced so often within [`SPAN`] fails for a reason that will not go away: the next ones wait.
const AT_ONCE: usize = 3;

/// What counts as often.
const SPAN: Duration = Duration::from_secs(60);

/// How long the first of those waits; each further one twice as long.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest that any waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// All workers.
pub(super) struct Crew {
    workers: Vec<Handle>,
    /// Those to pin them to; empty where they are not pinned.
    cpus: Vec<usize>,
    loads: Option<Arc<LoadMap>>,
    gone: Arc<Notify>,
    pressure: Arc<Pressure>,
}

struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    counters: Arc<Counters>,
    thread: JoinHandle<io::Result<()>>,
    /// Set when the thread's work has ended, whatever ended it.
    gone: Arc<AtomicBool>,
    replaced: Replaced,
}

impl Crew {
    pub(super) fn start(count: usize, cpus: Vec<usize>, loads: Option<Arc<LoadMap>>) -> io::Result<Self> {
        let mut crew = Self {
            workers: Vec::with_capacity(count),
            cpus,
            loads,
            gone: Arc::default(),
            pressure: Arc::default(),
        };
        for index in 0..count {
            let handle = crew.hire(Seat { index, count }, Arc::default(), Replaced::default())?;
            crew.workers.push(handle);
        }
        Ok(crew)
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn is_steered(&self) -> bool {
        self.loads.is_some()
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &Arc<Counters>> {
        self.workers.iter().map(|worker| &worker.counters)
    }

    /// Tells a worker. One that is gone doesn't hear it, and its successor is told all that matters.
    pub(super) fn tell(&self, index: usize, command: Command) {
        if let Some(worker) = self.workers.get(index) {
            let _gone = worker.commands.send(command);
        }
    }

    /// All workers act on it from now on.
    pub(super) fn set_shortage(&self, shortage: Shortage) {
        self.pressure.set(shortage);
    }

    /// Notified when a worker's thread ends.
    pub(super) fn gone(&self) -> Arc<Notify> {
        Arc::clone(&self.gone)
    }

    /// Workers that are gone and not replaced yet.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let workers = self.workers.iter().enumerate();
        workers.filter_map(|(index, worker)| worker.gone.load(Ordering::Acquire).then_some(index))
    }

    /// Whether it is time for a successor of this one, which is gone.
    pub(super) fn may_replace(&self, index: usize, now: Instant) -> bool {
        (self.workers.get(index)).is_some_and(|worker| worker.replaced.is_due(now))
    }

    /// Puts a new worker in the place of one that is gone, with its number and its counters; it serves nothing yet.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(super) fn replace(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let count = self.workers.len();
        let before = &self.workers[index];
        let (counters, replaced) = (Arc::clone(&before.counters), before.replaced.and(now));
        counters.replaced();
        let successor = self.hire(Seat { index, count }, counters, replaced)?;
        let before = std::mem::replace(&mut self.workers[index], successor);
        // It has ended, but for its last instructions.
        if let Ok(Err(error)) = before.thread.join() {
            tracing::error!("worker {index} ended: {error}");
        }
        Ok(())
    }

    fn hire(&self, seat: Seat, counters: Arc<Counters>, replaced: Replaced) -> io::Result<Handle> {
        let start = Start {
            seat,
            counters: Arc::clone(&counters),
            cpu: (!self.cpus.is_empty()).then(|| self.cpus[seat.index % self.cpus.len()]),
            pressure: Arc::clone(&self.pressure),
            load: self.loads.as_ref().map(|loads| loads.writer(seat.index)),
        };
        let (commands, receiver) = mpsc::unbounded_channel();
        let gone = Arc::<AtomicBool>::default();
        let (flag, notify) = (Arc::clone(&gone), Arc::clone(&self.gone));
        let thread = thread::Builder::new()
            .name(format!("worker-{}", seat.index))
            .spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| worker::run(start, receiver)));
                flag.store(true, Ordering::Release);
                notify.notify_one();
                outcome.unwrap_or(Ok(()))
            })?;
        Ok(Handle {
            commands,
            counters,
            thread,
            gone,
            replaced,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.workers.iter().all(|worker| worker.thread.is_finished())
    }

    /// Waits for all, which were told to stop.
    pub(super) fn join(&mut self) {
        for worker in self.workers.drain(..) {
            if let Ok(Err(error)) = worker.thread.join() {
                tracing::error!("a worker ended: {error}");
            }
        }
    }
}

/// When a worker was replaced, the last times.
#[derive(Clone, Default, Debug)]
struct Replaced(Vec<Instant>);

impl Replaced {
    fn and(&self, now: Instant) -> Self {
        let mut times = self.0.clone();
        times.retain(|time| now.saturating_duration_since(*time) < SPAN);
        times.push(now);
        Self(times)
    }

    fn is_due(&self, now: Instant) -> bool {
        let recent = self
            .0
            .iter()
            .filter(|time| now.saturating_duration_since(**time) < SPAN);
        let Some(more) = recent.count().checked_sub(AT_ONCE) else {
            return true;
        };
        let doublings = u32::try_from(more).unwrap_or(u32::MAX).min(8);
        let pause = (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        (self.0.last()).is_none_or(|last| now.saturating_duration_since(*last) >= pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_less_and_less_often() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut replaced = Replaced::default();
        for _ in 0..AT_ONCE {
            assert!(replaced.is_due(begin));
            replaced = replaced.and(begin);
        }
        for (early, due) in [(4, 5), (14, 15), (34, 35)] {
            assert!(!replaced.is_due(after(early)), "{early}");
            assert!(replaced.is_due(after(due)), "{due}");
            replaced = replaced.and(after(due));
        }
        assert!(replaced.is_due(after(200)), "what is long ago doesn't count");
        assert_eq!(replaced.and(after(200)).0.len(), 1);
    }
}
