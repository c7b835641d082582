//! `cargo xtask bench`: what the balancer costs, beside floors, the kernel's own NAT, and other proxies.

mod change;
mod cost;
mod direct;
mod flood;
mod forwarding;
mod frames;
mod l4;
mod l7;
mod maglev;
mod network;
mod programs;
mod report;
mod routes;
mod site;
mod subject;

use anyhow::Result;

/// What to measure.
#[derive(clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand)]
enum Subject {
    /// The kernel plane: nanoseconds per packet, packets per second, Maglev's build time.
    L4(L4Args),
    /// Routing of HTTP requests: nanoseconds per lookup among 10 to 100,000 routes.
    Routes(RoutesArgs),
    /// The L7 plane beside nginx, HAProxy and Envoy: work per CPU-second, latency, memory.
    L7(l7::L7Args),
    /// The time of one endpoint's change among 10,000 services and 100,000 endpoints, until the maps show it.
    Change(change::ChangeArgs),
    /// What connections notice of a SYN flood: goodput with and without, and the flow tables.
    Flood(flood::FloodArgs),
    /// The floor that `bench l7` compares with.
    #[command(hide = true)]
    BareHyper(l7::bare::BareArgs),
}

/// How long to measure routing.
#[derive(clap::Args, Clone)]
pub struct RoutesArgs {
    /// Measurements of each case; medians are shown.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// How long to measure the kernel plane.
#[derive(clap::Args, Clone)]
pub struct L4Args {
    /// Measurements of each case; medians are shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Measures the nanoseconds of those cases alone whose names contain this.
    #[arg(long, default_value = "")]
    case: String,
    /// Leaves out the packets per second over veth.
    #[arg(long)]
    no_forwarding: bool,
    /// Leaves out the nanoseconds per packet.
    #[arg(long)]
    no_cost: bool,
}

/// Measures.
///
/// # Errors
/// When the lab can't be set up, or the balancer does something else than forward.
pub fn run(arguments: BenchArgs) -> Result<()> {
    match arguments.subject {
        Subject::L4(arguments) => l4::run(&arguments),
        Subject::Routes(arguments) => routes::run(&arguments),
        Subject::L7(arguments) => l7::run(&arguments),
        Subject::Change(arguments) => change::run(&arguments),
        Subject::Flood(arguments) => flood::run(&arguments),
        Subject::BareHyper(arguments) => l7::bare::run(&arguments),
    }
}
