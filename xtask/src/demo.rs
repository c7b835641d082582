//! `cargo xtask demo`.

use anyhow::{Result, bail};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {}

/// Not in this tree yet.
///
/// # Errors
/// Always.
pub fn run(_arguments: DemoArgs) -> Result<()> {
    bail!("not in this tree yet")
}
