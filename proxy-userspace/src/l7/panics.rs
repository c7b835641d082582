//! Panics, which are bugs of weir: each is a line in the log and counted for the worker it happened in; what it ends, a task or a
//! worker's thread, is made good where that was started.

use super::Counters;
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    future::poll_fn,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::pin,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
};
use tracing::error;

thread_local! {
    /// Those of the worker whose thread this is.
    static COUNTERS: RefCell<Option<Arc<Counters>>> = const { RefCell::new(None) };
}

/// Panics in threads that are no worker's.
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

/// Logs and counts every panic of this process from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            note(panic);
            // Which of many tests it was, the test runner's says.
            if cfg!(test) {
                before(panic);
            }
        }));
    });
}

/// This thread's panics are that worker's.
pub(super) fn belong_to(counters: &Arc<Counters>) {
    COUNTERS.with(|mine| mine.replace(Some(Arc::clone(counters))));
}

/// How many there were in threads that are no worker's.
pub fn elsewhere() -> u64 {
    ELSEWHERE.load(Ordering::Relaxed)
}

fn note(panic: &PanicHookInfo<'_>) {
    let of_worker = COUNTERS.try_with(|mine| {
        let mine = mine.try_borrow().ok();
        let counters = mine.as_ref().and_then(|mine| mine.as_ref());
        counters.map(|counters| counters.panics.increase()).is_some()
    });
    if of_worker != Ok(true) {
        ELSEWHERE.fetch_add(1, Ordering::Relaxed);
    }
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no text");
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    error!("panic in {thread} at {place}: {what}; this is a bug of weir, please report it");
    // Asked for by RUST_BACKTRACE.
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        error!("{trace}");
    }
}

/// It panicked: the hook has said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Panicked;

/// What a future comes to, also if that is a panic.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // After a panic it is not polled again.
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// Panics for a request that a test made to that end.
#[cfg(test)]
pub(super) fn as_asked(headers: &http::HeaderMap) {
    assert!(!headers.contains_key("x-panic"), "as a test asked for");
}
