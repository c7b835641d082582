//! `cargo xtask check`: formatting, lints, licences, and the house's own rules about size and shape.

mod shape;

use crate::{shell, toolchain};
use anyhow::{Result, bail};

/// The release of cargo-deny that .cargo/deny.toml is written for.
const DENY_VERSION: &str = "0.20.2";

/// Runs every check, also after one has failed.
///
/// # Errors
/// When any has failed; each has printed its findings with file, line and remedy.
pub fn run() -> Result<()> {
    let checks: [(&str, fn() -> Result<()>); 5] = [
        ("shape: sizes, module docs, forbidden attributes", shape::run),
        ("format: remedy is `cargo fmt --all`", format),
        ("clippy, userspace", clippy_userspace),
        ("clippy, kernel programs", clippy_kernel),
        ("cargo-deny: licences, sources, banned crates", deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("== {name}");
        if let Err(error) = check() {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    println!("== all checks passed");
    Ok(())
}

fn format() -> Result<()> {
    require("rustfmt")?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy_userspace() -> Result<()> {
    require("clippy")?;
    shell::run(
        shell::cargo()
            .args(["clippy", "--quiet", "--workspace", "--exclude", "proxy-ebpf"])
            .args(["--all-targets", "--all-features", "--", "-D", "warnings"]),
    )
}

/// The kernel crate compiles for BPF alone, so it's clippy of the compiler that builds it.
fn clippy_kernel() -> Result<()> {
    let (compiler, linker) = toolchain::find()?;
    let clippy = compiler.rustc.with_file_name("cargo-clippy");
    if !clippy.is_file() {
        bail!("{} is missing; run `cargo xtask setup`", clippy.display());
    }
    // Run by its path: `cargo clippy` would take the one that comes first in PATH, rustup's.
    let mut command = compiler.program(&clippy, &linker);
    command
        .arg("clippy")
        .args(toolchain::KERNEL_BUILD)
        .args(["--", "-D", "warnings"]);
    shell::run(&mut command)
}

/// Without advisories: they need the network, and would make the check's result depend on the day.
fn deny() -> Result<()> {
    if shell::find("cargo-deny").is_none() {
        println!("cargo-deny {DENY_VERSION} is built, which takes some minutes");
        shell::run(shell::cargo().args([
            "install",
            "cargo-deny",
            "--version",
            DENY_VERSION,
            "--locked",
            "--no-default-features",
            // A graph of some hundred crates is checked in a second without optimisation too, and it builds in half the time.
            "--debug",
        ]))?;
    }
    shell::run(shell::cargo().args([
        "deny",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// A component of the toolchain that runs us.
fn require(component: &str) -> Result<()> {
    let program = if component == "rustfmt" { "fmt" } else { component };
    if shell::output(shell::cargo().args([program, "--version"])).is_err() {
        bail!("cargo {program} is missing; run `rustup component add {component}`");
    }
    Ok(())
}
