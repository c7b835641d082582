//! A worker's one buffer for bytes that pass through.

use std::cell::Cell;

/// Bytes of the buffer: what one read takes at most.
pub(super) const SIZE: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the worker's buffer. It stays in the cache, and an idle connection holds none. Lent again inside of `borrower`, it
/// is another one.
pub(super) fn with<T>(borrower: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SIZE].into());
    let result = borrower(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
