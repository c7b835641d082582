//! Verbs that use the daemon's library: set up, build, then run the xtask that has it linked in.

use crate::{build, setup, shell};
use anyhow::Result;
use std::{ffi::OsString, os::unix::process::CommandExt};

/// Arguments that the other xtask reads.
#[derive(clap::Args)]
pub struct Rest {
    /// Passed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process by `xtask VERB ARGUMENTS…` with the feature `lab`.
///
/// # Errors
/// When setting up or building fails.
pub fn run(verb: &str, rest: &Rest) -> Result<()> {
    setup::run(setup::Show::News)?;
    build::run(&build::BuildArgs::default())?;
    let error = shell::cargo()
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "xtask",
            "--features",
            "lab",
            "--",
            verb,
        ])
        .args(&rest.arguments)
        .env("WEIR_BIN", shell::weir("release"))
        .env(setup::peers::VARIABLE, setup::peers::folder())
        .exec();
    Err(error.into())
}
