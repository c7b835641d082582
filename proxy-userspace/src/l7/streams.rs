//! Tasks that answer HTTP/2 streams, kept for the streams to come: a task's state is some KiB, which a task a stream would
//! write to fresh memory each time.

use super::http2::{self, Job};
use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Waiting tasks a worker keeps, each some KiB: enough for the streams of a usual moment.
const MOST_IDLE: usize = 512;

/// A worker's tasks that wait for a stream. The last to come is taken first: its memory is still in the cache.
#[derive(Default)]
pub struct Idle(RefCell<Vec<Rc<Seat>>>);

/// Where a task finds its next stream.
#[derive(Default)]
struct Seat {
    job: Cell<Option<Job>>,
    waker: OnceCell<Waker>,
}

/// Has the stream answered by a task that waits, or by a new one.
pub fn run(job: Job) {
    let worker = &job.connection.worker;
    let waiting = worker.streams.0.borrow_mut().pop();
    if let Some(seat) = waiting {
        seat.job.set(Some(job));
        if let Some(waker) = seat.waker.get() {
            waker.wake_by_ref();
        }
        return;
    }
    let worker = Rc::clone(worker);
    let seat = Rc::new(Seat::default());
    seat.job.set(Some(job));
    // Boxed: tokio moves a task's future several times, and this one is large.
    tokio::task::spawn_local(Box::pin(async move {
        loop {
            let job = poll_fn(|cx| seat.poll_job(cx)).await;
            http2::answer(job).await;
            let mut idle = worker.streams.0.borrow_mut();
            if idle.len() >= MOST_IDLE {
                return;
            }
            idle.push(Rc::clone(&seat));
        }
    }));
}

impl Seat {
    fn poll_job(&self, cx: &mut Context<'_>) -> Poll<Job> {
        // A task has one waker as long as it lives.
        self.waker.get_or_init(|| cx.waker().clone());
        self.job.take().map_or(Poll::Pending, Poll::Ready)
    }
}
