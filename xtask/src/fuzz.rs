//! `cargo xtask fuzz`: random packets through the programs and the model.

use anyhow::Result;
use clap::{Args, Subcommand};
use proxy_common::verdict::DropReason;
use std::{thread, time::SystemTime};
use weir_tests::testrun::fuzz;

/// Arguments of `fuzz`.
#[derive(Args)]
pub struct FuzzArgs {
    #[command(subcommand)]
    target: FuzzTarget,
}

/// What to run packets through.
#[derive(Subcommand)]
enum FuzzTarget {
    /// The XDP balancer.
    L4(L4Args),
}

/// Arguments of `fuzz l4`.
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

/// Runs it, and prints how often each verdict was reached.
///
/// # Errors
/// The program and the model differ, or the program can't be run.
pub fn run(arguments: FuzzArgs) -> Result<()> {
    let FuzzTarget::L4(arguments) = arguments.target;
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::UNIX_EPOCH.elapsed()?.as_secs(),
    };
    let threads = match arguments.threads {
        Some(threads) => threads.max(1),
        None => thread::available_parallelism()?.get() as u64,
    };
    println!(
        "fuzz l4: {} packets, {threads} threads, seed {seed}",
        arguments.packets
    );
    let tally = fuzz::run(fuzz::Run {
        packets: arguments.packets,
        seed,
        threads,
    })?;
    print!("{tally}");
    for reason in DropReason::ALL {
        if tally.drops(*reason) == 0 {
            println!("not reached: drop: {}", reason.label());
        }
    }
    println!("0 differences");
    Ok(())
}
