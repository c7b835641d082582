//! The command line: one file a verb.

mod check;
mod drain;
mod endpoint;
mod explain;
mod flow;
mod monitor;
mod proxy;
mod run;
mod schema;
mod signals;
pub(crate) mod status;
mod table;
mod top;
mod unload;
mod upgrade;

use crate::{
    admin::{figures, judge},
    model::DaemonSettings,
};
use clap::{Args, Parser, Subcommand};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// An eBPF load balancer: one binary, one config, one set of endpoints.
#[derive(Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the daemon in the foreground.
    Run(run::RunArgs),
    /// Run a listener and a cluster from one line, without a file and without the kernel.
    Proxy(proxy::ProxyArgs),
    /// Read a config, report every mistake, change nothing.
    Check(check::CheckArgs),
    /// Say which route of a config takes a request, and why those before it don't.
    Explain(explain::ExplainArgs),
    /// Say where the flow of a client to an L4 service goes, and why.
    Flow(flow::FlowArgs),
    /// Show packets that are dropped and flows that are opened or moved, as it happens; without the daemon too.
    Monitor(monitor::MonitorArgs),
    /// Print the config's JSON Schema, or the admin API's OpenAPI document.
    Schema(schema::SchemaArgs),
    /// Say whether the daemon is healthy and, if not, what is wrong; then services, backends, listeners, packets, drops.
    Status(status::StatusArgs),
    /// Watch rates live: services and their backends, listeners, workers, drops, the kernel plane.
    Top(top::TopArgs),
    /// Change endpoints of the running daemon.
    #[command(subcommand)]
    Endpoint(endpoint::EndpointVerb),
    /// Go over to another version of the daemon, without the loss of a connection.
    Upgrade(upgrade::UpgradeArgs),
    /// End the daemon in order: not ready first, then no new connections, then the end.
    Drain(drain::DrainArgs),
    /// Say by the exit code whether traffic should be sent to the daemon: for probes and scripts.
    Ready(drain::ReadyArgs),
    /// Take Weir out of the kernel: detach the programs, remove the maps.
    Unload(unload::UnloadArgs),
}

/// Where the daemon listens.
#[derive(Args)]
struct SocketArgs {
    /// The daemon's admin socket. Default: /run/weir/admin.sock for root, for others weir/admin.sock in
    /// $XDG_RUNTIME_DIR or /tmp/weir-UID.
    #[arg(long, value_name = "PATH", default_value_os_t = DaemonSettings::default_admin_socket(), hide_default_value = true)]
    socket: PathBuf,
}

/// Runs the verb named on the command line. Exit code 1 is an error, 2 a mistake in usage.
pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().verb {
        Verb::Check(args) => return check::run(&args),
        Verb::Explain(args) => return explain::run(&args),
        Verb::Schema(args) => return schema::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Proxy(args) => proxy::run(&args),
        Verb::Status(args) => return status::run(&args),
        Verb::Top(args) => top::run(&args),
        Verb::Flow(args) => flow::run(&args),
        Verb::Monitor(args) => monitor::run(&args),
        Verb::Endpoint(endpoint::EndpointVerb::Set(args)) => endpoint::set(&args),
        Verb::Upgrade(args) => upgrade::run(&args),
        Verb::Drain(args) => drain::run(&args),
        Verb::Ready(args) => return drain::ready(&args),
        Verb::Unload(args) => unload::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. That nobody reads on (`weir status | head`) is no error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Now, in seconds since 1970; 0 for a clock before that.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
