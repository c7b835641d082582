//! Reads configs on a thread of its own, behind the workers, and frees what they were made into: a large one takes tens of milliseconds of CPU
//! time, and requests go before it.

use crate::config::{self, ConfigErrors, Loaded};
use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};
use tracing::debug;

/// Its niceness: a tenth of a worker's share where both want the same CPU (sched-nice-design in the kernel's docs). A worker that wakes is then let in at
/// once even after a busy moment, and a reload on a machine without a free moment takes ten times as long, and not for ever.
const NICENESS: i32 = 10;

/// The thread, from the first reload on: it keeps its memory from one to the next.
#[derive(Default)]
pub(super) struct Loader(Option<Running>);

struct Running {
    jobs: mpsc::Sender<Job>,
    outcomes: mpsc::Receiver<Result<Loaded, ConfigErrors>>,
}

enum Job {
    Load(PathBuf),
    Drop(Box<dyn Send>),
}

impl Loader {
    /// Frees what nobody uses any longer.
    pub(super) fn free(&self, unused: impl Send + 'static) {
        if let Some(running) = &self.0 {
            // It is freed here if the thread is gone.
            let _gone = running.jobs.send(Job::Drop(Box::new(unused)));
        }
    }

    /// Reads a config, and waits for it.
    ///
    /// # Errors
    /// Its mistakes.
    pub(super) fn load(&mut self, path: &Path) -> Result<Loaded, ConfigErrors> {
        let running = self.0.take().or_else(start);
        if let Some(running) = running
            && running.jobs.send(Job::Load(path.to_owned())).is_ok()
            && let Ok(outcome) = running.outcomes.recv()
        {
            self.0 = Some(running);
            return outcome;
        }
        // No thread to be had: slower for others, and no reason to refuse.
        config::load(path)
    }
}

fn start() -> Option<Running> {
    let (jobs, asked) = mpsc::channel::<Job>();
    let (answers, outcomes) = mpsc::channel();
    let serve = move || {
        // Of this thread alone, on Linux (setpriority(2)).
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            debug!("configs are read with a worker's priority: {error}");
        }
        let mut reader = config::Reader::default();
        while let Ok(job) = asked.recv() {
            match job {
                Job::Load(path) => {
                    if answers.send(reader.load(&path)).is_err() {
                        return;
                    }
                }
                Job::Drop(unused) => drop(unused),
            }
        }
    };
    let started = thread::Builder::new().name("config".into()).spawn(serve);
    started.ok().map(|_| Running { jobs, outcomes })
}
