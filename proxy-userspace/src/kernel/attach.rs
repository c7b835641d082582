//! Attaching the programs to interfaces, and adopting the links that are there.

use super::{
    AttachedInterface, KernelError, Pins,
    object::{
        self, TC_EGRESS, TC_INGRESS, TC_SEGMENTS, XDP_BALANCER, XDP_DECAP, XDP_DECAP_GENERIC, XDP_GENERIC,
    },
    steer,
};
use crate::model::{DaemonSettings, Interface, Role, XdpMode};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, TcAttachType, Xdp, XdpMode as Attach,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Attaches all programs to all interfaces and the network namespace, and detaches them from interfaces no longer listed.
///
/// A pinned link is pointed to the new program; only where there is none, or its interface is
/// gone, a new one is made.
pub(super) fn attach(
    object: &mut Ebpf,
    pins: &Pins,
    settings: &DaemonSettings,
) -> Result<Vec<AttachedInterface>, KernelError> {
    let interfaces = &settings.interfaces;
    let mut wanted = vec![steer::attach(object, pins)?];
    let mut attached = Vec::new();
    if !interfaces.is_empty() && settings.role == Role::Balancer {
        // Ways to backends without NAT are asked for as for packets of this host's own.
        enable_forwarding("lo")?;
    }
    for interface in interfaces {
        let ifindex = index(&interface.name)?;
        if settings.role == Role::Balancer {
            enable_forwarding(&interface.name)?;
        }
        if !settings.decap_vips.is_empty() {
            keep_quiet_about_vips(&interface.name)?;
        }
        let segments = settings
            .decap_segment
            .map(|_| (TC_SEGMENTS, TcAttachType::Egress));
        for (program, hook) in classifiers(settings.role).iter().copied().chain(segments) {
            let path = pins.link(&interface.name, program);
            attach_classifier(object, program, hook, &interface.name, &path)?;
            wanted.push(path);
        }
        let (xdp, warning) = match interface.xdp {
            XdpMode::Off => ("off", None),
            _ => attach_xdp((object, settings.role), pins, interface, ifindex, &mut wanted)?,
        };
        attached.push(AttachedInterface {
            name: interface.name.clone(),
            ifindex,
            xdp,
            warning,
        });
    }
    pins.keep_links(&wanted)?;
    Ok(attached)
}

fn classifiers(role: Role) -> &'static [(&'static str, TcAttachType)] {
    match role {
        Role::Balancer => &[
            (TC_INGRESS, TcAttachType::Ingress),
            (TC_EGRESS, TcAttachType::Egress),
        ],
        Role::Backend => &[],
    }
}

/// The XDP programs of a role: native, generic.
fn xdp_programs(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Balancer => (XDP_BALANCER, XDP_GENERIC),
        Role::Backend => (XDP_DECAP, XDP_DECAP_GENERIC),
    }
}

/// A backend has the VIP and must not tell its neighbours so: they would send clients' packets past the balancer. ARP is
/// answered for addresses of the asked interface alone, and asked from such (Documentation/networking/ip-sysctl.rst). IPv6
/// needs nothing: neighbour discovery answers for addresses of the interface alone.
fn keep_quiet_about_vips(name: &str) -> Result<(), KernelError> {
    for (setting, wanted) in [("arp_ignore", 1), ("arp_announce", 2)] {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{name}/{setting}"));
        let current = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        if current.is_none_or(|current| current >= wanted) {
            continue;
        }
        fs::write(&path, wanted.to_string()).map_err(|error| {
            KernelError::missing(
                format!("{setting} of {name} is too low and can't be raised: {error}"),
                format!("run `sysctl -w net.ipv4.conf.{name}.{setting}={wanted}` on the host"),
            )
        })?;
        tracing::info!(interface = name, "set {setting} to {wanted}");
    }
    Ok(())
}

fn index(name: &str) -> Result<u32, KernelError> {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    rustix::net::netdevice::name_to_index(
        rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )
        .map_err(|error| KernelError::refused("opening a socket", std::io::Error::from(error)))?,
        name,
    )
    .map_err(|error| {
        KernelError::missing(
            format!("interface {name}: {error} ({})", path.display()),
            "name an interface that `ip link` shows under `interfaces`",
        )
    })
}

/// `bpf_fib_lookup` forwards nothing for an interface whose forwarding is off.
fn enable_forwarding(name: &str) -> Result<(), KernelError> {
    for family in ["ipv4", "ipv6"] {
        let path = PathBuf::from(format!("/proc/sys/net/{family}/conf/{name}/forwarding"));
        // Absent where the family is disabled.
        let Ok(current) = fs::read_to_string(&path) else {
            continue;
        };
        if current.trim() != "0" {
            continue;
        }
        fs::write(&path, "1").map_err(|error| {
            KernelError::missing(
                format!("forwarding is off on {name} and can't be turned on: {error}"),
                format!("run `sysctl -w net.{family}.conf.{name}.forwarding=1` on the host"),
            )
        })?;
        tracing::info!(interface = name, family, "turned on forwarding");
    }
    Ok(())
}

/// Warns where NAT's ports overlap those the host gives its own connections: one of the host's to a
/// backend could then have the same addresses and ports as a flow.
pub(super) fn warn_of_port_overlap((first, last): (u16, u16)) {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let mut range = text
        .split_whitespace()
        .filter_map(|word| word.parse::<u16>().ok());
    let (Some(low), Some(high)) = (range.next(), range.next()) else {
        return;
    };
    if first <= high && low <= last {
        tracing::warn!(
            "NAT ports {first}-{last} overlap the host's own {low}-{high}: set nat.ports, or \
             net.ipv4.ip_local_port_range, so that they don't"
        );
    }
}

/// Points a pinned link to `program`. False if there is none, or it no longer has an interface.
fn adopt<E>(path: &Path, update: impl FnOnce(FdLink) -> Result<(), E>) -> bool {
    let Ok(pinned) = PinnedLink::from_pin(path) else {
        return false;
    };
    if update(FdLink::from(pinned)).is_ok() {
        return true;
    }
    // The interface was deleted since (ENOLINK): the link is an empty shell.
    let _ = fs::remove_file(path);
    false
}

fn attach_classifier(
    object: &mut Ebpf,
    program: &str,
    hook: TcAttachType,
    interface: &str,
    path: &Path,
) -> Result<(), KernelError> {
    let refused = |error: &dyn std::error::Error| {
        KernelError::missing(
            format!("attaching {program} to {interface}: {error}"),
            "use a kernel with TCX (6.6 or later), or take the interface out",
        )
    };
    let classifier = object::classifier(object, program)?;
    let adopted = adopt(path, |link| -> Result<(), ProgramError> {
        let link = SchedClassifierLink::try_from(link).map_err(|_| ProgramError::NotAttached)?;
        classifier.attach_to_link(link).map(drop)
    });
    if adopted {
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
    link.pin(path).map_err(|error| refused(&error))?;
    Ok(())
}

/// Attaches XDP: natively, else generically. Returns the mode in use, and why it isn't native.
fn attach_xdp(
    (object, role): (&mut Ebpf, Role),
    pins: &Pins,
    interface: &Interface,
    ifindex: u32,
    wanted: &mut Vec<PathBuf>,
) -> Result<(&'static str, Option<String>), KernelError> {
    let name = &interface.name;
    let (native, generic) = xdp_programs(role);
    let mut xdp = Attaching {
        object,
        pins,
        name,
        ifindex,
    };
    let mut warning = None;
    if interface.xdp != XdpMode::Generic {
        if xdp.adopt(native)? {
            wanted.push(pins.link(name, native));
            return Ok((NATIVE, None));
        }
        if interface.xdp == XdpMode::Native || !pins.link(name, generic).exists() {
            // An interface runs one mode: the other has to go first.
            let _ = fs::remove_file(pins.link(name, generic));
            match xdp.attach(native, Attach::Driver) {
                Ok(path) => {
                    wanted.push(path);
                    return Ok((NATIVE, None));
                }
                Err(error) if interface.xdp == XdpMode::Native => return Err(error),
                Err(error) => {
                    tracing::warn!(interface = name, "{error}");
                    warning = Some(format!("generic XDP, which is slower, on {name}: {error}"));
                }
            }
        }
    }
    let path = if xdp.adopt(generic)? {
        pins.link(name, generic)
    } else {
        let _ = fs::remove_file(pins.link(name, native));
        xdp.attach(generic, Attach::Skb)?
    };
    wanted.push(path);
    Ok(("generic", warning))
}

const NATIVE: &str = "native";

/// One interface on its way to XDP.
struct Attaching<'a> {
    object: &'a mut Ebpf,
    pins: &'a Pins,
    name: &'a str,
    ifindex: u32,
}

impl Attaching<'_> {
    /// The program, past the verifier.
    fn program(&mut self, name: &str) -> Result<&mut Xdp, KernelError> {
        object::verify(self.object, self.pins, name)?;
        object::xdp(self.object, name)
    }

    /// Points the pinned link of this program, if there is one, to the new program.
    fn adopt(&mut self, program: &str) -> Result<bool, KernelError> {
        let path = self.pins.link(self.name, program);
        if !path.exists() {
            return Ok(false);
        }
        let program = self.program(program)?;
        Ok(adopt(&path, |link| -> Result<(), ProgramError> {
            let link = XdpLink::try_from(link).map_err(|_| ProgramError::NotAttached)?;
            program.attach_to_link(link).map(drop)
        }))
    }

    /// Attaches the program anew and pins its link; returns the pin.
    fn attach(&mut self, program: &str, mode: Attach) -> Result<PathBuf, KernelError> {
        let (name, ifindex) = (self.name, self.ifindex);
        let path = self.pins.link(name, program);
        let refused = |error: &dyn std::error::Error| {
            KernelError::missing(
                format!("attaching {program} to {name}: {}", cause(error)),
                "see `ip link` for another XDP program on it (remove that one), or set xdp: generic",
            )
        };
        let program = self.program(program)?;
        let id = program
            .attach_to_if_index(ifindex, mode)
            .map_err(|error| refused(&error))?;
        let link = program.take_link(id).map_err(|error| refused(&error))?;
        let link: FdLink = link.try_into().map_err(|error| refused(&error))?;
        link.pin(&path).map_err(|error| refused(&error))?;
        Ok(path)
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
