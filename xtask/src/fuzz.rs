//! `cargo xtask fuzz`: random packets and schedules through the programs and the model, random requests through both
//! routers.

use anyhow::Result;
use clap::{Args, Subcommand};
use proxy_common::{decap::DecapOutcome, verdict::DropReason};
use std::{thread, time::SystemTime};
use weir_tests::{
    routes,
    testrun::{fuzz, schedules, tunnels},
};

/// Arguments of `fuzz`.
#[derive(Args)]
pub struct FuzzArgs {
    #[command(subcommand)]
    target: FuzzTarget,
}

/// What to run.
#[derive(Subcommand)]
enum FuzzTarget {
    /// The XDP balancer.
    L4(L4Args),
    /// The end of tunnels on a backend's host.
    Decap(L4Args),
    /// Flow tracking: no established flow moves while its backend lives.
    Flows(FlowsArgs),
    /// Routing: the compiled form against the plain matcher.
    Routes(RoutesArgs),
}

/// Arguments of `fuzz l4` and `fuzz decap`.
#[derive(Args)]
struct L4Args {
    /// Packets over all threads.
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// Repeats a run; by default from the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads, each with a program and a model of its own; thread n uses the seed plus n.
    #[arg(long)]
    threads: Option<u64>,
}

/// Arguments of `fuzz flows`.
#[derive(Args)]
struct FlowsArgs {
    /// Schedules over all threads, each a service's life.
    #[arg(long, default_value_t = 100_000)]
    schedules: u64,
    /// Repeats a run; by default from the clock. A failed round is repeated by its own seed and `--schedules 1`.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads, each with a program and a model of its own. They mostly wait for the kernel.
    #[arg(long, default_value_t = 16)]
    threads: u64,
}

/// Arguments of `fuzz routes`.
#[derive(Args)]
struct RoutesArgs {
    /// Pairs of a table of routes and a request.
    #[arg(long, default_value_t = 10_000_000)]
    pairs: u64,
    /// Repeats a run; by default from the clock.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it, and prints how often each outcome was reached.
///
/// # Errors
/// The two differ, or the program can't be run.
pub fn run(arguments: FuzzArgs) -> Result<()> {
    match arguments.target {
        FuzzTarget::L4(arguments) => run_l4(&arguments),
        FuzzTarget::Decap(arguments) => run_decap(&arguments),
        FuzzTarget::Flows(arguments) => run_flows(&arguments),
        FuzzTarget::Routes(arguments) => run_routes(&arguments),
    }
}

fn seed(given: Option<u64>) -> Result<u64> {
    match given {
        Some(seed) => Ok(seed),
        None => Ok(SystemTime::UNIX_EPOCH.elapsed()?.as_secs()),
    }
}

fn run_routes(arguments: &RoutesArgs) -> Result<()> {
    let seed = seed(arguments.seed)?;
    println!("fuzz routes: {} pairs, one thread, seed {seed}", arguments.pairs);
    let tally = routes::run(routes::Run {
        pairs: arguments.pairs,
        seed,
    })?;
    print!("{tally}");
    println!("0 differences");
    Ok(())
}

fn run_flows(arguments: &FlowsArgs) -> Result<()> {
    let seed = seed(arguments.seed)?;
    let threads = arguments.threads.max(1);
    println!(
        "fuzz flows: {} schedules, {threads} threads, seed {seed}",
        arguments.schedules
    );
    let tally = schedules::run(schedules::Run {
        schedules: arguments.schedules,
        seed,
        threads,
    })?;
    print!("{tally}");
    for kind in tally.missing() {
        println!("not reached: {kind}");
    }
    println!("0 flows moved");
    Ok(())
}

impl L4Args {
    /// What to run, and says so.
    fn run(&self, what: &str) -> Result<fuzz::Run> {
        let seed = seed(self.seed)?;
        let threads = match self.threads {
            Some(threads) => threads.max(1),
            None => thread::available_parallelism()?.get() as u64,
        };
        let packets = self.packets;
        println!("fuzz {what}: {packets} packets, {threads} threads, seed {seed}");
        Ok(fuzz::Run {
            packets,
            seed,
            threads,
        })
    }
}

fn run_decap(arguments: &L4Args) -> Result<()> {
    let tally = tunnels::run(arguments.run("decap")?)?;
    print!("{tally}");
    for outcome in DecapOutcome::ALL {
        if tally.outcomes(*outcome) == 0 {
            println!("not reached: {}", outcome.label());
        }
    }
    println!("0 differences");
    Ok(())
}

fn run_l4(arguments: &L4Args) -> Result<()> {
    let tally = fuzz::run(arguments.run("l4")?)?;
    print!("{tally}");
    for reason in DropReason::ALL {
        if tally.drops(*reason) == 0 {
            println!("not reached: drop: {}", reason.label());
        }
    }
    println!("0 differences");
    Ok(())
}
