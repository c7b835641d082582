//! What requests notice of reloads: latency at a fixed rate while the config is read again many times a second, beside the same
//! without, in turns; and what memory is left of it.

use super::{
    Bench, client,
    job::{Kind, Routes},
    latency::{self, QUANTILES, RATE},
    proxy::Subject,
};
use crate::bench::report::{self, Series};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use weir_tests::lab::Admin;

/// What is read again each time.
const ROUTES: Routes = Routes {
    count: 10_000,
    hosts: 1_000,
};

/// Reloads a second: 1,000 a minute.
const RELOADS: f64 = 1_000.0 / 60.0;

/// A measurement is so many times as long as others: less than the 10 s after which a connection without a request is closed. `--rounds 8` makes
/// 1,000 reloads.
const LENGTH: u32 = 8;

/// Measures and prints a table.
///
/// # Errors
/// When a request or a reload fails.
pub fn measure(bench: &Bench<'_>) -> Result<Value> {
    if !bench.arguments.subjects().contains(&Subject::Weir) {
        return Ok(Value::Null);
    }
    let started = bench.start(Subject::Weir, Kind::Http1, ROUTES, bench.backends.http1, 0)?;
    let mut proxy = started.context("Weir does all jobs")?;
    let configs = Configs::new(proxy.folder())?;
    let request = client::request(
        &Routes::host(ROUTES.hosts - 1),
        &format!("{}item", Routes::prefix(ROUTES.count - 1)),
    );
    let time = bench.arguments.time() * LENGTH;
    let mut found = Found::default();
    for round in 0..=bench.arguments.rounds {
        for turn in 0..2 {
            ensure!(!weir_tests::lab::interrupted(), "interrupted");
            let reloads = (round + turn) % 2 == 1;
            // The first round fills caches, and is short.
            let time = if round == 0 { bench.arguments.time() } else { time };
            let cpu = proxy.cpu_seconds()?;
            let (latencies, times) = if reloads {
                configs.reload_meanwhile(|| latency::run(proxy.address, &request, time))?
            } else {
                (latency::run(proxy.address, &request, time)?, Vec::new())
            };
            if round == 0 {
                continue;
            }
            for ((_, share), series) in QUANTILES.iter().zip(&mut found.latencies[usize::from(reloads)]) {
                series.push(latencies.quantile(*share));
            }
            if reloads {
                found.reloads += times.len();
                found.busy.push((proxy.cpu_seconds()? - cpu) / time.as_secs_f64());
                times
                    .iter()
                    .for_each(|time| found.took.push(time.as_secs_f64() * 1e3));
            } else {
                found
                    .memory_mib
                    .push(proxy.memory_bytes()? as f64 / f64::from(1 << 20));
            }
        }
    }
    Ok(found.report())
}

/// All that was measured.
#[derive(Default)]
struct Found {
    /// The quantiles without and with reloads.
    latencies: [[Series; QUANTILES.len()]; 2],
    /// How long each reload took, in milliseconds.
    took: Series,
    reloads: usize,
    /// The daemon's part of its CPU meanwhile.
    busy: Series,
    /// Each time without reloads, at the end.
    memory_mib: Vec<f64>,
}

impl Found {
    /// Prints a table, and returns all of it.
    fn report(&self) -> Value {
        let [without, with] = &self.latencies;
        let over: Vec<Series> = with
            .iter()
            .zip(without)
            .map(|(with, without)| with.over(without))
            .collect();
        let rows = [
            ("without reloads", &without[..], 0),
            ("with reloads", with, 0),
            ("ratio", &over, 2),
        ];
        let rows = rows.map(|(name, series, digits)| {
            let shown = series.iter().map(|series| series.shown(digits));
            std::iter::once(name.to_owned()).chain(shown).collect()
        });
        let count = self.reloads;
        println!(
            "{count} reloads of {} routes, {RELOADS:.1} a second; latency at {RATE} requests a second, µs",
            ROUTES.count
        );
        report::table(&["", "p50", "p99", "p99.9"], &rows);
        let (took, busy) = (self.took.shown(1), self.busy.shown(2));
        println!("a reload is answered after {took} ms; the daemon uses {busy} of its CPU");
        println!(
            "memory (PSS) each time without reloads, at the end: {:.1?} MiB\n",
            self.memory_mib
        );
        let took = &self.took;
        json!({
            "unit": "microseconds",
            "routes": ROUTES.count,
            "reloads": count,
            "without": named(without),
            "with": named(with),
            "ratio": named(&over),
            "reload_milliseconds": { "median": took.median(), "min": took.min(), "max": took.max() },
            "busy": self.busy.json(),
            "memory_mib_after_rounds": self.memory_mib,
        })
    }
}

fn named(series: &[Series]) -> Value {
    let pairs = QUANTILES.iter().zip(series);
    let named: serde_json::Map<_, _> = pairs
        .map(|((name, _), series)| ((*name).to_owned(), series.json()))
        .collect();
    named.into()
}

/// Two configs that take turns under one name, and the daemon that reads it.
struct Configs {
    current: PathBuf,
    both: [PathBuf; 2],
    admin: Admin,
    asked: AtomicUsize,
}

impl Configs {
    /// The second differs in one route's timeout.
    fn new(folder: &Path) -> Result<Self> {
        let current = folder.join("weir.yaml");
        let text = fs::read_to_string(&current)?;
        let (before, last) = text.rsplit_once(", cluster: b }").context("no route")?;
        let other = format!("{before}, timeouts: {{ request: 9s }}, cluster: b }}{last}");
        let both = ["a", "b"].map(|name| folder.join(name));
        for (path, text) in both.iter().zip([&text, &other]) {
            fs::write(path, text)?;
        }
        Ok(Self {
            current,
            both,
            admin: Admin::new(&folder.join("admin.sock")),
            asked: AtomicUsize::new(0),
        })
    }

    /// Puts the other config in its place and has it read.
    fn reload(&self) -> Result<Duration> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let new = self.current.with_extension(format!("{number}.new"));
        fs::hard_link(&self.both[1 - number % 2], &new)?;
        fs::rename(&new, &self.current)?;
        // It is left where it was the same file already (rename(2)), since two of these overtook each other.
        let _gone = fs::remove_file(&new);
        let begin = Instant::now();
        self.admin.expect_success("POST", "/reload", None)?;
        Ok(begin.elapsed())
    }

    /// Asks for reloads at the rate, whether earlier ones are answered or not, until the work is done; returns what came of it, and how
    /// long each reload took.
    fn reload_meanwhile<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Duration>)> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = scope.spawn(|| -> Result<Vec<Duration>> {
                let begin = Instant::now();
                let mut asked = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    asked.push(scope.spawn(|| self.reload()));
                    let next = begin + Duration::from_secs_f64(asked.len() as f64 / RELOADS);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                asked.into_iter().map(|one| joined(one.join())).collect()
            });
            let done = work();
            is_done.store(true, Ordering::Relaxed);
            let times = joined(asking.join())?;
            Ok((done?, times))
        })
    }
}

fn joined<T>(outcome: thread::Result<Result<T>>) -> Result<T> {
    outcome.map_err(|_| anyhow!("a thread that reloads panicked"))?
}
