//! Other XDP programs on an interface: it can have one, and Weir replaces nobody's.

use super::{KernelError, links::Link, steer::Netlink};
use aya::programs::{loaded_links, loaded_programs};
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};
use std::{io, path::PathBuf};

/// The name that libxdp gives its dispatcher, which calls all programs that were loaded by it.
const DISPATCHER: &str = "xdp_dispatcher";

/// Fails if an XDP program is on the interface that isn't one of these links'.
pub(super) fn refuse_another(name: &str, ifindex: u32, ours: &[PathBuf]) -> Result<(), KernelError> {
    let asked = programs_of(ifindex);
    let there =
        asked.map_err(|error| KernelError::refused(format!("asking for XDP programs on {name}"), error))?;
    let ours: Vec<u32> = ours
        .iter()
        .filter_map(|path| Some(Link::open(path).ok()?.program))
        .collect();
    match there.into_iter().find(|one| !ours.contains(&one.id)) {
        Some(other) => Err(refusal(name, &other)),
        None => Ok(()),
    }
}

/// A program on an interface.
struct Occupant {
    id: u32,
    is_generic: bool,
}

fn programs_of(ifindex: u32) -> io::Result<Vec<Occupant>> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let mut found = Vec::new();
    Netlink::open()?.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK, |answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else {
            return;
        };
        let nested = link.attributes.iter().filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(nested) => Some(nested),
            _ => None,
        });
        for nested in nested {
            let is_generic = nested.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
            let ids = nested.iter().filter_map(|attribute| match attribute {
                // The first is one of the others again, or absent where there are two.
                LinkXdp::ProgId(id) => Some((*id, is_generic)),
                LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => Some((*id, false)),
                LinkXdp::SkbProgId(id) => Some((*id, true)),
                _ => None,
            });
            found.extend(ids.map(|(id, is_generic)| Occupant { id, is_generic }));
        }
    })?;
    found.retain(|occupant| occupant.id != 0);
    Ok(found)
}

fn refusal(name: &str, other: &Occupant) -> KernelError {
    let id = other.id;
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    let program = program
        .as_ref()
        .and_then(|program| program.name_as_str())
        .filter(|name| !name.is_empty());
    let link = loaded_links().flatten().find(|link| link.program_id() == id);
    let remedy = match (program, link) {
        (Some(DISPATCHER), _) => format!("run `xdp-loader unload {name} --all`"),
        (_, Some(link)) => format!(
            "end what holds its link (`bpftool link show id {}` tells), or run `bpftool link detach id {0}`",
            link.id()
        ),
        _ => format!(
            "run `ip link set dev {name} {} off`",
            if other.is_generic { "xdpgeneric" } else { "xdp" }
        ),
    };
    KernelError::missing(
        format!(
            "{name} has another XDP program already, {} (id {id}), which weir doesn't replace",
            program.unwrap_or("one without a name")
        ),
        format!("{remedy}, or take {name} out of `interfaces`"),
    )
}
