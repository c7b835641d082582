//! What the kernel would answer about the next hop: interfaces, routes and neighbours as a test set them up.

use proxy_common::verdict::DropReason;
use std::{collections::HashMap, net::IpAddr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// An interface of the balancer.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: usize,
    /// Whether packets that arrive here may be forwarded, IPv4.
    pub forwarding_ipv4: bool,
    /// The same for IPv6.
    pub forwarding_ipv6: bool,
}

/// A route to a prefix.
#[derive(Clone, Debug)]
pub struct Route {
    /// First address of the prefix.
    pub prefix: IpAddr,
    /// Its length in bits.
    pub length: u8,
    /// Where it leads.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Target {
    /// Out of an interface.
    Link {
        /// Index of the interface.
        ifindex: u32,
        /// The router to go through, else the destination is a neighbour.
        gateway: Option<IpAddr>,
        /// The route's own MTU.
        mtu: Option<usize>,
    },
    /// Nowhere to forward to: blackhole, prohibit, unreachable, multicast, broadcast, this host.
    Nowhere,
}

/// The next hop of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// The interface to leave by.
    pub ifindex: u32,
    /// Source and destination MAC; none while the neighbour is unresolved.
    pub macs: Option<(Mac, Mac)>,
}

/// Interfaces, routes and neighbours.
#[derive(Clone, Default, Debug)]
pub struct Network {
    /// By index.
    pub interfaces: HashMap<u32, Interface>,
    /// In any order; the longest prefix wins.
    pub routes: Vec<Route>,
    /// Resolved neighbours by interface and address.
    pub neighbours: HashMap<(u32, IpAddr), Mac>,
}

/// The way of a packet of this host's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The interface to leave by.
    pub ifindex: u32,
    /// Source and destination MAC; none while the neighbour is unresolved.
    pub macs: Option<(Mac, Mac)>,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// The destination is a neighbour itself.
    pub on_link: bool,
}

impl Network {
    /// The way to a destination, whoever sent what is to go there.
    ///
    /// # Errors
    /// There is none.
    pub fn way(&self, destination: IpAddr) -> Result<Way, DropReason> {
        if is_never_forwarded(destination) {
            return Err(DropReason::NoRoute);
        }
        let routes = self.routes.iter().filter(|route| matches(route, destination));
        let target = routes.max_by_key(|route| route.length).map(|route| &route.target);
        let Some(Target::Link {
            ifindex,
            gateway,
            mtu,
        }) = target
        else {
            return Err(DropReason::NoRoute);
        };
        let leaving = &self.interfaces[ifindex];
        let neighbour = self.neighbours.get(&(*ifindex, gateway.unwrap_or(destination)));
        Ok(Way {
            ifindex: *ifindex,
            macs: neighbour.map(|mac| (leaving.mac, *mac)),
            mtu: mtu.unwrap_or(leaving.mtu),
            on_link: gateway.is_none(),
        })
    }

    /// Next hop of a packet of `length` bytes (its IP total length) that arrived at `ifindex`.
    ///
    /// # Errors
    /// Why it cannot be forwarded, as docs/dataplane.md names it.
    pub fn next_hop(&self, ifindex: u32, destination: IpAddr, length: usize) -> Result<NextHop, DropReason> {
        if is_never_forwarded(destination) {
            return Err(DropReason::NoRoute);
        }
        let arriving = &self.interfaces[&ifindex];
        let forwarding = match destination {
            IpAddr::V4(_) => arriving.forwarding_ipv4,
            IpAddr::V6(_) => arriving.forwarding_ipv6,
        };
        if !forwarding {
            return Err(DropReason::ForwardingDisabled);
        }
        let route = self
            .routes
            .iter()
            .filter(|route| matches(route, destination))
            .max_by_key(|route| route.length)
            .ok_or(DropReason::NoRoute)?;
        let Target::Link {
            ifindex,
            gateway,
            mtu,
        } = route.target
        else {
            return Err(DropReason::NoRoute);
        };
        let leaving = &self.interfaces[&ifindex];
        if length > mtu.unwrap_or(leaving.mtu) {
            return Err(DropReason::MtuExceeded);
        }
        let neighbour = self.neighbours.get(&(ifindex, gateway.unwrap_or(destination)));
        Ok(NextHop {
            ifindex,
            macs: neighbour.map(|mac| (leaving.mac, *mac)),
        })
    }
}

/// IPv6 addresses that mean another host on every link: the kernel looks at nothing else first.
fn is_never_forwarded(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            address.is_multicast() || address.is_unicast_link_local() || address.is_loopback()
        }
    }
}

/// Whether a destination lies in a route's prefix.
fn matches(route: &Route, destination: IpAddr) -> bool {
    let differing = match (route.prefix, destination) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => (prefix.to_bits() ^ address.to_bits()).leading_zeros(),
        (IpAddr::V6(prefix), IpAddr::V6(address)) => (prefix.to_bits() ^ address.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(route.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, length: u8, target: Target) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            length,
            target,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_families_stay_apart() {
        let link = |ifindex, gateway: Option<&str>, mtu| Target::Link {
            ifindex,
            gateway: gateway.map(|text| text.parse().unwrap()),
            mtu,
        };
        let interface = Interface {
            mac: [2; 6],
            mtu: 1500,
            forwarding_ipv4: true,
            forwarding_ipv6: false,
        };
        let network = Network {
            interfaces: HashMap::from([(1, interface.clone()), (2, interface)]),
            routes: vec![
                route("0.0.0.0", 0, link(1, Some("192.0.2.254"), None)),
                route("192.0.2.0", 24, link(1, None, None)),
                route("198.18.0.0", 24, link(2, None, Some(600))),
                route("198.18.0.66", 32, Target::Nowhere),
            ],
            neighbours: HashMap::from([
                ((1, "192.0.2.254".parse().unwrap()), [9; 6]),
                ((2, "198.18.0.1".parse().unwrap()), [8; 6]),
            ]),
        };
        let hop = |to: &str, length| network.next_hop(1, to.parse().unwrap(), length);
        let known = |ifindex, mac| {
            Ok(NextHop {
                ifindex,
                macs: Some(([2; 6], mac)),
            })
        };
        assert_eq!(hop("203.0.113.1", 1500), known(1, [9; 6]));
        assert_eq!(hop("203.0.113.1", 1501), Err(DropReason::MtuExceeded));
        assert_eq!(hop("198.18.0.1", 600), known(2, [8; 6]));
        assert_eq!(hop("198.18.0.1", 601), Err(DropReason::MtuExceeded));
        assert_eq!(hop("198.18.0.66", 20), Err(DropReason::NoRoute));
        assert_eq!(
            hop("192.0.2.7", 20),
            Ok(NextHop {
                ifindex: 1,
                macs: None
            })
        );
        assert_eq!(hop("2001:db8::1", 20), Err(DropReason::ForwardingDisabled));
        assert_eq!(hop("ff01::1", 20), Err(DropReason::NoRoute));
        assert_eq!(hop("fe80::1", 20), Err(DropReason::NoRoute));
    }
}
