//! Clients that count: long connections that check every byte, and new connections all the time.

use super::Host;
use anyhow::{Result, ensure};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Longer than two TCP retransmissions (1 s and 3 s): only a lost connection takes that long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the servers speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// [`super::EchoServer`]'s.
    Echo,
    /// HTTP/1.1 to [`super::Nginx`], whose answer to `/` is its name.
    Http,
}

impl Protocol {
    /// A whole short connection: returns the name of who answered.
    fn ask(self, target: SocketAddr) -> io::Result<String> {
        let mut stream = connect(target)?;
        if self == Self::Http {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        } else {
            stream.shutdown(Shutdown::Write)?;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let name = answer.lines().last().unwrap_or_default();
        if name.is_empty() {
            return Err(io::Error::other("the connection ended without an answer"));
        }
        Ok(name.to_owned())
    }

    /// One exchange on a long connection, number `round`; `name` is who answered the first.
    fn exchange(self, stream: &mut BufReader<TcpStream>, round: u64, name: &mut String) -> io::Result<()> {
        match self {
            Self::Echo => exchange_bytes(stream, round, name),
            Self::Http => exchange_requests(stream, name),
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange_bytes(stream: &mut BufReader<TcpStream>, round: u64, name: &mut String) -> io::Result<()> {
    if round == 0 {
        stream.read_line(name)?;
        name.truncate(name.trim_end().len());
    }
    // Every round differs, so that a repeated or missing block is noticed.
    let sent: Vec<u8> = (0..512)
        .flat_map(|word: u64| (round * 512 + word).to_le_bytes())
        .collect();
    stream.get_mut().write_all(&sent)?;
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received)?;
    if received != sent {
        return Err(io::Error::other(format!("round {round} came back changed")));
    }
    Ok(())
}

fn exchange_requests(stream: &mut BufReader<TcpStream>, name: &mut String) -> io::Result<()> {
    stream
        .get_mut()
        .write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let answered = String::from_utf8_lossy(&body).trim_end().to_owned();
    if name.is_empty() {
        *name = answered;
    } else if *name != answered {
        return Err(io::Error::other(format!(
            "{answered} answered on a connection to {name}"
        )));
    }
    Ok(())
}

/// How a long connection fares.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Who answered.
    pub server: String,
    /// Exchanges done.
    pub rounds: u64,
    /// How it broke, and when, if it did.
    pub lost: Option<(Instant, String)>,
}

/// Long connections with data flowing, each on a thread; every answer is checked.
pub struct LongConnections {
    connections: Vec<Arc<Connection>>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

#[derive(Default)]
struct Connection {
    server: OnceLock<String>,
    rounds: AtomicU64,
    lost: OnceLock<(Instant, String)>,
}

impl LongConnections {
    /// Opens `count` connections; on each an exchange every `pause`. Returns when every one has had
    /// its first answer.
    ///
    /// # Errors
    /// One could not be opened.
    pub fn open(
        host: &Host,
        protocol: Protocol,
        target: SocketAddr,
        count: usize,
        pause: Duration,
    ) -> Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut all = Self {
            connections: Vec::new(),
            threads: Vec::new(),
            stopping,
        };
        for _ in 0..count {
            let connection = Arc::new(Connection::default());
            all.connections.push(connection.clone());
            let stopping = all.stopping.clone();
            all.threads.push(host.namespace().thread(move || {
                if let Err(error) = connection.keep_busy(protocol, target, pause, &stopping) {
                    let _ = connection.lost.set((Instant::now(), error.to_string()));
                }
            }));
        }
        all.wait_for_rounds(1, TIMEOUT)?;
        let lost = all.lost();
        ensure!(
            lost.is_empty(),
            "{} of {count} connections could not be opened: {:?}",
            lost.len(),
            lost[0]
        );
        Ok(all)
    }

    /// Waits until every connection that is not lost has had `more` exchanges from now.
    pub fn wait_for_rounds(&self, more: u64, limit: Duration) -> Result<()> {
        let rounds = |connection: &Arc<Connection>| connection.rounds.load(Ordering::Relaxed);
        let goals: Vec<u64> = self.connections.iter().map(|one| rounds(one) + more).collect();
        super::until("an exchange on every long connection", limit, || {
            let mut pairs = self.connections.iter().zip(&goals);
            pairs
                .all(|(one, goal)| rounds(one) >= *goal || one.lost.get().is_some())
                .then_some(())
        })
    }

    /// How each fares now.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.connections
            .iter()
            .map(|connection| connection.outcome())
            .collect()
    }

    /// Those that are lost.
    pub fn lost(&self) -> Vec<Outcome> {
        self.outcomes()
            .into_iter()
            .filter(|outcome| outcome.lost.is_some())
            .collect()
    }

    /// Closes all and says how each fared; a close without the server's own end counts as lost.
    pub fn finish(mut self) -> Vec<Outcome> {
        self.stop();
        self.outcomes()
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for LongConnections {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Connection {
    fn keep_busy(
        &self,
        protocol: Protocol,
        target: SocketAddr,
        pause: Duration,
        stopping: &AtomicBool,
    ) -> io::Result<()> {
        let mut stream = BufReader::new(connect(target)?);
        let mut name = String::new();
        for round in 0.. {
            protocol.exchange(&mut stream, round, &mut name)?;
            self.server.get_or_init(|| name.clone());
            self.rounds.fetch_add(1, Ordering::Relaxed);
            if stopping.load(Ordering::SeqCst) {
                break;
            }
            // The pace of the traffic; nothing waits for it.
            thread::sleep(pause);
        }
        stream.get_ref().shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            server: self.server.get().cloned().unwrap_or_default(),
            rounds: self.rounds.load(Ordering::Relaxed),
            lost: self.lost.get().cloned(),
        }
    }
}

/// One short connection.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it was begun.
    pub started: Instant,
    /// Until its end or failure.
    pub took: Duration,
    /// Who answered, or what went wrong.
    pub answer: Result<String, String>,
}

/// New connections all the time, each of which asks who answers.
pub struct NewConnections {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl NewConnections {
    /// Starts `threads` threads that make one connection after another, `pause` apart.
    pub fn start(
        host: &Host,
        protocol: Protocol,
        target: SocketAddr,
        threads: usize,
        pause: Duration,
    ) -> Self {
        let attempts = Arc::<Mutex<Vec<Attempt>>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let (attempts, stopping) = (attempts.clone(), stopping.clone());
            host.namespace().thread(move || {
                while !stopping.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    let answer = protocol.ask(target).map_err(|error| error.to_string());
                    guard(&attempts).push(Attempt {
                        started,
                        took: started.elapsed(),
                        answer,
                    });
                    // The pace of the traffic; nothing waits for it.
                    thread::sleep(pause);
                }
            })
        };
        let threads = (0..threads).map(one).collect();
        Self {
            attempts,
            threads,
            stopping,
        }
    }

    /// How many there have been.
    pub fn count(&self) -> usize {
        guard(&self.attempts).len()
    }

    /// All so far.
    pub fn attempts(&self) -> Vec<Attempt> {
        guard(&self.attempts).clone()
    }

    /// Waits until there have been `more` attempts from now.
    pub fn wait_for(&self, more: usize, limit: Duration) -> Result<()> {
        let goal = self.count() + more;
        super::until("more connections", limit, || (self.count() >= goal).then_some(()))
    }

    /// Ends and returns all.
    pub fn finish(mut self) -> Vec<Attempt> {
        self.stop();
        self.attempts()
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for NewConnections {
    fn drop(&mut self) {
        self.stop();
    }
}

fn guard(attempts: &Mutex<Vec<Attempt>>) -> MutexGuard<'_, Vec<Attempt>> {
    attempts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `count` short connections on `threads` threads at full speed.
pub fn ask_many(
    host: &Host,
    protocol: Protocol,
    target: SocketAddr,
    count: usize,
    threads: usize,
) -> Vec<Attempt> {
    let next = AtomicU64::new(0);
    let ask = || {
        let mut attempts = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count as u64 {
            let started = Instant::now();
            let answer = protocol.ask(target).map_err(|error| error.to_string());
            attempts.push(Attempt {
                started,
                took: started.elapsed(),
                answer,
            });
        }
        attempts
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| host.run(ask))).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    })
}

/// How many attempts each server answered; failures count under `""`.
pub fn shares(attempts: &[Attempt]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for attempt in attempts {
        *shares
            .entry(attempt.answer.clone().unwrap_or_default())
            .or_default() += 1;
    }
    shares
}
