//! `weir drain` and `weir ready`: the daemon's end in order, and whether traffic should be sent to it.

use super::{SocketArgs, print};
use crate::{
    admin::{
        ClientError, call,
        drain::{DrainOrder, DrainState, DrainStatus, pid_namespace},
    },
    config,
};
use anyhow::{Context, bail};
use hyper::Method;
use std::{fs, process::ExitCode, thread, time::Duration};

/// How often the daemon is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `weir drain`.
#[derive(clap::Args)]
#[command(after_help = "\
At once the daemon isn't ready any more: `weir ready` fails, GET /ready answers 503. After the notice its listeners close, responses
say `connection: close`, HTTP/2 gets GOAWAY; when the last connection has ended, or the timeout is over, the daemon ends. The kernel
goes on forwarding; `weir unload` ends that.")]
pub(super) struct DrainArgs {
    /// How long all goes on as before while it isn't ready. Default: the config's `drain.notice`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    notice: Option<String>,
    /// How long connections may go on after that. Default: the config's `drain.timeout`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<String>,
    /// Return at once.
    #[arg(long)]
    no_wait: bool,
    /// Have the daemon go on instead, as long as its listeners are open.
    #[arg(long, conflicts_with_all = ["notice", "timeout", "no_wait", "here"])]
    cancel: bool,
    /// Drain the daemon of this container only. If another container's has taken over, wait for the end of the one that is
    /// here: for preStop hooks.
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Arguments of `weir ready`.
#[derive(clap::Args)]
#[command(after_help = "Exits with 0 if so, else with 1 and the reason.")]
pub(super) struct ReadyArgs {
    /// Ask whether the daemon answers at all, also while it drains: for liveness probes.
    #[arg(long)]
    alive: bool,
    /// The daemon of this container is meant: one that waits to take over from another container's isn't ready.
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

fn duration(typed: &str) -> Result<String, String> {
    config::duration(typed, &(Duration::ZERO..=Duration::MAX)).map(|_| typed.to_owned())
}

/// Drains, and waits for the end.
///
/// # Errors
/// There is no daemon, or it refuses.
pub(super) fn run(args: &DrainArgs) -> anyhow::Result<()> {
    if args.cancel {
        ask(args, Method::DELETE, None)?;
        return print(b"ready again\n");
    }
    if args.here {
        match ask(args, Method::GET, None) {
            Ok(status) if !is_here(&status) => return outlive(),
            // The next one has died, most likely, while the one here finishes what it has.
            Err(ClientError::NotRunning(_)) if is_first_here() => return outlive(),
            Err(ClientError::NotRunning(_)) => return Ok(()),
            _ => {}
        }
    }
    let order = DrainOrder {
        notice: args.notice.clone(),
        timeout: args.timeout.clone(),
    };
    let status = ask(args, Method::POST, Some(&order))?;
    print(said(&status).as_bytes())?;
    if args.no_wait {
        return Ok(());
    }
    wait_for_the_end(args, status)?;
    print(b"drained: the daemon has ended\n")
}

fn wait_for_the_end(args: &DrainArgs, mut status: DrainStatus) -> anyhow::Result<()> {
    let pid = status.pid;
    loop {
        thread::sleep(LOOK);
        let before = status.state;
        status = match ask(args, Method::GET, None) {
            Ok(status) if status.pid == pid => status,
            // Its socket goes before it does; or another daemon was started.
            Ok(_) | Err(ClientError::NotRunning(_) | ClientError::Garbled(..)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if status.state == DrainState::Serving {
            bail!("the drain was ended; the daemon goes on");
        }
        if status.state != before {
            print(said(&status).as_bytes())?;
        }
    }
}

fn ask(args: &DrainArgs, method: Method, order: Option<&DrainOrder>) -> Result<DrainStatus, ClientError> {
    let socket = &args.socket.socket;
    let body = call(socket, method, "/drain", order)?;
    serde_json::from_slice(&body)
        .map_err(|why| ClientError::Garbled(socket.display().to_string(), why.to_string()))
}

fn said(status: &DrainStatus) -> String {
    let left = status.seconds_left.unwrap_or_default();
    let connections = status.connections;
    match status.state {
        DrainState::Serving => "serving\n".into(),
        DrainState::Notice => format!("not ready any more; listeners close in {left} s\n"),
        DrainState::Closing => format!("listeners closed; connections: {connections}, closed in {left} s\n"),
    }
}

fn is_here(status: &DrainStatus) -> bool {
    status.pid_namespace.is_some() && status.pid_namespace == pid_namespace()
}

/// Whether the first process of this pid namespace is Weir's, as in its container.
fn is_first_here() -> bool {
    fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "weir")
}

/// The process of this container ends by itself, and this one with it: the kernel kills all of a pid namespace with its first.
fn outlive() -> anyhow::Result<()> {
    print(b"another container's process is the daemon; the one here finishes what it has\n")?;
    loop {
        thread::park();
    }
}

/// Says whether the daemon is ready, or alive.
pub(super) fn ready(args: &ReadyArgs) -> ExitCode {
    match judge(args) {
        Ok(word) => {
            println!("{word}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn judge(args: &ReadyArgs) -> anyhow::Result<&'static str> {
    let body = call(&args.socket.socket, Method::GET, "/drain", None::<&()>)?;
    // Whatever a daemon of another version says, it is alive.
    if args.alive {
        return Ok("alive");
    }
    let status: DrainStatus =
        serde_json::from_slice(&body).context("the daemon that answers is of another version")?;
    if args.here && !is_here(&status) {
        bail!("not ready: the daemon is a process of another container");
    }
    if !status.ready {
        bail!("not ready: it drains ({})", status.state.word());
    }
    Ok("ready")
}
