//! `cargo xtask fuzz`.

use anyhow::{Result, bail};

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub struct FuzzArgs {}

/// Not in this tree yet.
///
/// # Errors
/// Always.
pub fn run(_arguments: FuzzArgs) -> Result<()> {
    bail!("not in this tree yet")
}
