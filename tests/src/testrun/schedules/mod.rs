//! Random schedules through the real program and the model: no established flow moves while its backend lives, whatever happens to the
//! table, in whatever order.
//!
//! A schedule is the life of one service without NAT: its flows, changes of its backends, silences, sweeps and restarts of the daemon.
//! Many run side by side, in a round, since all wait together for the kernel's RCU at each change of a table. A round follows from its
//! seed alone: it begins with no flows and no services, and the programs' clock is its own.

mod account;
mod life;
mod packets;
mod round;
mod tally;

pub use tally::Tally;

use super::{
    Bench, isolated,
    snapshot::{Plan, PlannedService},
};
use anyhow::{Context, Result};
use proxy_common::net::Protocol;
use round::Round;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Schedules of a round.
pub const SERVICES: u64 = 48;

/// Entries of a table of tracked flows that has room for all.
const LARGE_TABLE: u32 = 4_096;

/// Entries of one that soon is full: services have some flows each that are to be stored.
const SMALL_TABLE: u32 = 48;

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Schedules over all threads; rounded up to whole rounds.
    pub schedules: u64,
    /// The first round's seed; each next one adds 1.
    pub seed: u64,
    /// Threads, each with a namespace and a program of its own. More than CPUs are of use: a round mostly waits.
    pub threads: u64,
}

/// Runs schedules until all are done or a flow moved.
///
/// # Errors
/// The schedule that went wrong, with its seed; or what kept the program from running.
pub fn run(run: Run) -> Result<Tally> {
    let start = Instant::now();
    let has_failed = AtomicBool::new(false);
    let mut tally = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..run.threads)
            .map(|at| {
                let has_failed = &has_failed;
                scope.spawn(move || {
                    let result = thread(run, at, has_failed);
                    has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => tally.add(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    tally.elapsed = start.elapsed();
    Ok(tally)
}

/// One thread's rounds: first those with a large table of tracked flows, then those with one that soon is full. Each sort has surroundings
/// of its own, since a table's size stays.
fn thread(run: Run, at: u64, has_failed: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::default();
    for is_small in [false, true] {
        let numbers = at..run.schedules.div_ceil(SERVICES);
        let seeds: Vec<u64> = numbers
            .step_by(run.threads as usize)
            .map(|number| run.seed.wrapping_add(number))
            .filter(|seed| (seed % 2 == 1) == is_small)
            .collect();
        if !seeds.is_empty() {
            tally.add(isolated(|| rounds(&seeds, is_small, has_failed))?);
        }
    }
    Ok(tally)
}

fn rounds(seeds: &[u64], is_small: bool, has_failed: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::default();
    let empty = empty(if is_small { SMALL_TABLE } else { LARGE_TABLE })?;
    let mut bench = Bench::open(&empty)?;
    for seed in seeds {
        if has_failed.load(Ordering::Relaxed) {
            break;
        }
        Round::new(&mut bench, empty.clone(), *seed, &mut tally)?
            .run()
            .with_context(|| format!("seed {seed}"))?;
        tally.schedules += SERVICES;
    }
    Ok(tally)
}

/// No service under test, and one that is never sent anything (see [`Round::restart`]).
fn empty(max_tracked_flows: u32) -> Result<Plan> {
    let idle = PlannedService::new("198.18.0.250:9", Protocol::Udp, &["192.0.2.20:9"])?;
    Ok(Plan {
        services: vec![idle],
        ports: (1024, 1055),
        max_flows: 64,
        max_tracked_flows,
        decap: Vec::new(),
        max_services_backends: (64, 1024),
    })
}
