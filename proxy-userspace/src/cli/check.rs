//! `weir check`: whether a config is right, and everything that is wrong with it.

use super::table::{
    Align::{Left, Right},
    Table,
};
use crate::{config, kernel};
use clap::Args;
use std::{fs, io, path::PathBuf, process::ExitCode};

/// Reads a config and says what is wrong with it; changes nothing.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The config: a file, or a directory of *.yaml and *.yml files.
    pub config: PathBuf,
    /// Show the kernel memory that its maps take, a line a map.
    #[arg(long)]
    pub capacity: bool,
}

/// Prints every mistake, or what the config holds and its warnings.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let endpoints: usize = loaded
        .clusters
        .values()
        .map(|cluster| cluster.endpoints.len() + cluster.dns.len())
        .sum();
    println!(
        "{}: ok: {}, {}, {}",
        args.config.display(),
        counted(loaded.services.len() + loaded.listeners.len(), "listener"),
        counted(loaded.clusters.len(), "cluster"),
        counted(endpoints, "endpoint"),
    );
    if args.capacity {
        return capacity(&loaded);
    }
    ExitCode::SUCCESS
}

fn capacity(loaded: &config::Loaded) -> ExitCode {
    let cpus = match possible_cpus() {
        Ok(cpus) => cpus,
        Err(error) => {
            eprintln!("/sys/devices/system/cpu/possible: {error}");
            return ExitCode::FAILURE;
        }
    };
    let costs = match kernel::capacity(&loaded.settings, &loaded.services, cpus) {
        Ok(costs) => costs,
        Err(error) => {
            eprintln!("{error}; build it with `cargo xtask build`");
            return ExitCode::FAILURE;
        }
    };
    let mut table = Table::new([
        ("map", Left),
        ("entries", Right),
        ("bytes each", Right),
        ("MiB", Right),
    ]);
    let mebibytes = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
    for cost in &costs {
        let each = match cost.bytes.checked_div(cost.entries) {
            Some(0) => "as filled".to_owned(),
            Some(each) => each.to_string(),
            None => String::new(),
        };
        table.row([
            cost.name.clone(),
            cost.entries.to_string(),
            each,
            mebibytes(cost.bytes),
        ]);
    }
    let total = costs.iter().map(|cost| cost.bytes).sum();
    table.row(["total".to_owned(), String::new(), String::new(), mebibytes(total)]);
    print!("{}", table.render());
    ExitCode::SUCCESS
}

/// Numbers from 0 to that of `0-N`, the kernel's form (Documentation/admin-guide/cputopology.rst).
fn possible_cpus() -> io::Result<u64> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    let last: u64 = last.parse().map_err(io::Error::other)?;
    Ok(last + 1)
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
