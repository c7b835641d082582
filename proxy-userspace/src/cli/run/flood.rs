//! A line that repeats a lot is written some times, and then counted.

use std::{
    fmt::{Debug, Write},
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{
    Event, Level, Metadata, Subscriber, error,
    field::{Field, Visit},
    info,
    level_filters::LevelFilter,
    warn,
};
use tracing_subscriber::{Layer, layer::Context};

/// Lines of one place in the code within [`WINDOW`]; a reload may write as many changes.
const FIRST: u32 = 20;

/// Begins with the first line of a place.
const WINDOW: Duration = Duration::from_secs(10);

/// How often it is looked whether windows have ended.
const LOOK: Duration = Duration::from_secs(1);

/// Places in the code that log; those beyond are not counted, and all their lines written.
const PLACES: usize = 512;

/// Characters of a line that a summary quotes.
const QUOTED: usize = 160;

/// What writes the summaries, and what must never be left out.
const EXEMPT: [&str; 2] = [SUMMARIES, "weir::admin::audit"];

const SUMMARIES: &str = "weir::log";

/// Counts lines by their place in the code. Places are static, so that a table of fixed size has them all; nothing waits for a lock.
pub(in crate::cli) struct Flood {
    epoch: Instant,
    places: Box<[Place]>,
}

#[derive(Default)]
struct Place {
    metadata: OnceLock<&'static Metadata<'static>>,
    /// Milliseconds from the epoch.
    begun: AtomicU64,
    /// Lines in this window.
    count: AtomicU32,
    /// The last one that was written.
    last: Mutex<String>,
}

/// Asks it about every event.
pub(super) struct FloodLayer(pub(super) Arc<Flood>);

impl<S: Subscriber> Layer<S> for FloodLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Whoever asked for debug wants all of it.
        LevelFilter::current() > LevelFilter::INFO || self.0.admits(event)
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            places: (0..PLACES).map(|_| Place::default()).collect(),
        }
    }
}

impl Flood {
    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || EXEMPT.contains(&metadata.target()) {
            return true;
        }
        let Some(place) = self.place(metadata) else {
            return true;
        };
        let before = place.count.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            place.begun.store(self.milliseconds(), Ordering::Relaxed);
        }
        if before + 1 == FIRST
            && let Ok(mut last) = place.last.try_lock()
        {
            last.clear();
            event.record(&mut Quote(&mut last));
        }
        before < FIRST
    }

    fn place(&self, metadata: &'static Metadata<'static>) -> Option<&Place> {
        let start = std::ptr::from_ref(metadata).addr() / align_of::<Metadata<'_>>();
        (0..PLACES).find_map(|step| {
            let place = &self.places[(start + step) % PLACES];
            let owner = place.metadata.get_or_init(|| metadata);
            std::ptr::eq(*owner, metadata).then_some(place)
        })
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends windows that are over, all of them at the end of the daemon, and says what was left out.
    pub(super) fn tell(&self, all: bool) {
        let now = self.milliseconds();
        for place in &self.places {
            let Some(metadata) = place.metadata.get() else {
                continue;
            };
            let count = place.count.load(Ordering::Relaxed);
            let took = Duration::from_millis(now.saturating_sub(place.begun.load(Ordering::Relaxed)));
            if count == 0 || (took < WINDOW && !all) {
                continue;
            }
            // Lines from here on begin another window.
            let more = place.count.swap(0, Ordering::Relaxed).saturating_sub(FIRST);
            if more == 0 {
                continue;
            }
            let last = place.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let seconds = took.as_secs().max(1);
            let more = with_commas(more);
            match *metadata.level() {
                Level::ERROR => error!(target: SUMMARIES, "… {more} more like this in {seconds} s: {last}"),
                Level::WARN => warn!(target: SUMMARIES, "… {more} more like this in {seconds} s: {last}"),
                _ => info!(target: SUMMARIES, "… {more} more like this in {seconds} s: {last}"),
            }
        }
    }

    /// A thread of its own: whatever the daemon waits for, a place that was silenced speaks again.
    pub(super) fn tell_from_a_thread(self: Arc<Self>) -> io::Result<()> {
        let thread = thread::Builder::new().name("log".into());
        thread.spawn(move || {
            loop {
                thread::sleep(LOOK);
                self.tell(false);
            }
        })?;
        Ok(())
    }
}

/// An event's message, or else its fields.
struct Quote<'a>(&'a mut String);

impl Visit for Quote<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
        // Writing to a String doesn't fail.
        debug_assert!(written.is_ok());
        self.0.truncate(self.0.floor_char_boundary(QUOTED));
    }
}

fn with_commas(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::subscriber::with_default;
    use tracing_subscriber::{filter, fmt, layer::SubscriberExt};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_is_counted_and_others_are_not_touched() {
        let flood = Arc::new(Flood::default());
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter::LevelFilter::INFO)
            .with(fmt::layer().with_ansi(false).with_writer(move || writer.clone()))
            .with(FloodLayer(Arc::clone(&flood)));
        with_default(subscriber, || {
            for number in 0..4_231 {
                warn!(number, "the sky falls");
                if number % 1_000 == 0 {
                    info!("all is well");
                }
                if number < 50 {
                    info!(target: "weir::admin::audit", "somebody did something");
                }
            }
            flood.tell(false);
            flood.tell(true);
            flood.tell(true);
            warn!("another window");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |wanted: &str| text.lines().filter(|line| line.contains(wanted)).count();
        // With the one that the summary quotes.
        assert_eq!(count("the sky falls"), FIRST as usize + 1, "{text}");
        assert_eq!(
            count("… 4,211 more like this in 1 s: the sky falls number=19"),
            1,
            "{text}"
        );
        assert_eq!(count("all is well"), 5);
        assert_eq!(count("somebody did something"), 50);
        assert_eq!(count("another window"), 1);
    }

    #[test]
    fn commas() {
        for (number, text) in [(1, "1"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(with_commas(number), text);
        }
    }
}
