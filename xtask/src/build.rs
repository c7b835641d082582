//! `cargo xtask build`: the kernel programs, then the daemon that embeds them.

use crate::{build_ebpf, shell};
use anyhow::Result;

/// What to build.
#[derive(clap::Args, Clone, Default)]
pub struct BuildArgs {
    /// Without optimisation, into target/debug. The default is target/release/weir.
    #[arg(long)]
    debug: bool,
    /// Takes no effect: release is the default.
    #[arg(long, conflicts_with = "debug")]
    release: bool,
}

/// Builds both.
///
/// # Errors
/// When either doesn't compile.
pub fn run(arguments: &BuildArgs) -> Result<()> {
    build_ebpf::run()?;
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "proxy-userspace"]);
    if !arguments.debug {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)?;
    println!(
        "{}",
        shell::weir(if arguments.debug { "debug" } else { "release" }).display()
    );
    Ok(())
}
