//! Random routes and requests: the compiled form must find what the plain matcher finds.

mod generate;
mod show;
mod shrink;

pub use generate::{Request, request, routes};

use crate::model::random::Random;
use anyhow::{Result, bail};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use weir::l7::router::{Router, linear};
use weir::model::l7::{PathMatch, Route};

/// Requests that are asked of one table of routes.
const REQUESTS_OF_A_TABLE: u64 = 256;

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Pairs of a table of routes and a request.
    pub pairs: u64,
    /// Repeats a run.
    pub seed: u64,
}

/// What was seen.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Pairs compared.
    pub pairs: u64,
    /// Tables of routes.
    pub tables: u64,
    /// Routes of all tables.
    pub routes: u64,
    /// How often a route of each kind won, and how often none did.
    pub winners: BTreeMap<&'static str, u64>,
    /// Time of all of it, on one thread.
    pub elapsed: Duration,
}

impl Tally {
    /// Everything a route can be found by, and that none is found.
    pub const KINDS: [&str; 7] = [
        "no path",
        "exact",
        "prefix",
        "segment prefix",
        "expression",
        "grpc",
        "none",
    ];
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "{} pairs in {seconds:.1} s ({:.0} a second), {} tables of {:.0} routes on average",
            self.pairs,
            self.pairs as f64 / seconds,
            self.tables,
            self.routes as f64 / self.tables.max(1) as f64
        )?;
        for (kind, count) in &self.winners {
            writeln!(f, "{count:>12} {kind}")?;
        }
        Ok(())
    }
}

/// Compares pairs until all are done or one differs.
///
/// # Errors
/// The difference, made as small as it goes, with seed and table.
pub fn run(run: Run) -> Result<Tally> {
    let start = Instant::now();
    let mut random = Random::new(run.seed);
    let mut tally = Tally::default();
    while tally.pairs < run.pairs {
        let table: Arc<[Route]> = routes(&mut random).into();
        let router = Router::compile(Arc::clone(&table));
        for _ in 0..REQUESTS_OF_A_TABLE.min(run.pairs - tally.pairs) {
            let request = request(&mut random, &table);
            let expected = linear::find(&table, &request.facts());
            let found = router.find(&request.facts()).map(|(at, _)| at);
            if found != expected {
                let (seed, number) = (run.seed, tally.tables);
                let (routes, request) = shrink::shrink(table.to_vec(), request, differs);
                bail!(
                    "seed {seed}, table {number}: compiled {found:?}, linear {expected:?}; at its smallest:\n{}",
                    show::pair(&routes, &request)
                );
            }
            *tally.winners.entry(kind(&table, expected)).or_default() += 1;
            tally.pairs += 1;
        }
        tally.tables += 1;
        tally.routes += table.len() as u64;
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}

fn differs(routes: &[Route], request: &Request) -> bool {
    let compiled = Router::compile(routes.into());
    let found = compiled.find(&request.facts()).map(|(at, _)| at);
    found != linear::find(routes, &request.facts())
}

fn kind(routes: &[Route], winner: Option<usize>) -> &'static str {
    let Some(at) = winner else {
        return "none";
    };
    let matches = &routes[at].matches;
    match (&matches.path, &matches.grpc) {
        (Some(PathMatch::Exact(_)), _) => "exact",
        (Some(PathMatch::Prefix(_)), _) => "prefix",
        (Some(PathMatch::SegmentPrefix(_)), _) => "segment prefix",
        (Some(PathMatch::Regex(_)), _) => "expression",
        (None, Some(_)) => "grpc",
        (None, None) => "no path",
    }
}
