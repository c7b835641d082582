//! Weir's chores: one file a verb.
//!
//! Built plain it holds what needs no other package of the workspace, so that `setup` starts at
//! once on a new machine. `demo`, `fuzz` and `bench` use the daemon's library and the lab: for
//! them the plain xtask sets up, builds, and hands over to an optimised one with the feature `lab`.

#[cfg(feature = "lab")]
mod bench;
mod build;
mod build_ebpf;
mod check;
#[cfg(feature = "lab")]
mod demo;
#[cfg(feature = "lab")]
mod fuzz;
#[cfg(not(feature = "lab"))]
mod hand_over;
mod image;
mod setup;
mod shell;
mod test;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Weir's chores")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Finds or installs the toolchain and the tools; does nothing when all is there.
    Setup,
    /// Builds the kernel programs into target/ebpf.
    BuildEbpf,
    /// Builds the kernel programs and the daemon.
    Build(build::BuildArgs),
    /// Builds everything and runs every test; further arguments go to `cargo test`.
    Test(test::TestArgs),
    /// Makes the container image: its files, with their sizes, in a folder, and the image from that.
    Image(image::ImageArgs),
    /// Formatting, lints, licences, file and function sizes, module docs.
    Check,
    /// Measures; `bench l4` the kernel plane, `bench l7` the L7 plane beside other proxies, `bench routes` routing.
    #[cfg(feature = "lab")]
    Bench(bench::BenchArgs),
    /// Shows the balancer at work, in network namespaces.
    #[cfg(feature = "lab")]
    Demo(demo::DemoArgs),
    /// Runs random input through what is shipped and a model of it: `fuzz l4` and `fuzz decap` packets, `fuzz flows`
    /// schedules of flow tracking, `fuzz routes` requests.
    #[cfg(feature = "lab")]
    Fuzz(fuzz::FuzzArgs),
    /// Measures; `bench l4` the kernel plane, `bench l7` the L7 plane beside other proxies, `bench routes` routing.
    #[cfg(not(feature = "lab"))]
    #[command(disable_help_flag = true)]
    Bench(hand_over::Rest),
    /// Shows the balancer at work, in network namespaces.
    #[cfg(not(feature = "lab"))]
    #[command(disable_help_flag = true)]
    Demo(hand_over::Rest),
    /// Runs random input through what is shipped and a model of it: `fuzz l4` and `fuzz decap` packets, `fuzz flows`
    /// schedules of flow tracking, `fuzz routes` requests.
    #[cfg(not(feature = "lab"))]
    #[command(disable_help_flag = true)]
    Fuzz(hand_over::Rest),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what failed has said the rest.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup => setup::run(setup::Show::All),
        Verb::BuildEbpf => build_ebpf::run(),
        Verb::Build(arguments) => build::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Image(arguments) => image::run(&arguments),
        Verb::Check => check::run(),
        #[cfg(feature = "lab")]
        Verb::Bench(arguments) => bench::run(arguments),
        #[cfg(feature = "lab")]
        Verb::Demo(arguments) => demo::run(arguments),
        #[cfg(feature = "lab")]
        Verb::Fuzz(arguments) => fuzz::run(arguments),
        #[cfg(not(feature = "lab"))]
        Verb::Bench(rest) => hand_over::run("bench", &rest),
        #[cfg(not(feature = "lab"))]
        Verb::Demo(rest) => hand_over::run("demo", &rest),
        #[cfg(not(feature = "lab"))]
        Verb::Fuzz(rest) => hand_over::run("fuzz", &rest),
    }
}
