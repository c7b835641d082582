//! `cargo xtask bench l4`: everything about the kernel plane, in one report.

use super::{L4Args, cost, direct, forwarding, maglev, network, report, subject};
use anyhow::{Result, bail};
use serde_json::json;

/// Measures, prints tables, writes target/bench/l4.json.
///
/// # Errors
/// When the lab can't be set up, or the balancer does something else than forward.
pub fn run(arguments: &L4Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench makes network namespaces and loads programs: run it as root");
    }
    if arguments.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    network::sweep()?;
    subject::sweep()?;
    let environment = report::environment();
    println!("{environment:#}\n");
    let cost = if arguments.no_cost {
        None
    } else {
        Some(cost::run(arguments)?)
    };
    let direct = if arguments.no_cost {
        None
    } else {
        Some(direct::run(arguments)?)
    };
    let forwarding = if arguments.no_forwarding {
        None
    } else {
        Some(forwarding::run(arguments)?)
    };
    let report = json!({
        "environment": environment,
        "cost": cost,
        "direct": direct,
        "forwarding": forwarding,
        "maglev": maglev::run(),
    });
    println!("{}", report::write("l4", &report)?.display());
    Ok(())
}
