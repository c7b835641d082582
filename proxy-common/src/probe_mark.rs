//! The socket mark (`SO_MARK`) of a health probe, which says by what backend it is to go.

/// The high byte: "W".
const MAGIC: u32 = 0x57 << 24;
/// Bits of the backend's index.
const INDEX: u32 = (1 << 24) - 1;

/// The mark for a backend's index; none for one beyond 24 bits.
pub const fn mark(backend: u32) -> Option<u32> {
    if backend > INDEX {
        None
    } else {
        Some(MAGIC | backend)
    }
}

/// The backend's index in a mark, if it is a probe's.
#[inline(always)]
pub const fn backend(mark: u32) -> Option<u32> {
    if mark & !INDEX == MAGIC {
        Some(mark & INDEX)
    } else {
        None
    }
}
