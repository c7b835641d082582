//! Attaching the programs to an interface, and adopting the links that are there.

use super::{
    KernelError, Pins,
    links::{Link, Target},
    object::{
        self, TC_EGRESS, TC_INGRESS, TC_SEGMENTS, XDP_BALANCER, XDP_DECAP, XDP_DECAP_GENERIC, XDP_GENERIC,
    },
    occupant,
};
use crate::model::{Interface, Role, XdpMode};
use aya::{
    Ebpf,
    programs::{LinkOrder, TcAttachType, Xdp, XdpMode as Attach, links::FdLink, tc::TcAttachOptions},
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Where programs are attached to.
pub(super) struct Place<'a> {
    /// As configured.
    pub(super) interface: &'a Interface,
    /// Its index now.
    pub(super) ifindex: u32,
    /// What programs it gets.
    pub(super) host: Host,
}

/// What decides on the programs of an interface.
#[derive(Clone, Copy)]
pub(super) struct Host {
    /// What this host is.
    pub(super) role: Role,
    /// Whether what handshakes say of segments is lowered.
    pub(super) has_segments: bool,
}

/// Attaches all programs to an interface, or points the pinned links to them: a new link is made only where there is none, or
/// it isn't this interface's. TC ingress comes last: it reads XDP's note about a neighbour, and an older version's note may be shorter
/// than it knows, never longer. Returns XDP's mode in use, and why it isn't native.
///
/// # Errors
/// Another XDP program is there, which stays; or the kernel refused ours.
pub(super) fn attach(
    object: &mut Ebpf,
    pins: &Pins,
    place: &Place<'_>,
) -> Result<(&'static str, Option<String>), KernelError> {
    let (after, before): (Vec<Classifier>, Vec<Classifier>) =
        classifiers(place.host).partition(|(program, _)| *program == TC_INGRESS);
    for classifier in before {
        attach_classifier(object, pins, place, classifier)?;
    }
    let attached = match place.interface.xdp {
        XdpMode::Off => {
            let (native, generic) = xdp_programs(place.host.role);
            for program in [native, generic] {
                let _ = fs::remove_file(pins.link(&place.interface.name, program));
            }
            ("off", None)
        }
        _ => attach_xdp(object, pins, place)?,
    };
    for classifier in after {
        attach_classifier(object, pins, place, classifier)?;
    }
    Ok(attached)
}

/// Fails if an XDP program that isn't ours is where ours is wanted.
pub(super) fn refuse_another(pins: &Pins, place: &Place<'_>) -> Result<(), KernelError> {
    if place.interface.xdp == XdpMode::Off {
        return Ok(());
    }
    let name = &place.interface.name;
    occupant::refuse_another(name, place.ifindex, &links(pins, name, place.host))
}

/// The pins that an interface's links can have.
pub(super) fn links(pins: &Pins, name: &str, host: Host) -> Vec<PathBuf> {
    let (native, generic) = xdp_programs(host.role);
    let programs = classifiers(host).map(|(program, _)| program);
    let programs = programs.chain([native, generic]);
    programs.map(|program| pins.link(name, program)).collect()
}

/// How many links an interface has.
pub(super) fn count(interface: &Interface, host: Host) -> usize {
    classifiers(host).count() + usize::from(interface.xdp != XdpMode::Off)
}

/// A TC program and where it belongs.
type Classifier = (&'static str, TcAttachType);

fn classifiers(host: Host) -> impl Iterator<Item = Classifier> {
    let of_role: &[Classifier] = match host.role {
        Role::Balancer => &[
            (TC_EGRESS, TcAttachType::Egress),
            (TC_INGRESS, TcAttachType::Ingress),
        ],
        Role::Backend => &[],
    };
    let segments = host.has_segments.then_some((TC_SEGMENTS, TcAttachType::Egress));
    of_role.iter().copied().chain(segments)
}

/// The XDP programs of a role: native, generic.
fn xdp_programs(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Balancer => (XDP_BALANCER, XDP_GENERIC),
        Role::Backend => (XDP_DECAP, XDP_DECAP_GENERIC),
    }
}

/// Points an interface's pinned link to a program. False if there is none, or it isn't this interface's: then the pin is gone too.
fn adopt(path: &Path, ifindex: u32, program: BorrowedFd<'_>) -> bool {
    let Ok(link) = Link::open(path) else {
        return false;
    };
    if link.target == Target::Interface(ifindex) && link.point_to(program).is_ok() {
        return true;
    }
    // The interface was deleted since and made anew, or has got another name.
    let _ = fs::remove_file(path);
    false
}

/// Attaches a TC program, or points its pinned link to it.
fn attach_classifier(
    object: &mut Ebpf,
    pins: &Pins,
    place: &Place<'_>,
    (program, hook): (&str, TcAttachType),
) -> Result<(), KernelError> {
    let interface = &place.interface.name;
    let path = pins.link(interface, program);
    let refused = |error: &dyn std::error::Error| {
        KernelError::missing(
            format!("attaching {program} to {interface}: {error}"),
            "use a kernel with TCX (6.6 or later), or take the interface out",
        )
    };
    let classifier = object::classifier(object, program)?;
    let fd = classifier.fd().map_err(|error| refused(&error))?;
    if adopt(&path, place.ifindex, fd.as_fd()) {
        return Ok(());
    }
    // Before others, which may end a packet's way.
    let order = if program == TC_SEGMENTS {
        LinkOrder::first()
    } else {
        LinkOrder::default()
    };
    let id = classifier
        .attach_with_options(interface, hook, TcAttachOptions::TcxOrder(order))
        .map_err(|error| refused(&error))?;
    let link = classifier.take_link(id).map_err(|error| refused(&error))?;
    let link: FdLink = link.try_into().map_err(|error| refused(&error))?;
    link.pin(&path).map_err(|error| refused(&error))?;
    Ok(())
}

/// Attaches XDP: natively, else generically. Returns the mode in use, and why it isn't native.
fn attach_xdp(
    object: &mut Ebpf,
    pins: &Pins,
    place: &Place<'_>,
) -> Result<(&'static str, Option<String>), KernelError> {
    let name = &place.interface.name;
    let mode = place.interface.xdp;
    let (native, generic) = xdp_programs(place.host.role);
    let mut xdp = Attaching { object, pins, place };
    let mut warning = None;
    if mode != XdpMode::Generic {
        if xdp.adopt(native)? {
            return Ok((NATIVE, None));
        }
        if mode == XdpMode::Native || !pins.link(name, generic).exists() {
            // An interface runs one mode: the other has to go first.
            let _ = fs::remove_file(pins.link(name, generic));
            match xdp.attach(native, Attach::Driver) {
                Ok(()) => return Ok((NATIVE, None)),
                Err(error) if mode == XdpMode::Native => return Err(error),
                Err(error) => {
                    // One that is in the way of native XDP is in the way of generic XDP too.
                    refuse_another(pins, place)?;
                    tracing::warn!(interface = name, "{error}");
                    warning = Some(format!("generic XDP, which is slower, on {name}: {error}"));
                }
            }
        }
    }
    if !xdp.adopt(generic)? {
        let _ = fs::remove_file(pins.link(name, native));
        xdp.attach(generic, Attach::Skb)?;
    }
    Ok(("generic", warning))
}

const NATIVE: &str = "native";

/// One interface on its way to XDP.
struct Attaching<'a> {
    object: &'a mut Ebpf,
    pins: &'a Pins,
    place: &'a Place<'a>,
}

impl Attaching<'_> {
    /// The program, past the verifier.
    fn program(&mut self, name: &str) -> Result<&mut Xdp, KernelError> {
        object::verify(self.object, self.pins, name)?;
        object::xdp(self.object, name)
    }

    /// Points the pinned link of this program, if there is one, to the new program.
    fn adopt(&mut self, program: &str) -> Result<bool, KernelError> {
        let path = self.pins.link(&self.place.interface.name, program);
        if !path.exists() {
            return Ok(false);
        }
        let ifindex = self.place.ifindex;
        let loaded = self.program(program)?.fd();
        let loaded = loaded.map_err(|error| KernelError::refused(format!("program {program}"), error))?;
        Ok(adopt(&path, ifindex, loaded.as_fd()))
    }

    /// Attaches the program anew and pins its link.
    fn attach(&mut self, program: &str, mode: Attach) -> Result<(), KernelError> {
        let (pins, place) = (self.pins, self.place);
        let name = &place.interface.name;
        let refused = |error: &dyn std::error::Error| {
            KernelError::missing(
                format!("attaching {program} to {name}: {}", cause(error)),
                "see `ip link` for another XDP program on it (remove that one), or set xdp: generic",
            )
        };
        let path = pins.link(name, program);
        let program = self.program(program)?;
        let id = program.attach_to_if_index(place.ifindex, mode).map_err(|error| {
            // Somebody may have been quicker; the interface itself may be gone.
            refuse_another(pins, place)
                .err()
                .unwrap_or_else(|| refused(&error))
        })?;
        let link = program.take_link(id).map_err(|error| refused(&error))?;
        let link: FdLink = link.try_into().map_err(|error| refused(&error))?;
        link.pin(&path).map_err(|error| refused(&error))?;
        Ok(())
    }
}

/// The innermost cause: the kernel's word.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
