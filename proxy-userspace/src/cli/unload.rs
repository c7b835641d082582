//! `weir unload`: takes the kernel plane out of the kernel.

use super::{SocketArgs, print};
use crate::{
    admin::{ClientError, call, status::Status},
    kernel::KernelPlane,
    model::DaemonSettings,
};
use anyhow::bail;
use hyper::Method;
use std::path::{Path, PathBuf};

/// Arguments of `weir unload`.
#[derive(clap::Args)]
pub(super) struct UnloadArgs {
    /// The directory on a bpffs where maps and links are pinned.
    #[arg(long, value_name = "PATH", default_value = DaemonSettings::PIN_PATH)]
    pin_path: PathBuf,
    /// Unload even while a daemon is running.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Unloads and prints what was removed.
///
/// # Errors
/// A daemon is running, or the pins can't be removed.
pub(super) fn run(args: &UnloadArgs) -> anyhow::Result<()> {
    if !args.force {
        refuse_under_daemon(&args.socket.socket, &args.pin_path)?;
    }
    let removed = KernelPlane::unload(&args.pin_path)?;
    let path = args.pin_path.display();
    let text = match removed[..] {
        [] => format!("nothing is pinned under {path}\n"),
        _ => removed.iter().map(|name| format!("removed {name}\n")).collect(),
    };
    print(text.as_bytes())
}

fn refuse_under_daemon(socket: &Path, pin_path: &Path) -> anyhow::Result<()> {
    let body = match call(socket, Method::GET, "/status", None::<&()>) {
        Ok(body) => body,
        Err(ClientError::NotRunning(_)) => return Ok(()),
        Err(error) => bail!("{error} (or unload with --force)"),
    };
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) if status.kernel.absent.is_some() || Path::new(&status.kernel.pin_path) != pin_path => {
            Ok(())
        }
        Ok(status) => bail!(
            "weir is running (pid {}); stop it first, or unload with --force",
            status.pid
        ),
        Err(_) => bail!("a weir of another version is running; stop it first, or unload with --force"),
    }
}
