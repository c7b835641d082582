//! Where endpoints come from beside the config: DNS names, resolved and refreshed.
//!
//! A task a name asks for its IPv4 and IPv6 addresses, reports them when they are others than before, and asks again when
//! their time to live is over. What was found stays until something else is found: DNS that is dead, or suddenly knows nothing,
//! empties no cluster.

mod resolver;

use crate::model::Clusters;
use resolver::{Source, State};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};

/// What a name resolves to now; sent when it is something else than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The name, as in [`crate::model::DnsEndpoint`].
    pub name: Arc<str>,
    /// Its addresses, sorted and never empty, or why there was no answer.
    pub outcome: Result<Vec<IpAddr>, String>,
    /// Which task says so: answers of tasks that were since ended are void.
    task: u64,
}

/// The names that are being resolved. They follow the clusters, and end on drop.
pub struct Discovery {
    running: HashMap<Arc<str>, Running>,
    source: Arc<Source>,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    next_task: u64,
}

struct Running {
    task: u64,
    handle: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Answers that wait while control is busy; tasks beyond wait themselves.
const WAITING: usize = 1_024;

/// A name is asked for no more often than this, whatever its time to live is, …
const SOONEST: Duration = Duration::from_secs(1);
/// … and no less often than this.
const LATEST: Duration = Duration::from_secs(3_600);
/// After failures: 1 s, 2 s, 4 s, … up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl Discovery {
    /// Asks these servers, or where there are none those of /etc/resolv.conf. /etc/hosts comes first in either case.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let (sender, answers) = mpsc::channel(WAITING);
        Self {
            running: HashMap::new(),
            source: Arc::new(Source::new(servers.to_vec())),
            sender,
            answers,
            next_task: 0,
        }
    }

    /// Begins with names that came, ends with those that went. Must be called within a tokio runtime.
    pub fn follow(&mut self, clusters: &Clusters) {
        let wanted = clusters.values().flat_map(|cluster| &cluster.dns);
        let wanted: HashSet<&Arc<str>> = wanted.map(|endpoint| &endpoint.name).collect();
        self.running.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if !self.running.contains_key(name) {
                let running = self.start(name);
                self.running.insert(Arc::clone(name), running);
            }
        }
    }

    /// Begins again with names whose task a panic ended.
    pub fn revive(&mut self) {
        let ended = self
            .running
            .iter()
            .filter(|(_, running)| running.handle.is_finished());
        let ended: Vec<_> = ended.map(|(name, _)| Arc::clone(name)).collect();
        for name in ended {
            let running = self.start(&name);
            self.running.insert(name, running);
        }
    }

    fn start(&mut self, name: &Arc<str>) -> Running {
        self.next_task += 1;
        let answer = Answer {
            name: Arc::clone(name),
            outcome: Ok(Vec::new()),
            task: self.next_task,
        };
        let handle = tokio::spawn(resolve_for_ever(
            answer,
            Arc::clone(&self.source),
            self.sender.clone(),
        ));
        Running {
            task: self.next_task,
            handle,
        }
    }

    /// The next answer. Never ends; nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Answer {
        loop {
            match self.answers.recv().await {
                Some(answer) if self.is_current(&answer) => return answer,
                Some(_) => {}
                // Not while `sender` lives.
                None => std::future::pending().await,
            }
        }
    }

    /// Another answer, if one waits already.
    pub fn try_next(&mut self) -> Option<Answer> {
        loop {
            let answer = self.answers.try_recv().ok()?;
            if self.is_current(&answer) {
                return Some(answer);
            }
        }
    }

    /// The first answers to all names, or those that came within the time: a daemon that starts has endpoints before it has
    /// clients.
    pub async fn first(&mut self, most: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + most;
        let mut waiting: HashSet<Arc<str>> = self.running.keys().cloned().collect();
        let mut answers = Vec::new();
        while !waiting.is_empty()
            && let Ok(answer) = time::timeout_at(deadline, self.next()).await
        {
            waiting.remove(&answer.name);
            answers.push(answer);
        }
        answers
    }

    fn is_current(&self, answer: &Answer) -> bool {
        (self.running.get(&answer.name)).is_some_and(|running| running.task == answer.task)
    }
}

/// Ends when control is gone.
async fn resolve_for_ever(mut answer: Answer, source: Arc<Source>, answers: mpsc::Sender<Answer>) {
    let mut state = State::default();
    let mut failures = 0;
    loop {
        let found = source.look_up(&answer.name, &mut state).await;
        failures = if found.is_whole { 0 } else { failures + 1 };
        let pause = pause(found.lifetime, failures);
        if found.outcome != answer.outcome {
            answer.outcome = found.outcome;
            if answers.send(answer.clone()).await.is_err() {
                return;
            }
        }
        time::sleep(pause).await;
    }
}

/// How long to wait, with this time to live of what was found, after this many failures in a row.
fn pause(lifetime: Option<Duration>, failures: u32) -> Duration {
    let lifetime = lifetime.unwrap_or(LATEST).clamp(SOONEST, LATEST);
    match failures.checked_sub(1) {
        None => lifetime,
        Some(earlier) => {
            let backoff = SOONEST * 2u32.saturating_pow(earlier.min(8));
            // Many names that fail together don't ask again together.
            let backoff = backoff.min(LONGEST_BACKOFF).mul_f64(0.75 + fastrand::f64() / 4.0);
            backoff.max(SOONEST)
        }
    }
}

#[cfg(test)]
mod tests;
