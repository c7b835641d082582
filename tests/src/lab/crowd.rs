//! Thousands of long connections on one thread, each with data flowing and every byte checked.

use super::{
    Host,
    crowd_member::{Connection, Progress},
    until,
};
use anyhow::{Context, Result, ensure};
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Longer than four TCP retransmissions on a busy machine: only a lost connection takes that long.
const STALL: Duration = Duration::from_secs(20);

/// How soon a command is noticed when nothing flows.
const WAIT: Duration = Duration::from_millis(5);

/// How one connection fares.
#[derive(Clone, Debug)]
pub struct Member {
    /// The client's end.
    pub client: SocketAddr,
    /// Who answers; empty before it has.
    pub server: String,
    /// Exchanges done.
    pub rounds: u64,
    /// Where it stands.
    pub state: MemberState,
}

/// Where a connection stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Data flows.
    Open,
    /// The client ended it, and the server after it.
    Ended,
    /// How it broke.
    Lost(String),
}

/// Connections from one host to one address. Dropped, they are broken off.
pub struct Crowd {
    host: Host,
    target: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    paused: AtomicBool,
    commands: Mutex<Vec<Command>>,
    members: Mutex<BTreeMap<u64, Member>>,
    /// Of open members: shared with the thread, for a look at their counters.
    streams: Mutex<BTreeMap<u64, Arc<TcpStream>>>,
}

enum Command {
    Add(u64, Arc<TcpStream>),
    End(u64),
}

impl Crowd {
    /// No connections yet; each will have an exchange every `pace`.
    ///
    /// # Errors
    /// There may not be `most` of them, and their servers' ends in the same process.
    pub fn start(host: &Host, target: SocketAddr, most: usize, pace: Duration) -> Result<Self> {
        allow_files(2 * most as u64)?;
        let shared = Arc::<Shared>::default();
        let mut engine = Engine {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("use epoll")?,
            shared: shared.clone(),
            pace,
            connections: BTreeMap::new(),
            due: BinaryHeap::new(),
            looked: Instant::now(),
        };
        let thread = std::thread::spawn(move || engine.run());
        Ok(Self {
            host: host.clone(),
            target,
            shared,
            thread: Some(thread),
        })
    }

    /// Opens connections, and returns them with their numbers when each has had its first answer.
    ///
    /// # Errors
    /// One could not be opened.
    pub fn open(&self, count: usize) -> Result<Vec<(u64, Member)>> {
        let connect = || -> io::Result<Arc<TcpStream>> {
            let stream = TcpStream::connect_timeout(&self.target, STALL)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Arc::new(stream))
        };
        let opened = self.host.run(|| -> io::Result<Vec<u64>> {
            let mut numbers = Vec::new();
            for _ in 0..count {
                numbers.push(self.add(connect()?)?);
            }
            Ok(numbers)
        });
        let numbers = opened.with_context(|| format!("connect to {}", self.target))?;
        let new: HashSet<u64> = numbers.iter().copied().collect();
        self.wait_for("first answers", |number, member| {
            member.rounds > 0 || !new.contains(&number)
        })?;
        let members = guard(&self.shared.members);
        let of = |number: u64| Some((number, members.get(&number)?.clone()));
        Ok(numbers.into_iter().filter_map(of).collect())
    }

    fn add(&self, stream: Arc<TcpStream>) -> io::Result<u64> {
        let client = stream.local_addr()?;
        let mut members = guard(&self.shared.members);
        let number = members.len() as u64;
        members.insert(
            number,
            Member {
                client,
                server: String::new(),
                rounds: 0,
                state: MemberState::Open,
            },
        );
        guard(&self.shared.streams).insert(number, stream.clone());
        guard(&self.shared.commands).push(Command::Add(number, stream));
        Ok(number)
    }

    /// Ends connections and waits for their servers' ends.
    pub fn end(&self, numbers: &[u64]) -> Result<()> {
        guard(&self.shared.commands).extend(numbers.iter().map(|&number| Command::End(number)));
        let ending: HashSet<u64> = numbers.iter().copied().collect();
        self.wait_for("the end of connections", |number, member| {
            member.state != MemberState::Open || !ending.contains(&number)
        })
    }

    /// Those that broke.
    pub fn lost(&self) -> Vec<Member> {
        let members = guard(&self.shared.members);
        let lost = members.values();
        lost.filter(|member| matches!(member.state, MemberState::Lost(_)))
            .cloned()
            .collect()
    }

    /// Waits until every connection that is open has had `more` exchanges from now.
    pub fn wait_for_rounds(&self, more: u64) -> Result<()> {
        let goals: BTreeMap<u64, u64> = guard(&self.shared.members)
            .iter()
            .map(|(number, member)| (*number, member.rounds + more))
            .collect();
        self.wait_for("an exchange on every connection", |number, member| {
            member.state != MemberState::Open || member.rounds >= goals.get(&number).copied().unwrap_or(0)
        })
    }

    /// Exchanges that all connections have had.
    pub fn rounds(&self) -> u64 {
        guard(&self.shared.members)
            .values()
            .map(|member| member.rounds)
            .sum()
    }

    /// Begins no exchange from now on; those that were begun are finished.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
    }

    /// TCP segments that the clients' ends of all open connections have sent, as the kernel counts.
    pub fn segments_sent(&self) -> Result<u64> {
        let streams = guard(&self.shared.streams);
        streams
            .values()
            .try_fold(0, |sum, stream| Ok(sum + segments_sent(stream)?))
    }

    /// Ends all and says how each fared.
    pub fn finish(self) -> Result<Vec<Member>> {
        let numbers: Vec<u64> = guard(&self.shared.members).keys().copied().collect();
        self.end(&numbers)?;
        Ok(guard(&self.shared.members).values().cloned().collect())
    }

    fn wait_for(&self, what: &str, all: impl Fn(u64, &Member) -> bool) -> Result<()> {
        // What stalls is lost by then, which ends the waiting too.
        until(what, 2 * STALL, || {
            let members = guard(&self.shared.members);
            let done = |(number, member): (&u64, &Member)| {
                matches!(member.state, MemberState::Lost(_)) || all(*number, member)
            };
            members.iter().all(done).then_some(())
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Engine {
    epoll: OwnedFd,
    shared: Arc<Shared>,
    pace: Duration,
    connections: BTreeMap<u64, Connection>,
    /// When connections begin their next exchange, the soonest first.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    /// When stalled ones were looked for.
    looked: Instant,
}

impl Engine {
    fn run(&mut self) {
        let mut events = Vec::<Event>::with_capacity(256);
        while !self.shared.stopping.load(Ordering::SeqCst) {
            let commands = std::mem::take(&mut *guard(&self.shared.commands));
            for command in commands {
                self.obey(command);
            }
            self.begin_rounds();
            self.give_up_stalled();
            let timeout = Timespec::try_from(WAIT).ok();
            // An error is a signal that came in between.
            let _ = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            );
            for event in events.drain(..) {
                self.note(event.data.u64(), Connection::receive);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(number, stream) => {
                let data = EventData::new_u64(number);
                let added = epoll::add(&self.epoll, &stream, data, EventFlags::IN);
                self.connections.insert(number, Connection::new(stream, number));
                self.note(number, |_| Ok(added.map(|()| Progress::None)?));
                self.due.push(Reverse((Instant::now(), number)));
            }
            Command::End(number) => self.note(number, Connection::end),
        }
    }

    fn begin_rounds(&mut self) {
        if self.shared.paused.load(Ordering::SeqCst) {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((due, number))) = self.due.peek() {
            if due > now {
                break;
            }
            self.due.pop();
            self.note(number, Connection::send);
        }
    }

    fn give_up_stalled(&mut self) {
        if self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = Instant::now();
        let is_stalled = |connection: &Connection| connection.waits_for() > STALL;
        let stalled: Vec<u64> = (self.connections.iter())
            .filter(|(_, connection)| is_stalled(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in stalled {
            self.note(number, |_| {
                Err(io::Error::other(format!("nothing came for {STALL:?}")))
            });
        }
    }

    /// Has a connection do something, and writes down what came of it.
    fn note(&mut self, number: u64, work: impl FnOnce(&mut Connection) -> io::Result<Progress>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let outcome = work(connection);
        let mut members = guard(&self.shared.members);
        let Some(member) = members.get_mut(&number) else {
            return;
        };
        match outcome {
            Ok(Progress::None) => return,
            Ok(Progress::Round) => {
                if member.rounds == 0 {
                    member.server = connection.server();
                }
                member.rounds += 1;
                self.due.push(Reverse((Instant::now() + self.pace, number)));
                return;
            }
            Ok(Progress::Ended) => member.state = MemberState::Ended,
            Err(error) => member.state = MemberState::Lost(error.to_string()),
        }
        self.connections.remove(&number);
        guard(&self.shared.streams).remove(&number);
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets this process have so many more files open than tests have anyway.
fn allow_files(more: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// What all else needs, with tests that run at the same time.
    const USUAL: u64 = 1024;
    let limit = getrlimit(Resource::Nofile);
    let wanted = more + USUAL;
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).with_context(|| format!("allow {wanted} open files"))?;
    }
    Ok(())
}

/// `tcpi_segs_out` of `TCP_INFO`.
fn segments_sent(stream: &TcpStream) -> Result<u64> {
    use std::os::fd::AsRawFd;
    // SAFETY: all zeros is a valid tcp_info: integers alone.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes to `info`, which lives until the call returns.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "TCP_INFO: {}", io::Error::last_os_error());
    Ok(info.tcpi_segs_out.into())
}
