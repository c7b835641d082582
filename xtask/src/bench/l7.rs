//! `cargo xtask bench l7`: Weir beside nginx, HAProxy and Envoy on the same work.
//!
//! Each proxy has one worker, pinned to one CPU; generators and endpoints share another. What counts is the work done
//! per second of the proxy's CPU time, which holds when the generator is the bottleneck and hardly moves with what
//! else runs on the machine. Proxies take turns within every round, so that a slow moment hits all of them.

mod backend;
pub mod bare;
mod client;
mod configs;
mod credentials;
mod job;
mod latency;
mod load;
mod measure;
mod memory;
mod peers;
mod proxy;
mod reloads;
mod routes;
mod throughput;

use super::{network, report};
use crate::shell;
use anyhow::{Context, Result, bail};
use backend::Backends;
use load::Generators;
use peers::Peers;
use proxy::{Site, Subject};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Map, Value, json};
use std::{fs, path::PathBuf, process::Command, time::Duration};

/// What to measure of the L7 plane, and for how long.
#[derive(clap::Args, Clone)]
pub struct L7Args {
    /// Measurements of each case; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// One round of everything: shows that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Measures those scenarios alone whose names contain this: http1, tls-h2, handshakes, grpc, tcp-bulk,
    /// tcp-messages, body-100k, body-10m, latency, memory, routes, reloads.
    #[arg(long, default_value = "")]
    scenario: String,
    /// Measures these proxies alone.
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<Subject>,
}

impl L7Args {
    fn wants(&self, scenario: &str) -> bool {
        scenario.contains(&self.scenario)
    }

    fn subjects(&self) -> Vec<Subject> {
        let wanted = |subject: &Subject| self.proxies.is_empty() || self.proxies.contains(subject);
        Subject::ALL.into_iter().filter(wanted).collect()
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// All that scenarios need.
pub struct Bench<'a> {
    arguments: L7Args,
    backends: Backends,
    generators: Generators<'a>,
    site: Site<'a>,
}

/// Measures, prints tables, writes target/bench/l7.json.
///
/// # Errors
/// When a proxy doesn't start, or answers something else than it was asked for.
pub fn run(arguments: &L7Args) -> Result<()> {
    let mut arguments = arguments.clone();
    if arguments.quick {
        arguments.rounds = 1;
    }
    if arguments.rounds == 0 || arguments.seconds == 0 {
        bail!("--rounds and --seconds must be at least 1");
    }
    weir_tests::lab::catch_interrupts();
    let peers = Peers::find()?;
    let cpus = network::cpus()?;
    let (Some(&generator_cpu), Some(&proxy_cpu), true) = (cpus.first(), cpus.last(), cpus.len() > 1) else {
        bail!("the bench needs two CPUs: one for the proxy, one for generators and endpoints");
    };
    raise_file_limit()?;
    let environment = json!({ "machine": report::environment(), "versions": versions(&peers) });
    println!("{environment:#}\n");
    let folder = Folder::new()?;
    credentials::write(&folder.0)?;
    // Threads and programs started from here on inherit it; proxies get their own.
    network::pin(None, generator_cpu)?;
    let bench = Bench {
        arguments,
        backends: Backends::start()?,
        generators: Generators::new(&peers)?,
        site: Site {
            peers: &peers,
            folder: &folder.0,
            cpu: proxy_cpu,
        },
    };
    let mut results = Map::new();
    throughput::run(&bench, &mut results)?;
    for (name, scenario) in [
        ("latency", latency::measure as fn(&Bench<'_>) -> Result<Value>),
        ("memory", memory::measure),
        ("routes", routes::measure),
        ("reloads", reloads::measure),
    ] {
        if bench.arguments.wants(name) {
            results.insert(name.to_owned(), scenario(&bench)?);
        }
    }
    if results.is_empty() {
        bail!(
            "no scenario's name contains {:?}; see --help",
            bench.arguments.scenario
        );
    }
    let report = json!({ "environment": environment, "scenarios": results });
    println!("{}", report::write("l7", &report)?.display());
    Ok(())
}

/// 2,000 connections are two thousand files, and twice as many in a proxy.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

fn versions(peers: &Peers) -> Value {
    let first_line = |program: &PathBuf, argument: &str| {
        // nginx prints its version on standard error.
        let output = Command::new(program).arg(argument).output().ok();
        let output = output
            .map(|output| [output.stdout, output.stderr].concat())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&output).trim().to_owned();
        text.lines().next().unwrap_or_default().to_owned()
    };
    json!({
        "nginx": first_line(&peers.nginx, "-v"),
        "haproxy": first_line(&peers.haproxy, "-v"),
        "envoy": first_line(&peers.envoy, "--version"),
        "h2load": first_line(&peers.h2load, "--version"),
    })
}

/// A folder of this run, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    /// Makes it, and removes those of runs that were killed.
    fn new() -> Result<Self> {
        let parent = shell::target().join("bench");
        fs::create_dir_all(&parent).context("cannot create target/bench")?;
        for entry in fs::read_dir(&parent)? {
            let entry = entry?;
            if network::is_orphan(&entry.file_name().to_string_lossy()) {
                fs::remove_dir_all(entry.path()).context("cannot remove an old run's folder")?;
            }
        }
        let path = parent.join(format!("{}{}-l7", network::PREFIX, std::process::id()));
        fs::create_dir(&path).context("cannot create a folder for this run")?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
