//! The configured interfaces through their lives: they may appear after the daemon, vanish, and come again as others.

use super::{
    AttachedInterface, KernelError, Pins,
    attach::{self, Host, Place},
    host_settings,
    links::{Link, Target},
    steer,
};
use crate::model::{DaemonSettings, Interface, Role};
use aya::Ebpf;
use rustix::{io::Errno, net};
use std::{fs, io};
use tracing::{info, warn};

/// Stands for XDP's mode where there is no interface.
pub(super) const ABSENT: &str = "absent";

/// Stands for XDP's mode where ours can't be.
pub(super) const REFUSED: &str = "refused";

/// The programs, and where they are attached.
pub(super) struct Interfaces {
    object: Ebpf,
    wanted: Vec<Interface>,
    host: Host,
    /// This host has VIPs that its neighbours must not hear of.
    is_quiet: bool,
    states: Vec<AttachedInterface>,
}

impl Interfaces {
    /// Attaches to the network namespace and all interfaces that are there, and detaches from those no longer listed. One that
    /// isn't there is a warning: it may be made later.
    ///
    /// # Errors
    /// Another XDP program is on one of them (nothing was attached then), or the kernel refused ours.
    pub(super) fn open(object: Ebpf, pins: &Pins, settings: &DaemonSettings) -> Result<Self, KernelError> {
        let mut interfaces = Self {
            object,
            wanted: settings.interfaces.clone(),
            host: Host {
                role: settings.role,
                has_segments: settings.decap_segment.is_some(),
            },
            is_quiet: !settings.decap_vips.is_empty(),
            states: Vec::new(),
        };
        let there: Vec<Option<u32>> = (settings.interfaces.iter())
            .map(|interface| index(&interface.name))
            .collect::<Result<_, _>>()?;
        for (interface, ifindex) in settings.interfaces.iter().zip(&there) {
            if let Some(ifindex) = *ifindex {
                attach::refuse_another(pins, &interfaces.place(interface, ifindex))?;
            }
        }
        let mut links = vec![steer::attach(&mut interfaces.object, pins)?];
        if !settings.interfaces.is_empty() && settings.role == Role::Balancer {
            // Ways to backends without NAT are asked for as for packets of this host's own.
            host_settings::enable_forwarding("lo")?;
        }
        for (interface, ifindex) in settings.interfaces.iter().zip(there) {
            let state = match ifindex {
                Some(ifindex) => {
                    let state = interfaces.attach(pins, interface, ifindex)?;
                    links.extend(attach::links(pins, &interface.name, interfaces.host));
                    state
                }
                None => {
                    let state = absent(&interface.name);
                    warn!(
                        "interface {}: {}",
                        state.name,
                        state.warning.as_deref().unwrap_or_default()
                    );
                    state
                }
            };
            interfaces.states.push(state);
        }
        pins.keep_links(&links)?;
        Ok(interfaces)
    }

    /// What the programs are attached to, in the config's order.
    pub(super) fn states(&self) -> &[AttachedInterface] {
        &self.states
    }

    /// Whether it is the index of one of them.
    pub(super) fn has(&self, ifindex: u32) -> bool {
        ifindex != 0 && self.states.iter().any(|state| state.ifindex == ifindex)
    }

    /// Attaches to interfaces that have appeared, and to those whose other program is gone. Returns whether there were any. What
    /// is in the way of one doesn't end the daemon: it is said, and tried again next time.
    pub(super) fn attend(&mut self, pins: &Pins) -> bool {
        let wanted = self.wanted.clone();
        let mut is_any_new = false;
        for (at, interface) in wanted.iter().enumerate() {
            let state = match index(&interface.name) {
                Ok(Some(ifindex)) if self.is_attached(pins, at, (interface, ifindex)) => continue,
                Ok(Some(ifindex)) => match self.attach_checked(pins, interface, ifindex) {
                    Ok(state) => state,
                    Err(error) => self.refused(pins, interface, &error),
                },
                Ok(None) => {
                    self.unpin(pins, interface);
                    absent(&interface.name)
                }
                Err(error) => self.refused(pins, interface, &error),
            };
            is_any_new |= state.ifindex != 0;
            self.note(at, state);
        }
        is_any_new
    }

    /// Whether all of an interface's links are there and its own: one of that name may have been deleted and made anew.
    fn is_attached(&self, pins: &Pins, at: usize, (interface, ifindex): (&Interface, u32)) -> bool {
        let links = attach::links(pins, &interface.name, self.host);
        let in_place = links
            .iter()
            .filter_map(|path| Link::open(path).ok())
            .filter(|link| link.target == Target::Interface(ifindex))
            .count();
        self.states[at].ifindex == ifindex && in_place == attach::count(interface, self.host)
    }

    fn attach_checked(
        &mut self,
        pins: &Pins,
        interface: &Interface,
        ifindex: u32,
    ) -> Result<AttachedInterface, KernelError> {
        attach::refuse_another(pins, &self.place(interface, ifindex))?;
        self.attach(pins, interface, ifindex)
    }

    fn attach(
        &mut self,
        pins: &Pins,
        interface: &Interface,
        ifindex: u32,
    ) -> Result<AttachedInterface, KernelError> {
        if self.host.role == Role::Balancer {
            host_settings::enable_forwarding(&interface.name)?;
        }
        if self.is_quiet {
            host_settings::keep_quiet_about_vips(&interface.name)?;
        }
        let place = Place {
            interface,
            ifindex,
            host: self.host,
        };
        let (xdp, warning) = attach::attach(&mut self.object, pins, &place)?;
        Ok(AttachedInterface {
            name: interface.name.clone(),
            ifindex,
            xdp,
            warning,
        })
    }

    fn place<'a>(&self, interface: &'a Interface, ifindex: u32) -> Place<'a> {
        Place {
            interface,
            ifindex,
            host: self.host,
        }
    }

    /// Nothing of ours stays on an interface that lacks a part: without XDP, TC would see what it can't make sense of.
    fn refused(&self, pins: &Pins, interface: &Interface, error: &KernelError) -> AttachedInterface {
        self.unpin(pins, interface);
        AttachedInterface {
            name: interface.name.clone(),
            ifindex: 0,
            xdp: REFUSED,
            warning: Some(format!("nothing of weir's is attached; tried again: {error}")),
        }
    }

    fn unpin(&self, pins: &Pins, interface: &Interface) {
        for path in attach::links(pins, &interface.name, self.host) {
            let _ = fs::remove_file(path);
        }
    }

    /// Takes over a state, and says so if it is another.
    fn note(&mut self, at: usize, state: AttachedInterface) {
        if self.states[at] == state {
            return;
        }
        let name = &state.name;
        match &state.warning {
            _ if state.xdp == ABSENT => {
                warn!("interface {name} is gone; weir attaches to it when it appears again")
            }
            Some(warning) if state.xdp == REFUSED => warn!("interface {name}: {warning}"),
            _ => info!("interface {name}: attached ({})", state.xdp),
        }
        self.states[at] = state;
    }
}

fn absent(name: &str) -> AttachedInterface {
    AttachedInterface {
        name: name.to_owned(),
        ifindex: 0,
        xdp: ABSENT,
        warning: Some(
            "there is no such interface; weir attaches to it when it appears. If the name is wrong, correct \
             `interfaces` (`ip link` shows the names) and start again"
                .into(),
        ),
    }
}

/// An interface's index; none if there is none of that name.
fn index(name: &str) -> Result<Option<u32>, KernelError> {
    let refused =
        |error: Errno| KernelError::refused(format!("asking for interface {name}"), io::Error::from(error));
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::DGRAM, None).map_err(refused)?;
    match net::netdevice::name_to_index(socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}
