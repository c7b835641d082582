//! One worker: a thread with a current-thread runtime that owns its sockets, connections, pools, timers and counters.

use super::{
    accept::{self, Ending},
    balance::Seat,
    compile::{Compiled, CompiledKind},
    connection::{Connection, Order},
    counters::Counters,
    date::Date,
    listener::World,
    panics,
    pressure::Pressure,
    promptness, streams,
};
use crate::{kernel::steer::LoadWriter, model::l7::HttpTimeouts};
use std::{
    cell::{Cell, RefCell},
    net::{SocketAddr, TcpListener as StdListener},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    time::Instant,
};

/// How often connections are looked at: timeouts of whole seconds end at most this much late. Also how often the
/// worker says that it is alive.
const LOOK: Duration = Duration::from_nanos(proxy_common::steer::BEAT_INTERVAL_NS);

/// Turns of [`LOOK`] between two looks at idle upstream connections.
const LOOKS_PER_EXPIRY: u32 = 4;

/// What the plane asks of a worker.
pub enum Command {
    /// Serve this generation. Sockets are new ones; those that are not named any more are closed.
    Follow {
        /// What to serve.
        compiled: Arc<Compiled>,
        /// New sockets, by address.
        opened: Vec<(SocketAddr, StdListener)>,
        /// Addresses no longer listened on.
        closed: Vec<SocketAddr>,
    },
    /// Connections from here belong to whatever listener their address says: the kernel steered them.
    Steered(StdListener),
    /// Accept no more, end by then, and tell connections this meanwhile. With [`Order::Leave`] another process has the
    /// sockets, and the load is its to report.
    Stop(std::time::Instant, Order),
    /// Panic, outside of any task.
    #[cfg(test)]
    Panic,
}

/// A worker from inside.
pub struct Worker {
    /// Among all workers.
    pub seat: Seat,
    /// Read by control.
    pub counters: Arc<Counters>,
    /// What it serves.
    pub world: RefCell<World>,
    now: Cell<Instant>,
    last_connection: Cell<u64>,
    connections: RefCell<Vec<Weak<Connection>>>,
    accepting: RefCell<Vec<(SocketAddr, Ending)>>,
    steered: RefCell<Vec<Ending>>,
    stopping: Cell<Option<Order>>,
    /// How short of memory the process is.
    pub pressure: Arc<Pressure>,
    /// For responses that have none.
    pub date: Date,
    /// Tasks that wait for a stream of HTTP/2.
    pub streams: streams::Idle,
    /// Where the kernel's choice of a worker reads how busy this one is.
    pub load: Option<LoadWriter>,
}

/// What a worker is made with.
pub struct Start {
    /// Among all workers.
    pub seat: Seat,
    /// Counts here.
    pub counters: Arc<Counters>,
    /// CPU to run on.
    pub cpu: Option<usize>,
    /// How short of memory the process is.
    pub pressure: Arc<Pressure>,
    /// Where the kernel's choice of a worker reads how busy this one is, if it chooses.
    pub load: Option<LoadWriter>,
}

/// The body of a worker's thread; returns when stopped.
pub fn run(start: Start, commands: mpsc::UnboundedReceiver<Command>) -> std::io::Result<()> {
    panics::belong_to(&start.counters);
    if let Some(cpu) = start.cpu {
        pin(cpu);
    }
    promptness::ask_for_short_turns();
    let runtime = Builder::new_current_thread()
        .enable_all()
        // The kernel is asked for events after this many tasks: often enough for latency, seldom enough for its cost.
        .event_interval(61)
        .build_local(LocalOptions::default())?;
    let worker = Rc::new(Worker {
        seat: start.seat,
        counters: start.counters,
        world: RefCell::default(),
        now: Cell::new(Instant::now()),
        last_connection: Cell::new(start.seat.index as u64),
        connections: RefCell::default(),
        accepting: RefCell::default(),
        steered: RefCell::default(),
        stopping: Cell::new(None),
        pressure: start.pressure,
        date: Date::default(),
        streams: streams::Idle::default(),
        load: start.load,
    });
    let obeying = AssertUnwindSafe(|| runtime.block_on(worker.obey(commands)));
    // Caught here, so that connections end when the runtime is dropped, and not amid the unwinding, where a second panic would end the
    // process. The hook has said what it was.
    let _panicked = catch_unwind(obeying);
    Ok(())
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("worker not pinned to CPU {cpu}: {error}");
    }
}

impl Worker {
    async fn obey(self: &Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = 0_u32;
        let mut deadline = None;
        let mut busy = self.load.as_ref().map(|load| (load, BusyTime::new()));
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Follow { compiled, opened, closed }) => self.follow(&compiled, opened, &closed),
                    Some(Command::Steered(socket)) => self.accept_steered(socket),
                    Some(Command::Stop(until, order)) => {
                        self.stop(order);
                        if order == Order::Leave
                            && let Some((load, _)) = busy.take()
                        {
                            load.hand_over();
                        }
                        deadline = Some(Instant::from_std(until));
                    }
                    #[cfg(test)]
                    Some(Command::Panic) => panic!("as a test asked for"),
                    // The plane is gone without a word: the process is ending.
                    None => return,
                },
                _ = looks.tick() => {
                    turn = turn.wrapping_add(1);
                    self.look(turn);
                    if let Some((load, busy)) = &mut busy {
                        load.beat(busy.permille(), self.counters.connections.value());
                    }
                }
            }
            if let Some(deadline) = deadline
                && (self.counters.connections.value() == 0 || Instant::now() >= deadline)
            {
                self.world.borrow().flush_logs();
                return;
            }
        }
    }

    fn follow(
        self: &Rc<Self>,
        compiled: &Compiled,
        opened: Vec<(SocketAddr, StdListener)>,
        closed: &[SocketAddr],
    ) {
        self.world.borrow_mut().follow(compiled, self.seat);
        self.accepting.borrow_mut().retain(|(address, ending)| {
            let goes_on = !closed.contains(address);
            if !goes_on {
                ending.notify_one();
            }
            goes_on
        });
        for (address, socket) in opened {
            if let Some(accepting) = accept::listen(self, socket) {
                self.accepting.borrow_mut().push((address, accepting));
            }
        }
        let generation = &self.counters.generation;
        generation.add(compiled.generation.wrapping_sub(generation.value()));
    }

    fn accept_steered(self: &Rc<Self>, socket: StdListener) {
        self.steered.borrow_mut().extend(accept::listen(self, socket));
    }

    fn stop(&self, order: Order) {
        self.stopping.set(Some(order));
        let accepting = self.accepting.take().into_iter().map(|(_, ending)| ending);
        accepting
            .chain(self.steered.take())
            .for_each(|ending| ending.notify_one());
        let connections = self.connections.borrow().clone();
        for connection in connections.iter().filter_map(Weak::upgrade) {
            connection.tell(order);
        }
    }

    /// The time, as of at most [`LOOK`] ago.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Unique among the connections of all workers.
    pub fn next_connection(&self) -> u64 {
        let next = self.last_connection.get() + self.seat.count as u64;
        self.last_connection.set(next);
        next
    }

    /// Looks at this connection's time from now on.
    pub fn watch(&self, connection: &Rc<Connection>) {
        if let Some(order) = self.stopping.get() {
            connection.tell(order);
        }
        self.connections.borrow_mut().push(Rc::downgrade(connection));
    }

    fn look(&self, turn: u32) {
        let now = Instant::now();
        self.now.set(now);
        let tcp = HttpTimeouts::default();
        let sooner = self.pressure.is_near();
        self.connections.borrow_mut().retain(|connection| {
            let Some(connection) = connection.upgrade() else {
                return false;
            };
            let serving = connection.listener.serving();
            match &serving.compiled.kind {
                CompiledKind::Http { settings, .. } => connection.look(now, &settings.timeouts, sooner),
                CompiledKind::Tcp(_) => connection.look(now, &tcp, sooner),
            }
            true
        });
        if turn.is_multiple_of(LOOKS_PER_EXPIRY) {
            let pools = self.world.borrow().pools();
            pools.iter().for_each(|pool| pool.expire(now, sooner));
            self.world.borrow().flush_logs();
        }
    }
}

/// How much of its time the thread has been running.
struct BusyTime {
    wall: std::time::Instant,
    cpu: Duration,
}

impl BusyTime {
    fn new() -> Self {
        Self {
            wall: std::time::Instant::now(),
            cpu: thread_time(),
        }
    }

    /// Thousandths since the last call.
    fn permille(&mut self) -> u32 {
        let before = std::mem::replace(self, Self::new());
        let cpu = self.cpu.saturating_sub(before.cpu).as_micros();
        let wall = self.wall.duration_since(before.wall).as_micros().max(1);
        u32::try_from(cpu * 1_000 / wall).unwrap_or(1_000).min(1_000)
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
