//! `weir check`: whether a config is right, and everything that is wrong with it.

use crate::config;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// Reads a config and says what is wrong with it; changes nothing.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The config: a file, or a directory of *.yaml and *.yml files.
    pub config: PathBuf,
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
    ExitCode::SUCCESS
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
