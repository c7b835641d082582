//! `weir upgrade`: has the running daemon start its successor and hand over to it.

use super::{SocketArgs, print};
use crate::upgrade;
use anyhow::Context;
use std::path::PathBuf;

/// Arguments of `weir upgrade`.
#[derive(clap::Args)]
#[command(after_help = "\
The daemon starts the program that stands where it was started from, with the same arguments, and hands over its sockets. If that
program ends, or does not serve within `upgrade.ready_timeout`, the daemon goes on. To go back to an older version, put it in its
place and upgrade again.")]
pub(super) struct UpgradeArgs {
    /// Start this program instead.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Upgrades and says what runs now.
///
/// # Errors
/// There is no daemon, or the upgrade failed and it goes on.
pub(super) fn run(args: &UpgradeArgs) -> anyhow::Result<()> {
    let binary = args
        .binary
        .as_ref()
        .map(|path| path.canonicalize().with_context(|| path.display().to_string()));
    let socket = &args.socket.socket;
    let (version, pid) = upgrade::request(socket, binary.transpose()?)
        .with_context(|| format!("not upgraded (daemon at {})", socket.display()))?;
    print(format!("upgraded: version {version}, process {pid}\n").as_bytes())
}
