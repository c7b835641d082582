//! The L7 plane as control sees it: starts workers, compiles Snapshots, opens sockets, publishes.

use super::{
    compile::{self, CompileError, Compiled, CompiledListener},
    connection::Order,
    counters::Counters,
    crew::Crew,
    log,
    pressure::Shortage,
    sockets, tls,
    trace::{Exporter, TraceCounters},
    worker::Command,
};
use crate::{
    kernel::steer::LoadMap,
    model::{Snapshot, l7::Listener},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Instant,
};
use tokio::sync::Notify;

/// Most ports that one range may open without the kernel plane, where each is a socket a worker.
const MOST_PORTS: usize = 1_024;

/// The running workers.
pub struct L7Plane {
    workers: Crew,
    compiled: Option<Arc<Compiled>>,
    /// Listeners of generations before, which workers and connections may use still: whoever lets go of one with thousands of routes last
    /// spends milliseconds on it, and shouldn't be a worker.
    retired: Vec<Arc<CompiledListener>>,
    /// What the workers listen on, by duplicates of their sockets: what another process is handed.
    listening: HashMap<SocketAddr, Vec<TcpListener>>,
    /// Sockets of the process before this one, for listeners of the first Snapshot.
    inherited: HashMap<SocketAddr, Vec<TcpListener>>,
    shared: tls::Shared,
    writers: log::Writers,
    exporter: Exporter,
    generation: Option<u64>,
    /// Workers that end from now on were told to.
    ending: bool,
}

/// Why the plane can't do what a Snapshot asks; nothing has changed.
#[derive(thiserror::Error, Debug)]
pub enum L7Error {
    /// TLS or a log format.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A socket.
    #[error("listener {listener}: {address}: {error}; {remedy}")]
    Listen {
        /// Its listener's name.
        listener: String,
        /// What was to be listened on.
        address: SocketAddr,
        /// The system's.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A range of ports that is too wide without steering.
    #[error(
        "listener {0}: more than {MOST_PORTS} ports without the kernel plane; list fewer, or run with it"
    )]
    Ports(String),
    /// Sockets that connections are steered to.
    #[error("sharing the workers' sockets: {0}; raise the limit of open files")]
    Sockets(io::Error),
    /// A thread.
    #[error("starting a worker: {0}")]
    Thread(io::Error),
}

impl L7Plane {
    /// Starts `count` workers, each pinned to one of the CPUs where asked for. With `loads` the kernel steers: each worker
    /// reports its load there.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn start(count: usize, pinned: bool, loads: Option<Arc<LoadMap>>) -> Result<Self, L7Error> {
        let writers = log::Writers::start().map_err(L7Error::Thread)?;
        let cpus = if pinned { allowed_cpus() } else { Vec::new() };
        Ok(Self {
            workers: Crew::start(count, cpus, loads).map_err(L7Error::Thread)?,
            compiled: None,
            retired: Vec::new(),
            listening: HashMap::new(),
            inherited: HashMap::new(),
            shared: tls::Shared::default(),
            writers,
            exporter: Exporter::default(),
            generation: None,
            ending: false,
        })
    }

    /// Whether the kernel chooses the worker of a connection.
    pub fn is_steered(&self) -> bool {
        self.workers.is_steered()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Their counters.
    pub fn counters(&self) -> impl Iterator<Item = &Arc<Counters>> {
        self.workers.counters()
    }

    /// What was published last: names, and what the workers count by them.
    pub fn compiled(&self) -> Option<&Compiled> {
        self.compiled.as_deref()
    }

    /// What became of spans, if any were traced.
    pub fn traced(&self) -> Option<&TraceCounters> {
        self.exporter.counters()
    }

    /// The generation that was published last.
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Hands each worker the socket that the kernel steers its connections to; more than there are workers go round.
    pub fn give_steered(&self, sockets: Vec<TcpListener>) {
        for (number, socket) in sockets.into_iter().enumerate() {
            self.workers
                .tell(number % self.workers.len(), Command::Steered(socket));
        }
    }

    /// Sockets that another process listened on: the next Snapshot's listeners use them, and what it has no listener for is closed.
    pub fn inherit(&mut self, sockets: Vec<(SocketAddr, TcpListener)>) {
        for (address, socket) in sockets {
            self.inherited.entry(address).or_default().push(socket);
        }
    }

    /// What the workers listen on, where the kernel doesn't steer.
    pub fn listening(&self) -> impl Iterator<Item = (SocketAddr, &TcpListener)> {
        (self.listening.iter()).flat_map(|(address, sockets)| sockets.iter().map(|socket| (*address, socket)))
    }

    /// Makes the workers serve a Snapshot: all of it, or nothing of it.
    ///
    /// # Errors
    /// TLS material, a log file or an address that can't be used; what ran goes on.
    pub fn apply(&mut self, snapshot: &Snapshot) -> Result<(), L7Error> {
        if self.ending {
            self.generation = Some(snapshot.generation);
            return Ok(());
        }
        let compiled = compile::compile(
            snapshot,
            self.compiled.as_deref(),
            &self.shared,
            &self.writers,
            &self.exporter,
            self.workers.len(),
        )?;
        if compiled.tracing.is_some() {
            self.exporter.start().map_err(L7Error::Thread)?;
        }
        let wanted = if self.is_steered() {
            HashSet::new()
        } else {
            wanted(&snapshot.listeners)?
        };
        let mut opened: Vec<Vec<(SocketAddr, TcpListener)>> =
            (0..self.workers.len()).map(|_| Vec::new()).collect();
        let mut held = HashMap::new();
        for address in wanted
            .iter()
            .filter(|address| !self.listening.contains_key(*address))
        {
            let failed = |error| listen_error(snapshot, *address, error);
            let sockets = self.sockets(*address).map_err(failed)?;
            for (worker, socket) in sockets.iter().enumerate() {
                let socket = socket.try_clone().map_err(failed)?;
                opened[worker % self.workers.len()].push((*address, socket));
            }
            held.insert(*address, sockets);
        }
        self.inherited.clear();
        self.listening.extend(held);
        let closed: Vec<SocketAddr> = (self.listening.keys())
            .filter(|address| !wanted.contains(*address))
            .copied()
            .collect();
        self.listening.retain(|address, _| wanted.contains(address));
        let compiled = Arc::new(compiled);
        let before = self.compiled.iter().flat_map(|before| &before.listeners);
        let stays =
            |one: &&Arc<CompiledListener>| compiled.listeners.iter().any(|other| Arc::ptr_eq(one, other));
        self.retired
            .extend(before.filter(|one| !stays(one)).map(Arc::clone));
        self.exporter.follow(compiled.tracing.clone());
        for (worker, opened) in opened.into_iter().enumerate() {
            let follow = Command::Follow {
                compiled: Arc::clone(&compiled),
                opened,
                closed: closed.clone(),
            };
            self.workers.tell(worker, follow);
        }
        self.compiled = Some(compiled);
        self.generation = Some(snapshot.generation);
        Ok(())
    }

    /// Listeners of generations before that nobody uses any longer, to be freed where that delays no request.
    pub fn take_unused(&mut self) -> Vec<Arc<CompiledListener>> {
        self.retired
            .extract_if(.., |one| Arc::strong_count(one) == 1)
            .collect()
    }

    /// How short of memory the process is.
    pub fn set_shortage(&self, shortage: Shortage) {
        self.workers.set_shortage(shortage);
    }

    /// Notified when a worker's thread ends.
    pub fn gone(&self) -> Arc<Notify> {
        self.workers.gone()
    }

    /// Workers that are gone, by a panic, and not replaced yet.
    pub fn missing(&self) -> Vec<usize> {
        if self.ending {
            return Vec::new();
        }
        self.workers.missing().collect()
    }

    /// Puts a new worker in the place of one that is gone, if it is time for that: with its number, its counters, its sockets and these
    /// that the kernel steers connections to. What its connections carried is lost; others' is untouched.
    ///
    /// # Errors
    /// The system's: it is still missing.
    pub fn replace(&mut self, worker: usize, steered: Vec<TcpListener>) -> Result<bool, L7Error> {
        let now = Instant::now();
        if !self.workers.may_replace(worker, now) {
            return Ok(false);
        }
        let count = self.workers.len();
        let sockets = self.listening.iter().flat_map(|(address, sockets)| {
            let its = sockets.iter().skip(worker).step_by(count);
            its.map(|socket| Ok((*address, socket.try_clone()?)))
        });
        let opened = sockets.collect::<io::Result<_>>().map_err(L7Error::Sockets)?;
        self.workers.replace(worker, now).map_err(L7Error::Thread)?;
        if let Some(compiled) = &self.compiled {
            let follow = Command::Follow {
                compiled: Arc::clone(compiled),
                opened,
                closed: Vec::new(),
            };
            self.workers.tell(worker, follow);
        }
        for socket in steered {
            self.workers.tell(worker, Command::Steered(socket));
        }
        Ok(true)
    }

    /// Has a worker panic.
    #[cfg(test)]
    pub fn panic(&self, worker: usize) {
        self.workers.tell(worker, Command::Panic);
    }

    /// Opens log files again, after they were renamed.
    pub fn reopen_logs(&self) {
        self.writers.reopen();
    }

    /// One socket a worker for an address, or more: those of the process before this one, none of which may be closed, since clients
    /// wait at each.
    fn sockets(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let inherited = self.inherited.get(&address).into_iter().flatten();
        let mut sockets = inherited
            .map(TcpListener::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        while sockets.len() < self.workers.len() {
            sockets.push(sockets::listen(address)?);
        }
        Ok(sockets)
    }

    /// Accepts no more, and gives what runs until then to finish. [`L7Plane::join`] waits for it.
    pub fn stop(&mut self, until: Instant) {
        self.end(until, Order::Finish);
    }

    /// The same, where others take what comes next: connections may have one more request.
    pub fn leave(&mut self, until: Instant) {
        self.end(until, Order::Leave);
    }

    fn end(&mut self, until: Instant, order: Order) {
        self.listening.clear();
        self.ending = true;
        for worker in 0..self.workers.len() {
            self.workers.tell(worker, Command::Stop(until, order));
        }
    }

    /// Whether every worker has ended.
    pub fn has_ended(&self) -> bool {
        self.workers.has_ended()
    }

    /// Waits for the workers, which were told to stop.
    pub fn join(&mut self) {
        self.workers.join();
        self.writers.drain();
        self.exporter.drain();
    }
}

fn wanted(listeners: &[Listener]) -> Result<HashSet<SocketAddr>, L7Error> {
    let mut wanted = HashSet::new();
    for listener in listeners {
        let ports = listener
            .addresses
            .iter()
            .map(|range| usize::from(range.last - range.first) + 1);
        if ports.sum::<usize>() > MOST_PORTS {
            return Err(L7Error::Ports(listener.name.to_string()));
        }
        let addresses = listener.addresses.iter().flat_map(|range| range.addresses());
        wanted.extend(addresses.map(|address| address.0));
    }
    Ok(wanted)
}

fn listen_error(snapshot: &Snapshot, address: SocketAddr, error: io::Error) -> L7Error {
    let has = |listener: &&Listener| {
        (listener.addresses.iter())
            .any(|range| range.address == address.ip() && range.contains(address.ip(), address.port()))
    };
    let listener = snapshot.listeners.iter().find(has);
    L7Error::Listen {
        listener: listener.map_or_else(String::new, |listener| listener.name.to_string()),
        address,
        remedy: sockets::remedy(&error),
        error,
    }
}

/// The CPUs that this process may run on.
fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}
