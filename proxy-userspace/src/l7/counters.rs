//! What a worker counts: written by that worker alone, read by control.

use super::tls::AcceptError;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and others read: no locked instruction.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn increase(&self) {
        self.add(1);
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    /// One fewer.
    pub fn decrease(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// Nothing.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's counters.
#[derive(Default, Debug)]
pub struct Counters {
    /// Client connections open now.
    pub connections: Count,
    /// Client connections ever.
    pub accepted: Count,
    /// HTTP requests, and TCP connections forwarded.
    pub requests: Count,
    /// Responses by hundreds of their status: 1xx at 0.
    pub responses: [Count; 5],
    /// Bytes from clients.
    pub received: Count,
    /// Bytes to clients.
    pub sent: Count,
    /// TLS handshakes that failed, by [`AcceptError`].
    pub handshakes_failed: [Count; AcceptError::ALL.len()],
    /// Connections refused because accept failed, for want of file descriptors or memory.
    pub accept_errors: Count,
    /// Client connections closed at once, for want of memory.
    pub refused: Count,
    /// The Snapshot it serves.
    pub generation: Count,
    /// Panics on its thread: each ended a connection, a stream, or the worker itself.
    pub panics: Count,
    /// How often another thread took the place of one that was gone.
    pub replaced: Count,
}

impl Counters {
    /// Another thread is the worker now, and has nothing open.
    pub fn replaced(&self) {
        self.replaced.increase();
        self.connections.reset();
        self.generation.reset();
    }

    /// Counts a response.
    pub fn responded(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.responses[class].increase();
    }
}
