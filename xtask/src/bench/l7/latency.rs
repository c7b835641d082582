//! Latency at a fixed rate, from the moment a request was due: a proxy that stalls is charged for all that waited.

use super::{
    Bench,
    backend::SMALL,
    client,
    job::{Kind, Routes},
};
use crate::bench::report::{self, Series};
use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Requests a second: a third of what the slowest proxy does.
pub const RATE: f64 = 2_000.0;

/// Connections; more requests than these wait.
const CONNECTIONS: usize = 64;

/// The quantiles shown, and their names.
pub const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures and prints a table.
///
/// # Errors
/// When a request fails.
pub fn measure(bench: &Bench<'_>) -> Result<Value> {
    let mut cases = Vec::new();
    for (number, subject) in bench.arguments.subjects().into_iter().enumerate() {
        let proxy = bench.start(subject, Kind::Http1, Routes::ANY, bench.backends.http1, number)?;
        cases.extend(proxy.map(|proxy| (proxy, QUANTILES.map(|_| Series::default()))));
    }
    let request = client::request("localhost", "/");
    // Enough requests for a 99.9th percentile that is more than the worst.
    let time = bench.arguments.time() * 3;
    for round in 0..=bench.arguments.rounds {
        for index in 0..cases.len() {
            ensure!(!weir_tests::lab::interrupted(), "interrupted");
            let count = cases.len();
            let (proxy, series) = &mut cases[(index + round) % count];
            let latencies =
                run(proxy.address, &request, time).with_context(|| proxy.subject.name().to_owned())?;
            for ((_, share), series) in QUANTILES.iter().zip(series).filter(|_| round > 0) {
                series.push(latencies.quantile(*share));
            }
        }
    }
    let mut json = json!({ "unit": "microseconds", "requests_per_second": RATE, "connections": CONNECTIONS });
    let mut rows = Vec::new();
    for (proxy, series) in &cases {
        let name = proxy.subject.name();
        json[name] = json!({});
        for ((quantile, _), series) in QUANTILES.iter().zip(series) {
            json[name][*quantile] = series.json();
        }
        rows.push(
            std::iter::once(name.to_owned())
                .chain(series.iter().map(|series| series.shown(0)))
                .collect(),
        );
    }
    println!(
        "Latency at {RATE} requests a second, HTTP/1.1, 1 KiB, from when each was due, µs; median (range) of runs"
    );
    report::table(&["proxy", "p50", "p99", "p99.9"], &rows);
    Ok(json)
}

/// Latencies of one run, in microseconds, ascending.
pub struct Latencies(Vec<f64>);

impl Latencies {
    /// The latency that this share of the requests didn't exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let index = (share * self.0.len() as f64) as usize;
        self.0
            .get(index.min(self.0.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request that it carries was due.
    due: Option<Instant>,
    bytes: Vec<u8>,
}

/// Makes this request at the rate for that long, and waits for the last response.
///
/// # Errors
/// When a request fails.
pub fn run(to: SocketAddr, request: &[u8], time: Duration) -> Result<Latencies> {
    // The kernel may wake a sleeper 50 µs late unless told otherwise.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).context("timer slack")?;
    let mut connections = (0..CONNECTIONS)
        .map(|_| Connection::new(to))
        .collect::<Result<Vec<_>>>()?;
    let count = (RATE * time.as_secs_f64()) as u32;
    let begin = Instant::now();
    let due = |number: u32| begin + Duration::from_secs_f64(f64::from(number) / RATE);
    let mut next = 0;
    let mut waiting = VecDeque::new();
    let mut latencies = Vec::with_capacity(count as usize);
    while latencies.len() < count as usize {
        while next < count && due(next) <= Instant::now() {
            waiting.push_back(due(next));
            next += 1;
        }
        for connection in connections
            .iter_mut()
            .filter(|connection| connection.due.is_none())
        {
            let Some(due) = waiting.pop_front() else {
                break;
            };
            connection.stream.write_all(request)?;
            connection.due = Some(due);
        }
        let pause = if next < count {
            due(next).saturating_duration_since(Instant::now())
        } else {
            Duration::from_secs(10)
        };
        for index in readable(&connections, pause)? {
            if let Some(due) = connections[index].read()? {
                latencies.push(due.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    Ok(Latencies(latencies))
}

/// Connections that have something to read, after waiting no longer than `pause` for one.
fn readable(connections: &[Connection], pause: Duration) -> Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| PollFd::new(&connection.stream, PollFlags::IN))
        .collect();
    let pause = Timespec {
        tv_sec: pause.as_secs() as i64,
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    match poll(&mut polled, Some(&pause)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    let ready = polled
        .iter()
        .enumerate()
        .filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

impl Connection {
    fn new(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            due: None,
            bytes: Vec::with_capacity(2 * SMALL),
        })
    }

    /// Reads what is there; when that ends the response, returns when its request was due.
    fn read(&mut self) -> Result<Option<Instant>> {
        let mut bytes = [0; 4 * SMALL];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                ensure!(count > 0, "the connection was closed");
                self.bytes.extend_from_slice(&bytes[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if !client::is_whole(&self.bytes)? {
            return Ok(None);
        }
        self.bytes.clear();
        Ok(self.due.take())
    }
}
