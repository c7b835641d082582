//! `worker_loads` in memory: each worker says what it has to do, by plain stores.

use crate::kernel::KernelError;
use proxy_common::steer::{ABANDONED_NS, WORKERS, WorkerLoad, worker_state};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    time::{ClockId, clock_gettime},
};
use std::{
    cell::Cell,
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// Bytes of the map: one page.
const LENGTH: usize = WORKERS * size_of::<WorkerLoad>();

/// The map, shared with the kernel.
pub struct LoadMap {
    lines: NonNull<WorkerLoad>,
}

// SAFETY: shared memory that is only touched by atomic loads and stores.
unsafe impl Send for LoadMap {}
// SAFETY: as above.
unsafe impl Sync for LoadMap {}

impl LoadMap {
    /// Maps it.
    pub(super) fn map(map: BorrowedFd<'_>) -> Result<Self, KernelError> {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping, no address wished for.
        let memory = unsafe { mmap(ptr::null_mut(), LENGTH, flags, MapFlags::SHARED, map, 0) };
        let memory = memory.map_err(io::Error::from).and_then(|memory| {
            NonNull::new(memory.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        });
        let lines = memory.map_err(|error| KernelError::refused("mapping worker_loads", error))?;
        Ok(Self { lines })
    }

    /// What a worker writes with. There must be one writer a worker, or counts are lost.
    pub fn writer(self: &Arc<Self>, worker: usize) -> LoadWriter {
        let writer = LoadWriter {
            worker: worker.min(WORKERS - 1),
            chosen_before: Cell::new(0),
            marked_at: Cell::new(0),
            handed_over: Cell::new(false),
            loads: Arc::clone(self),
        };
        writer.begin();
        writer
    }

    /// A worker's line as it is now; each field by itself is right.
    pub fn load(&self, worker: usize) -> WorkerLoad {
        let line = self.line(worker);
        WorkerLoad {
            chosen: line.chosen.load(Relaxed),
            settled: line.settled.load(Relaxed),
            beat: line.beat.load(Relaxed),
            connections: line.connections.load(Relaxed),
            busy_permille: line.busy_permille.load(Relaxed),
            state: line.state.load(Relaxed),
            pad: [0; 7],
        }
    }

    pub(super) fn state(&self, worker: usize) -> u32 {
        self.line(worker).state.load(Relaxed)
    }

    pub(super) fn set_state(&self, worker: usize, state: u32) {
        let line = self.line(worker);
        if state == worker_state::REGISTERED {
            // Alive until the first beat is due.
            line.beat.store(now(), Relaxed);
        }
        line.state.store(state, Relaxed);
    }

    fn line(&self, worker: usize) -> Line<'_> {
        let worker = worker.min(WORKERS - 1);
        // SAFETY: the mapping holds WORKERS lines and lives as long as `self`; every access to it is atomic, by
        // this process and by the program.
        unsafe {
            let line = self.lines.as_ptr().add(worker);
            Line {
                chosen: AtomicU64::from_ptr(&raw mut (*line).chosen),
                settled: AtomicU64::from_ptr(&raw mut (*line).settled),
                beat: AtomicU64::from_ptr(&raw mut (*line).beat),
                connections: AtomicU32::from_ptr(&raw mut (*line).connections),
                busy_permille: AtomicU32::from_ptr(&raw mut (*line).busy_permille),
                state: AtomicU32::from_ptr(&raw mut (*line).state),
            }
        }
    }
}

impl Drop for LoadMap {
    fn drop(&mut self) {
        // SAFETY: made by `map`, and nobody refers to it any more.
        let _ = unsafe { munmap(self.lines.as_ptr().cast(), LENGTH) };
    }
}

struct Line<'a> {
    chosen: &'a AtomicU64,
    settled: &'a AtomicU64,
    beat: &'a AtomicU64,
    connections: &'a AtomicU32,
    busy_permille: &'a AtomicU32,
    state: &'a AtomicU32,
}

/// One worker's end: it belongs on the worker's thread. No method makes a system call or a locked instruction.
pub struct LoadWriter {
    loads: Arc<LoadMap>,
    worker: usize,
    /// `chosen` at `marked_at`: what was chosen before and hasn't come when [`ABANDONED_NS`] are over won't come.
    chosen_before: Cell<u64>,
    marked_at: Cell<u64>,
    /// Another process writes the line.
    handed_over: Cell<bool>,
}

impl LoadWriter {
    /// No connections yet, and what was chosen for an earlier worker of this number is not this one's.
    fn begin(&self) {
        let line = self.line();
        let chosen = line.chosen.load(Relaxed);
        let now = now();
        line.settled.store(chosen, Relaxed);
        line.connections.store(0, Relaxed);
        line.busy_permille.store(0, Relaxed);
        line.beat.store(now, Relaxed);
        self.chosen_before.set(chosen);
        self.marked_at.set(now);
    }

    /// The worker accepted a connection, steered here or not.
    pub fn opened(&self) {
        if self.handed_over.get() {
            return;
        }
        let line = self.line();
        let connections = line.connections.load(Relaxed);
        line.connections.store(connections.saturating_add(1), Relaxed);
        let settled = line.settled.load(Relaxed);
        if settled < line.chosen.load(Relaxed) {
            line.settled.store(settled + 1, Relaxed);
        }
    }

    /// A connection that was counted as opened is gone.
    pub fn closed(&self) {
        if self.handed_over.get() {
            return;
        }
        let connections = self.line().connections;
        connections.store(connections.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// The worker is alive, was busy for so many thousandths of the time since the last beat, and has so many connections.
    /// Called at least every [`BEAT_INTERVAL_NS`](proxy_common::steer::BEAT_INTERVAL_NS).
    pub fn beat(&self, busy_permille: u32, connections: u64) {
        // While one process takes over from another both count.
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        self.line().connections.store(connections, Relaxed);
        self.beat_at(now(), busy_permille);
    }

    /// From now on the worker of another process writes the line.
    pub fn hand_over(&self) {
        self.handed_over.set(true);
    }

    fn beat_at(&self, now: u64, busy_permille: u32) {
        let line = self.line();
        // Half of what is seen is new: a second's worth of beats, so that one expensive handshake isn't a trend.
        let before = line.busy_permille.load(Relaxed);
        let busy = (before + busy_permille.min(1_000)).div_ceil(2);
        line.busy_permille.store(busy, Relaxed);
        line.beat.store(now, Relaxed);
        if now.saturating_sub(self.marked_at.get()) >= ABANDONED_NS {
            let settled = line.settled.load(Relaxed);
            line.settled.store(settled.max(self.chosen_before.get()), Relaxed);
            self.chosen_before.set(line.chosen.load(Relaxed));
            self.marked_at.set(now);
        }
    }

    /// How many connections it counts.
    pub fn connections(&self) -> u32 {
        self.line().connections.load(Relaxed)
    }

    fn line(&self) -> Line<'_> {
        self.loads.line(self.worker)
    }
}

/// The clock of `bpf_ktime_get_coarse_ns`, read without a system call.
fn now() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Arc<LoadMap> {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping.
        let memory = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), LENGTH, flags, MapFlags::PRIVATE) };
        let lines = NonNull::new(memory.expect("memory").cast()).expect("an address");
        Arc::new(LoadMap { lines })
    }

    fn choose(loads: &LoadMap, worker: usize, times: u64) {
        loads.line(worker).chosen.fetch_add(times, Relaxed);
    }

    fn load(loads: &LoadMap, worker: usize) -> u64 {
        let load = loads.load(worker);
        load.chosen - load.settled + u64::from(load.connections)
    }

    #[test]
    fn a_connection_counts_once_on_its_way_and_once_open() {
        let loads = memory();
        choose(&loads, 3, 7);
        let writer = loads.writer(3);
        assert_eq!(load(&loads, 3), 0, "the choices of the one before");
        choose(&loads, 3, 2);
        assert_eq!(load(&loads, 3), 2);
        writer.opened();
        assert_eq!((load(&loads, 3), writer.connections()), (2, 1));
        writer.opened();
        // One that nobody chose, by an ordinary socket.
        writer.opened();
        assert_eq!((load(&loads, 3), writer.connections()), (3, 3));
        writer.closed();
        assert_eq!((load(&loads, 3), writer.connections()), (2, 2));
        assert_eq!(load(&loads, 2), 0);
    }

    #[test]
    fn a_handshake_that_never_ends_is_forgotten() {
        let loads = memory();
        let writer = loads.writer(0);
        let start = writer.marked_at.get();
        choose(&loads, 0, 5);
        writer.opened();
        writer.beat_at(start + ABANDONED_NS, 0);
        assert_eq!(load(&loads, 0), 5, "they are not old enough");
        choose(&loads, 0, 2);
        writer.beat_at(start + 2 * ABANDONED_NS, 0);
        assert_eq!(load(&loads, 0), 3, "one is open, two are on their way");
        writer.opened();
        writer.opened();
        writer.beat_at(start + 3 * ABANDONED_NS, 0);
        assert_eq!((load(&loads, 0), writer.connections()), (3, 3));
    }

    #[test]
    fn utilisation_follows_within_a_few_beats() {
        let loads = memory();
        let writer = loads.writer(0);
        writer.beat(1_000, 0);
        assert_eq!(loads.load(0).busy_permille, 500);
        (0..12).for_each(|_| writer.beat(2_000, 0));
        assert_eq!(loads.load(0).busy_permille, 1_000);
        (0..12).for_each(|_| writer.beat(0, 0));
        assert_eq!(loads.load(0).busy_permille, 1);
        assert!(now() - loads.load(0).beat < 1_000_000_000);
    }
}
