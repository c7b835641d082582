//! File descriptors that are kept back, so that the admin API answers when the process has no other left.

use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Clients of the API that can be served when no other descriptor is left.
const SPARE: usize = 4;

/// Of the process, as descriptors are. What takes their numbers meanwhile costs the kernel next to nothing.
static KEPT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Whether some were given to the API, and not put back since.
static MISSING: AtomicBool = AtomicBool::new(false);

/// Keeps as many as there are to be, if they are to be had.
pub(crate) fn keep() {
    let mut kept = lock();
    while kept.len() < SPARE
        && let Ok(another) = eventfd(0, EventfdFlags::CLOEXEC)
    {
        kept.push(another);
    }
    MISSING.store(kept.len() < SPARE, Ordering::SeqCst);
}

/// Gives one to the API, which is the next to take one: nobody who [asks](ask) takes any until all are there again. Whether there was one.
pub(crate) fn release() -> bool {
    let mut kept = lock();
    MISSING.store(true, Ordering::SeqCst);
    kept.pop().is_some()
}

/// To be asked before one is opened for traffic or for a probe. Those that came free are put back first: workers, which look ten times a
/// second for one while they have none, would leave nothing to the API.
///
/// # Errors
/// EMFILE, as the system would say.
pub(crate) fn ask() -> io::Result<()> {
    if !MISSING.load(Ordering::Relaxed) {
        return Ok(());
    }
    keep();
    if MISSING.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(())
}

fn lock() -> MutexGuard<'static, Vec<OwnedFd>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}
