//! `weir flow`: where a flow goes, and why.

use super::{SocketArgs, print};
use crate::{
    admin::{call, flow::FlowAnswer},
    model::ConnectionId,
};
use anyhow::Context;
use hyper::Method;
use std::net::SocketAddr;

/// Arguments of `weir flow`.
#[derive(clap::Args)]
#[command(after_help = "\
A flow that has an entry goes where the entry says, as long as that backend is there. Any other goes where
its hash says: to the backend of a slot of the service's Maglev table. With `affinity` a new one goes where
its client's last one went. With `quic` a packet goes to whom its connection ID names, before all else.")]
pub(super) struct FlowArgs {
    /// The client as its packets arrive: IP:PORT, for IPv6 [IP]:PORT.
    client: SocketAddr,
    /// The VIP it sends to, alike.
    vip: SocketAddr,
    /// A UDP flow; without this, a TCP connection.
    #[arg(long)]
    udp: bool,
    /// The destination connection ID of a QUIC packet, in hexadecimal.
    #[arg(long, value_name = "HEX", requires = "udp")]
    connection_id: Option<ConnectionId>,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// No daemon there, or no such service.
pub(super) fn run(args: &FlowArgs) -> anyhow::Result<()> {
    let protocol = if args.udp { "udp" } else { "tcp" };
    // Brackets are no characters of a path.
    let segment = |address: SocketAddr| address.to_string().replace('[', "%5B").replace(']', "%5D");
    let mut path = format!("/flows/{protocol}/{}/{}", segment(args.client), segment(args.vip));
    if let Some(id) = args.connection_id {
        path += &format!("?connection_id={id}");
    }
    let body = call(&args.socket.socket, Method::GET, &path, None::<&()>)?;
    if args.json {
        return print(&body);
    }
    let answer: FlowAnswer = serde_json::from_slice(&body).context("the daemon's answer")?;
    print(render(&answer).as_bytes())
}

fn render(answer: &FlowAnswer) -> String {
    let goes_to = answer.goes_to.as_deref().unwrap_or("nowhere");
    let mut text = format!(
        "{} → {} ({}, service {}) goes to {goes_to}: {}\n",
        answer.client, answer.vip, answer.protocol, answer.service, answer.reason
    );
    let slot = &answer.slot;
    let backend = match &slot.backend {
        Some(backend) => format!("{} ({})", backend.address, backend.state),
        None => "no backend".to_owned(),
    };
    text += &format!("slot   {} of {}: {backend}", slot.number, slot.of);
    text += &match &slot.previous {
        Some(previous) => format!(", moving from {} ({})\n", previous.address, previous.state),
        None if slot.state == "tracked" => ", tracked\n".to_owned(),
        None => "\n".to_owned(),
    };
    if let Some(named) = &answer.named {
        text += &format!("named  {} ({})\n", named.address, named.state);
    }
    if let Some(affinity) = &answer.affinity {
        text += &format!(
            "affinity {} ({}), its last flow was opened {:.1} s ago\n",
            affinity.backend.address, affinity.backend.state, affinity.age_seconds
        );
    }
    text += &match &answer.entry {
        Some(entry) => format!(
            "entry  {} ({}), {}, idle {:.1} s; sent as {} → {}\n",
            entry.backend.address,
            entry.backend.state,
            entry.stage,
            entry.idle_seconds,
            entry.source,
            entry.destination
        ),
        None => "entry  none\n".to_owned(),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::flow::{FlowAffinity, FlowBackend, FlowEntry, FlowSlot};

    #[test]
    fn says_where_and_why() {
        let backend = |address: &str, state: &str| FlowBackend {
            address: address.to_owned(),
            state: state.to_owned(),
        };
        let mut answer = FlowAnswer {
            service: "dns".to_owned(),
            protocol: "udp".to_owned(),
            client: "198.51.100.7:4711".to_owned(),
            vip: "192.0.2.53:53".to_owned(),
            goes_to: Some("10.0.0.11:53".to_owned()),
            reason: "its entry".to_owned(),
            slot: FlowSlot {
                number: 7,
                of: 65_537,
                backend: Some(backend("10.0.0.12:53", "live")),
                state: "plain".to_owned(),
                previous: None,
            },
            named: None,
            affinity: None,
            entry: Some(FlowEntry {
                backend: backend("10.0.0.11:53", "live"),
                source: "10.0.0.1:20000".to_owned(),
                destination: "10.0.0.11:53".to_owned(),
                stage: "established".to_owned(),
                idle_seconds: 1.25,
            }),
        };
        assert_eq!(
            render(&answer),
            "198.51.100.7:4711 → 192.0.2.53:53 (udp, service dns) goes to 10.0.0.11:53: its entry\n\
             slot   7 of 65537: 10.0.0.12:53 (live)\n\
             entry  10.0.0.11:53 (live), established, idle 1.2 s; sent as 10.0.0.1:20000 → 10.0.0.11:53\n"
        );
        answer.slot.previous = Some(backend("10.0.0.11:53", "draining"));
        let moving = "slot   7 of 65537: 10.0.0.12:53 (live), moving from 10.0.0.11:53 (draining)\n";
        assert!(render(&answer).contains(moving));
        answer.affinity = Some(FlowAffinity {
            backend: backend("10.0.0.13:53", "live"),
            age_seconds: 7.0,
        });
        let affinity = "affinity 10.0.0.13:53 (live), its last flow was opened 7.0 s ago\nentry";
        assert!(render(&answer).contains(affinity));
        answer.named = Some(backend("10.0.0.14:53", "draining"));
        assert!(render(&answer).contains("\nnamed  10.0.0.14:53 (draining)\naffinity"));
        answer.slot.previous = None;
        answer.entry = None;
        answer.goes_to = None;
        answer.slot.backend = None;
        let text = render(&answer);
        assert!(
            text.contains("goes to nowhere")
                && text.contains("no backend")
                && text.ends_with("entry  none\n")
        );
    }
}
