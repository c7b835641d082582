//! `cargo xtask test`: everything the tests need, then every test of the workspace.

use crate::{build, setup, shell};
use anyhow::Result;
use std::ffi::OsString;

/// What to test.
#[derive(clap::Args)]
pub struct TestArgs {
    /// Passed on to `cargo test`, for example a test's name, or `-p weir-tests --test e2e_tcp`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Sets up, builds, tests. All tests run even when some fail.
///
/// # Errors
/// When anything can't be built, or a test fails.
pub fn run(arguments: &TestArgs) -> Result<()> {
    setup::run(setup::Show::News)?;
    // The tests start the daemon as it is shipped: optimised.
    build::run(&build::BuildArgs::default())?;
    let given = &arguments.arguments;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--no-fail-fast"]);
    // One cargo for all packages: features are then resolved once, and nothing is built twice.
    if !given
        .iter()
        .any(|argument| argument == "-p" || argument == "--package")
    {
        cargo.args(["--features", "xtask/lab"]);
    }
    cargo
        .args(given)
        .env("WEIR_BIN", shell::weir("release"))
        .env(setup::peers::VARIABLE, setup::peers::folder());
    shell::run(&mut cargo)
}
