//! A worker's end of a log: a buffer of its own, handed over when it is full.

use super::{Entry, Format, Sink, writer::Lines};
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// A buffer is handed over when it holds this much: one write a few hundred lines.
pub(super) const FULL: usize = 64 << 10;

/// Buffers that wait for their worker to use them again.
const RECYCLED: usize = 4;

/// One worker's end of a sink.
#[derive(Debug)]
pub struct Logger {
    format: Arc<Format>,
    sink: Arc<Sink>,
    pub(super) buffer: RefCell<Vec<u8>>,
    /// Lines in the buffer.
    lines: Cell<u64>,
    dropped: Arc<AtomicU64>,
    recycled: (SyncSender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl Logger {
    /// A worker's end; it stays on its thread.
    pub fn new(sink: Arc<Sink>, format: Arc<Format>) -> Self {
        let dropped = Arc::<AtomicU64>::default();
        sink.enter(&dropped);
        Self {
            format,
            sink,
            buffer: RefCell::default(),
            lines: Cell::new(0),
            dropped,
            recycled: sync_channel(RECYCLED),
        }
    }

    /// Appends an entry's line, or drops it when the thread is behind. Never waits.
    pub fn log(&self, entry: &Entry<'_>) {
        if self.buffer.borrow().len() >= FULL && !self.flush() {
            self.drop_lines(1);
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        if buffer.capacity() == 0 {
            *buffer = (self.recycled.1.try_recv()).unwrap_or_else(|_| Vec::with_capacity(FULL + FULL / 8));
        }
        self.format.write_line(entry, &mut buffer);
        self.lines.set(self.lines.get() + 1);
        let full = buffer.len() >= FULL;
        drop(buffer);
        if full {
            self.flush();
        }
    }

    /// Hands over what there is, for a worker's timer. Returns whether nothing is left: while the thread is behind, the lines
    /// stay here.
    pub fn flush(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return true;
        }
        let lines = Lines::new(
            std::mem::take(&mut *buffer),
            self.lines.get(),
            self.recycled.0.clone(),
        );
        match self.sink.hand_over(lines) {
            Ok(()) => {
                self.lines.set(0);
                true
            }
            Err(lines) => {
                *buffer = lines.into_bytes();
                false
            }
        }
    }

    pub(super) fn drop_lines(&self, count: u64) {
        // A load and a store: nobody else writes it.
        let dropped = self.dropped.load(Ordering::Relaxed);
        self.dropped.store(dropped + count, Ordering::Relaxed);
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if !self.flush() {
            self.drop_lines(self.lines.get());
        }
        self.sink.leave(&self.dropped);
    }
}
