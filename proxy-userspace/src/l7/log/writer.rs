//! From workers' buffers to files: one thread writes, workers never wait.
//!
//! A worker hands over a buffer when it is full or a timer says so, through a bounded queue. When the queue is full, which is when the
//! disk or a reader of the pipe is slower than the requests, lines are dropped and counted.

use super::logger::FULL;
use crate::model::l7::LogTarget;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::dup,
};
use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// A buffer that one line made greater than this is not used again.
const LARGEST_KEPT: usize = 4 * FULL;

/// Buffers that wait for the thread, over all workers: with full ones 16 MiB.
const WAITING: usize = 256;

/// Buffers that wait for one file that can't be written now (1 MiB): others' lines go on.
const BACKLOG: usize = 16;

/// How often a file that couldn't be written is tried again, and files that nobody writes are closed.
const TICK: Duration = Duration::from_secs(1);

/// The thread that writes, and the files it has open. One for the process.
pub struct Writers {
    messages: SyncSender<Message>,
    sinks: Arc<Sinks>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

type Sinks = Mutex<HashMap<LogTarget, Weak<Sink>>>;

/// A file lines go to. It is closed when neither config nor a worker has it any more.
#[derive(Debug)]
pub struct Sink {
    target: LogTarget,
    messages: SyncSender<Message>,
    /// Only the thread takes it, but for the moment of opening.
    output: Mutex<Output>,
    reopen: AtomicBool,
    /// Why it can't be written now.
    trouble: Mutex<Option<String>>,
    /// Lines that the thread dropped: written by it alone.
    lost: AtomicU64,
    /// Counters of the loggers, each written by its worker alone.
    loggers: Mutex<Dropped>,
}

#[derive(Debug, Default)]
struct Dropped {
    running: Vec<Arc<AtomicU64>>,
    /// Of loggers that are gone.
    ended: u64,
}

#[derive(Debug)]
struct Output {
    file: File,
    backlog: VecDeque<Lines>,
    /// Whether the last write failed: said once, not with every try.
    failing: bool,
}

#[derive(Debug)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Bytes that are written already.
    written: usize,
    count: u64,
    home: SyncSender<Vec<u8>>,
}

#[derive(Debug)]
enum Message {
    Lines(Arc<Sink>, Lines),
    /// Something else is to be done.
    Wake,
    /// Everything before it is written, or in a backlog, when this is answered.
    Drain(SyncSender<()>),
    Stop,
}

/// A log that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("access log {path}: {source}; make the directory, or let weir write there")]
pub struct OpenError {
    path: String,
    source: io::Error,
}

impl Writers {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> io::Result<Self> {
        let (messages, receiver) = sync_channel(WAITING);
        let (alive, ended) = sync_channel(0);
        let sinks = Arc::<Sinks>::default();
        let known = Arc::clone(&sinks);
        thread::Builder::new().name("weir-log".into()).spawn(move || {
            run(&receiver, &known);
            drop::<SyncSender<()>>(alive);
        })?;
        Ok(Self {
            messages,
            sinks,
            ended,
        })
    }

    /// Opens a target for appending, or gives the one that is open.
    ///
    /// # Errors
    /// It can't be opened: nothing changed.
    pub fn open(&self, target: &LogTarget) -> Result<Arc<Sink>, OpenError> {
        let mut sinks = lock(&self.sinks);
        if let Some(known) = sinks.get(target).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let file = open(target).map_err(|source| OpenError {
            path: shown(target),
            source,
        })?;
        let sink = Arc::new(Sink {
            target: target.clone(),
            messages: self.messages.clone(),
            output: Mutex::new(Output {
                file,
                backlog: VecDeque::new(),
                failing: false,
            }),
            reopen: AtomicBool::new(false),
            trouble: Mutex::default(),
            lost: AtomicU64::new(0),
            loggers: Mutex::default(),
        });
        sinks.insert(target.clone(), Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Opens all files again, for SIGHUP and logrotate. Soon, and only if it works: else the old ones stay in use.
    pub fn reopen(&self) {
        for sink in lock(&self.sinks).values().filter_map(Weak::upgrade) {
            sink.reopen.store(true, Ordering::Relaxed);
        }
        // A full queue wakes the thread as well.
        let _full = self.messages.try_send(Message::Wake);
    }

    /// Waits until everything that was handed over is written, or can't be.
    pub fn drain(&self) {
        let (answer, answered) = sync_channel(1);
        if self.messages.send(Message::Drain(answer)).is_ok() {
            let _gone = answered.recv();
        }
    }
}

impl Drop for Writers {
    /// Writes what was handed over. A pipe that nobody reads must not keep the daemon from ending: it gets two seconds.
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        const PAUSE: Duration = Duration::from_millis(10);
        let deadline = Instant::now() + PATIENCE;
        while let Err(TrySendError::Full(_)) = self.messages.try_send(Message::Stop) {
            if Instant::now() >= deadline {
                return warn!("access logs: the last lines could not be written in time");
            }
            thread::sleep(PAUSE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            warn!("access logs: the last lines could not be written in time");
        }
    }
}

impl Sink {
    /// What it is.
    pub fn target(&self) -> &LogTarget {
        &self.target
    }

    /// Why it can't be written now, with its name; none while it can.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Hands over a worker's lines, or gives them back when the queue is full.
    pub(super) fn hand_over(self: &Arc<Self>, lines: Lines) -> Result<(), Lines> {
        match self.messages.try_send(Message::Lines(Arc::clone(self), lines)) {
            Err(
                TrySendError::Full(Message::Lines(_, lines))
                | TrySendError::Disconnected(Message::Lines(_, lines)),
            ) => Err(lines),
            _ => Ok(()),
        }
    }

    /// A logger's counter, read from now on.
    pub(super) fn enter(&self, dropped: &Arc<AtomicU64>) {
        lock(&self.loggers).running.push(Arc::clone(dropped));
    }

    /// The logger is gone; what it counted stays.
    pub(super) fn leave(&self, dropped: &Arc<AtomicU64>) {
        let mut loggers = lock(&self.loggers);
        loggers.running.retain(|count| !Arc::ptr_eq(count, dropped));
        loggers.ended += dropped.load(Ordering::Relaxed);
    }

    /// Lines dropped since it was opened, by workers and by the thread.
    pub fn dropped(&self) -> u64 {
        let loggers = lock(&self.loggers);
        let running = loggers.running.iter().map(|count| count.load(Ordering::Relaxed));
        self.lost.load(Ordering::Relaxed) + loggers.ended + running.sum::<u64>()
    }
}

/// The thread: ends with its last sender, or when told to.
fn run(messages: &Receiver<Message>, sinks: &Sinks) {
    loop {
        match messages.recv_timeout(TICK) {
            Ok(Message::Lines(sink, lines)) => sink.take(lines),
            Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => tend(sinks),
            Ok(Message::Drain(answer)) => {
                tend(sinks);
                let _gone = answer.send(());
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // What workers handed over while it was told to stop.
    loop {
        match messages.try_recv() {
            Ok(Message::Lines(sink, lines)) => sink.take(lines),
            Ok(_) => {}
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    tend(sinks);
}

/// Opens again what is to be opened again, tries again what failed, forgets what nobody has any more.
fn tend(sinks: &Sinks) {
    let living: Vec<Arc<Sink>> = {
        let mut sinks = lock(sinks);
        sinks.retain(|_, sink| sink.strong_count() > 0);
        sinks.values().filter_map(Weak::upgrade).collect()
    };
    for sink in living {
        sink.work_off(&mut lock(&sink.output));
    }
}

impl Sink {
    fn take(&self, lines: Lines) {
        let mut output = lock(&self.output);
        output.backlog.push_back(lines);
        self.work_off(&mut output);
        // The newest goes: what waits may be half written.
        while output.backlog.len() > BACKLOG
            && let Some(lines) = output.backlog.pop_back()
        {
            let lost = self.lost.load(Ordering::Relaxed);
            self.lost.store(lost + lines.count, Ordering::Relaxed);
            lines.give_back();
        }
    }

    fn work_off(&self, output: &mut Output) {
        if self.reopen.swap(false, Ordering::Relaxed) {
            match open(&self.target) {
                Ok(file) => output.file = file,
                Err(error) => error!(
                    "access log {}: not opened again, the old file stays in use: {error}",
                    shown(&self.target)
                ),
            }
        }
        while let Some(lines) = output.backlog.front_mut() {
            match output.file.write(&lines.bytes[lines.written..]) {
                Ok(count) => lines.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    if !output.failing {
                        let trouble = format!("access log {}: {error}", shown(&self.target));
                        error!("{trouble}; trying again");
                        lock(&self.trouble).replace(trouble);
                    }
                    output.failing = true;
                    return;
                }
            }
            if lines.written >= lines.bytes.len()
                && let Some(lines) = output.backlog.pop_front()
            {
                lines.give_back();
            }
            if output.failing {
                info!("access log {}: written again", shown(&self.target));
                output.failing = false;
                lock(&self.trouble).take();
            }
        }
    }
}

impl Lines {
    /// This many whole lines; the buffer goes back through `home`.
    pub(super) fn new(bytes: Vec<u8>, count: u64, home: SyncSender<Vec<u8>>) -> Self {
        Self {
            bytes,
            written: 0,
            count,
            home,
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn give_back(mut self) {
        if self.bytes.capacity() <= LARGEST_KEPT {
            self.bytes.clear();
            let _enough = self.home.try_send(self.bytes);
        }
    }
}

/// For appending, so that several processes can share a file. A pipe without a reader is an error instead of a
/// wait for one.
fn open(target: &LogTarget) -> io::Result<File> {
    let path: &Path = match target {
        LogTarget::Stdout => return Ok(dup(io::stdout()).map(File::from)?),
        LogTarget::File(path) => path,
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

fn shown(target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout => "standard output".into(),
        LogTarget::File(path) => path.display().to_string(),
    }
}

/// What a thread that panicked left is as whole as what one left that didn't: there is nothing to panic between two writes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
