//! `weir endpoint set`: changes an endpoint of the running daemon.

use super::{SocketArgs, print};
use crate::admin::{
    call,
    status::{ChangeAnswer, EndpointPatch},
};
use anyhow::Context;
use hyper::Method;
use std::net::SocketAddr;

/// What can be done with endpoints.
#[derive(clap::Subcommand)]
pub(super) enum EndpointVerb {
    /// Set an endpoint's weight, begin or end its drain.
    Set(SetArgs),
}

/// Arguments of `weir endpoint set`.
#[derive(clap::Args)]
#[command(after_help = "\
What is set lies on top of the config and stays through reloads as long as the config lists the
endpoint. With --durable it is there again when the daemon is started again, else it is not.
Setting what the config says takes the override back.")]
pub(super) struct SetArgs {
    /// The cluster's name.
    cluster: String,
    /// The endpoint as in the config: IP:PORT, for IPv6 [IP]:PORT.
    #[arg(value_name = "ADDR")]
    address: SocketAddr,
    #[command(flatten)]
    change: ChangeArgs,
    /// Keep it when the daemon is started again.
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// Relative share of new flows; 0 for none.
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Give it no new flows, leave it those it has.
    #[arg(long)]
    drain: bool,
    /// Give it new flows again.
    #[arg(long, conflicts_with = "drain")]
    undrain: bool,
}

impl ChangeArgs {
    fn patch(&self, durable: bool) -> EndpointPatch {
        let drain = match (self.drain, self.undrain) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        EndpointPatch {
            weight: self.weight,
            drain,
            durable,
        }
    }
}

/// Sends the change and prints what came of it.
///
/// # Errors
/// No daemon there, no such endpoint, or the kernel plane could not take it.
pub(super) fn set(args: &SetArgs) -> anyhow::Result<()> {
    let path = format!(
        "/clusters/{}/endpoints/{}",
        percent_encoded(&args.cluster),
        args.address
    );
    let body = call(
        &args.socket.socket,
        Method::PATCH,
        &path,
        Some(&args.change.patch(args.durable)),
    )?;
    let answer: ChangeAnswer = serde_json::from_slice(&body).context("the daemon's answer")?;
    let lines = match answer.changes[..] {
        [] => "nothing to change\n".into(),
        _ => answer.changes.join("\n") + "\n",
    };
    let id = format!("cluster {} endpoint {}:", args.cluster, args.address);
    for warning in answer.warnings.iter().filter(|it| it.starts_with(&id)) {
        eprintln!("weir: {warning}");
    }
    print(lines.as_bytes())
}

/// A path segment of RFC 3986: everything but unreserved characters is encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
