//! The thread that sends spans: batches, tries again while the collector is away, and loses what is too much.

use super::{
    live::Trace,
    otlp,
    send::{Connection, Outcome},
    tracer::Tracing,
};
use crate::{l7::tls::TlsMistake, model};
use bytes::Bytes;
use prost::Message;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

/// Requests that wait for the thread: some 2 MiB, and two seconds at the default bound.
const QUEUE: usize = 2_048;

/// Spans sent together, unless the time is over.
const BATCH_SPANS: u64 = 512;

/// The first one of a batch waits no longer.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// Between the first two tries; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest: a collector that is back is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// While the daemon stops.
const STOPPING_PAUSE: Duration = Duration::from_millis(200);

/// A batch that nobody took for this long is lost, so that newer ones have a chance.
const BATCH_LIFE: Duration = Duration::from_secs(60);

/// What waits when the daemon stops is sent within this.
const FLUSH: Duration = Duration::from_secs(2);

/// What became of spans.
#[derive(Default, Debug)]
pub struct TraceCounters {
    /// The collector has them.
    pub exported: AtomicU64,
    /// Lost: the queue was full.
    pub queue_full: AtomicU64,
    /// Lost: the collector refused them.
    pub refused: AtomicU64,
    /// Lost: the collector was away for too long.
    pub unreachable: AtomicU64,
    /// Tries that failed.
    pub failures: AtomicU64,
}

impl TraceCounters {
    fn lost(&self) -> u64 {
        let all = [&self.queue_full, &self.refused, &self.unreachable];
        all.map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }
}

/// The thread, which is started when something is to be traced, and its queue.
pub struct Exporter {
    queue: mpsc::Sender<Box<Trace>>,
    /// Until the thread has it.
    waiting: Option<mpsc::Receiver<Box<Trace>>>,
    targets: watch::Sender<Option<Arc<Tracing>>>,
    /// When the thread has to end.
    stop: watch::Sender<Option<Instant>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<TraceCounters>,
}

impl Default for Exporter {
    fn default() -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Self {
            queue,
            waiting: Some(waiting),
            targets: watch::Sender::new(None),
            stop: watch::Sender::new(None),
            thread: None,
            counters: Arc::default(),
        }
    }
}

impl Exporter {
    /// What workers trace by; the same as before where the settings are. Nothing has changed until [`Exporter::follow`].
    ///
    /// # Errors
    /// TLS material that can't be used.
    pub fn prepare(
        &self,
        settings: Option<&Arc<model::Tracing>>,
    ) -> Result<Option<Arc<Tracing>>, TlsMistake> {
        let Some(settings) = settings else { return Ok(None) };
        if let Some(running) = &*self.targets.borrow()
            && running.settings == *settings
        {
            return Ok(Some(Arc::clone(running)));
        }
        let tracing = Tracing::new(settings, self.queue.clone(), &self.counters)?;
        Ok(Some(Arc::new(tracing)))
    }

    /// Starts the thread, if it is to run and doesn't yet.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(&mut self) -> io::Result<()> {
        let Some(queue) = self.waiting.take() else {
            return Ok(());
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut task = Task {
            queue,
            targets: self.targets.subscribe(),
            stop: self.stop.subscribe(),
            counters: Arc::clone(&self.counters),
            batch: Vec::new(),
            is_away: false,
            lost_before: 0,
        };
        let thread = thread::Builder::new().name("traces".into());
        self.thread = Some(thread.spawn(move || runtime.block_on(task.run()))?);
        Ok(())
    }

    /// Spans go there from now on, those that wait too.
    pub fn follow(&self, tracing: Option<Arc<Tracing>>) {
        self.targets.send_if_modified(|running| {
            let is_other = running.as_ref().map(Arc::as_ptr) != tracing.as_ref().map(Arc::as_ptr);
            *running = tracing;
            is_other
        });
    }

    /// What became of spans; none if there never were any.
    pub fn counters(&self) -> Option<&TraceCounters> {
        self.thread.is_some().then_some(&self.counters)
    }

    /// Sends what waits, if the collector takes it within two seconds. Nobody traces any more.
    pub fn drain(&mut self) {
        self.stop.send_replace(Some(Instant::now() + FLUSH));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of traces panicked; this is a bug of weir");
        }
    }
}

struct Task {
    queue: mpsc::Receiver<Box<Trace>>,
    targets: watch::Receiver<Option<Arc<Tracing>>>,
    stop: watch::Receiver<Option<Instant>>,
    counters: Arc<TraceCounters>,
    batch: Vec<Trace>,
    /// The last try failed, and the log says so.
    is_away: bool,
    /// Spans lost before that.
    lost_before: u64,
}

impl Task {
    async fn run(&mut self) {
        let mut stop = self.stop.clone();
        let deadline = async {
            let at = stop.wait_for(Option::is_some).await.ok().and_then(|at| *at);
            sleep_until(at.unwrap_or_else(Instant::now)).await;
        };
        tokio::select! {
            () = self.export() => {}
            () = deadline => {
                let left = spans(&self.batch) + std::iter::from_fn(|| self.queue.try_recv().ok()).map(|it| it.spans()).sum::<u64>();
                self.counters.unreachable.fetch_add(left, Ordering::Relaxed);
                warn!("tracing: {left} spans could not be exported before the end");
            }
        }
    }

    /// Until the daemon stops and the queue is empty.
    async fn export(&mut self) {
        let mut connection = None;
        loop {
            self.gather().await;
            if !self.batch.is_empty() {
                self.deliver(&mut connection).await;
            } else if self.is_stopping() {
                return;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Fills the batch, as long as there is time.
    async fn gather(&mut self) {
        self.batch.clear();
        let mut count = 0;
        let mut until: Option<Instant> = None;
        while count < BATCH_SPANS {
            let next = if self.is_stopping() {
                self.queue.try_recv().ok()
            } else {
                let mut stop = self.stop.clone();
                let received = async {
                    match until {
                        Some(until) => timeout_at(until, self.queue.recv()).await.ok().flatten(),
                        None => self.queue.recv().await,
                    }
                };
                tokio::select! {
                    next = received => next,
                    _ = stop.wait_for(Option::is_some) => continue,
                }
            };
            let Some(trace) = next else { return };
            until.get_or_insert_with(|| Instant::now() + BATCH_TIME);
            count += trace.spans();
            self.batch.push(*trace);
        }
    }

    /// Sends the batch until somebody has it, refuses it, or its time is over.
    async fn deliver(&mut self, connection: &mut Option<Connection>) {
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut message: Option<(Arc<Tracing>, Bytes)> = None;
        let spans = spans(&self.batch);
        loop {
            let Some(tracing) = self.targets.borrow_and_update().clone() else {
                // Tracing was turned off.
                return self.lose(spans, |counters| &counters.unreachable);
            };
            if !matches!(&message, Some((known, _)) if Arc::ptr_eq(known, &tracing)) {
                let request = otlp::request(&self.batch, &tracing.settings.service_name);
                message = Some((Arc::clone(&tracing), request.encode_to_vec().into()));
            }
            let Some((_, bytes)) = &message else { return };
            let open = connection
                .take()
                .filter(|open| Arc::ptr_eq(open.tracing(), &tracing));
            let sent = connection
                .insert(open.unwrap_or_else(|| Connection::new(tracing)))
                .send(bytes)
                .await;
            match sent {
                Outcome::Taken(refused) => return self.taken(spans, refused.min(spans)),
                Outcome::Refused(why) => {
                    self.failed(connection, &why);
                    return self.lose(spans, |counters| &counters.refused);
                }
                Outcome::Later(after, why) => {
                    self.failed(connection, &why);
                    if begin.elapsed() >= BATCH_LIFE {
                        return self.lose(spans, |counters| &counters.unreachable);
                    }
                    self.wait(after.unwrap_or(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Until the next try: another collector is tried at once, and so is the old one when the daemon stops.
    async fn wait(&mut self, pause: Duration) {
        if self.is_stopping() {
            return sleep(STOPPING_PAUSE).await;
        }
        // Not all hosts at the same time.
        let jitter = pause.mul_f64(fastrand::f64() / 4.0);
        tokio::select! {
            () = sleep(pause + jitter) => {}
            _ = self.targets.changed() => {}
            _ = self.stop.changed() => {}
        }
    }

    fn taken(&mut self, spans: u64, refused: u64) {
        self.counters
            .exported
            .fetch_add(spans - refused, Ordering::Relaxed);
        if refused > 0 {
            self.counters.refused.fetch_add(refused, Ordering::Relaxed);
        }
        if std::mem::take(&mut self.is_away) {
            let lost = self.counters.lost() - self.lost_before;
            info!("tracing: spans are exported again; {lost} were lost meanwhile");
        }
    }

    /// Said once, until the next success.
    fn failed(&mut self, connection: &Option<Connection>, why: &str) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let Some(connection) = connection else { return };
        if !std::mem::replace(&mut self.is_away, true) {
            self.lost_before = self.counters.lost();
            let authority = &connection.tracing().settings.collector.authority;
            warn!("tracing: {authority} takes no spans: {why}; traffic goes on, and later ones are tried");
        }
    }

    fn lose(&self, spans: u64, counter: fn(&TraceCounters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(spans, Ordering::Relaxed);
    }
}

fn spans(batch: &[Trace]) -> u64 {
    batch.iter().map(Trace::spans).sum()
}
