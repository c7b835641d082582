//! What listeners take as it is typed: an address or a prefix, and a port, a range or all.

use super::{
    address::{parsed, prefix},
    error::Mistake,
    suggest::shown,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Addresses and ports that a listener takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen {
    /// The first one.
    pub(super) address: IpAddr,
    /// How many bits of it count; all but for a prefix. None of 0.0.0.0 and ::, which are every address.
    pub(super) prefix_bits: u8,
    /// First port; 0 for all.
    pub(super) first: u16,
    /// Last port.
    pub(super) last: u16,
}

impl Listen {
    fn new(address: IpAddr, first: u16, last: u16) -> Self {
        let prefix_bits = match address {
            _ if address.is_unspecified() => 0,
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self {
            address,
            prefix_bits,
            first,
            last,
        }
    }
}

/// An address that connections are taken for, or a prefix of them, with a port, a range of ports, or 0 for all.
pub(super) fn listen_address(typed: &str) -> Result<Listen, Mistake> {
    let trimmed = typed.trim();
    if let Some(port) = trimmed.strip_prefix("*:").or_else(|| trimmed.strip_prefix(':')) {
        let remedy =
            format!("write 0.0.0.0:{port} for every IPv4 address, \"[::]:{port}\" for every IPv6 address");
        return Err(Mistake::new(format!("{} has no address", shown(typed)), remedy));
    }
    if let Ok(network) = typed.parse::<IpNet>() {
        let network = bracketed(network);
        let remedy = format!("write \"{network}:PORT\", or \"{network}:0\" for all ports");
        return Err(Mistake::new(format!("{} has no port", shown(typed)), remedy));
    }
    let Some((host, ports)) = typed.rsplit_once(':') else {
        return parsed(typed).map(|address| Listen::new(address.ip(), address.port(), address.port()));
    };
    let (first, last) = match ports {
        "0" => (0, u16::MAX),
        range if range.contains('-') => port_range(range)?,
        _ if host.contains('/') && !host.contains("//") => {
            let port = ports.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                let problem = format!("{} has no usable port", shown(typed));
                Mistake::new(problem, format!("write a port from 1 to 65535: \"{host}:53\""))
            })?;
            (port, port)
        }
        _ => {
            let address = parsed(typed)?;
            return Ok(Listen::new(address.ip(), address.port(), address.port()));
        }
    };
    if host.contains('/') && !host.contains("//") {
        return listen_prefix(typed, host, (first, last));
    }
    let address = parsed(&format!("{host}:{}", first.max(1)))?;
    Ok(Listen::new(address.ip(), first, last))
}

/// A prefix with one port, or with all.
fn listen_prefix(typed: &str, host: &str, (first, last): (u16, u16)) -> Result<Listen, Mistake> {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let network: IpNet = prefix(inside.unwrap_or(host), "192.0.2.0/24")?;
    let mistake =
        |problem: &str, remedy: String| Err(Mistake::new(format!("{} {problem}", shown(typed)), remedy));
    if inside.is_some() != network.addr().is_ipv6() {
        let network = bracketed(network);
        return mistake("has its brackets wrong", format!("write \"{network}:PORT\""));
    }
    if network.prefix_len() == 0 {
        return mistake("is every address at once", "write the prefix of the VIPs".into());
    }
    if (first, last) != (0, u16::MAX) && first != last {
        let network = bracketed(network);
        let remedy = format!("write a listener for each port, or \"{network}:0\" for all ports");
        return mistake(
            "is a range of ports of a prefix, which takes one port or all",
            remedy,
        );
    }
    parsed(&SocketAddr::new(network.addr(), first.max(1)).to_string())?;
    Ok(Listen {
        address: network.addr(),
        prefix_bits: network.prefix_len(),
        first,
        last,
    })
}

/// As it stands in front of a port.
fn bracketed(network: IpNet) -> String {
    if network.addr().is_ipv6() {
        format!("[{network}]")
    } else {
        network.to_string()
    }
}

/// First and last port.
pub(super) fn port_range(typed: &str) -> Result<(u16, u16), Mistake> {
    let mistake = |problem: &str, remedy: String| Mistake::new(format!("{} {problem}", shown(typed)), remedy);
    let example = || "write first and last port, such as 1024-32767".to_owned();
    let (first, last) = typed
        .split_once(['-', ':', ','])
        .or_else(|| typed.split_once(".."))
        .ok_or_else(|| mistake("is not a range", example()))?;
    let (first, last) = (first.trim(), last.trim().trim_start_matches(['.', '-']).trim());
    let ports = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    let (first, last) = ports.ok_or_else(|| mistake("is not a range of ports from 1 to 65535", example()))?;
    let typed_well = typed
        .split_once('-')
        .is_some_and(|(a, b)| a.trim().parse() == Ok(first) && b.trim().parse() == Ok(last));
    if first > last {
        return Err(mistake("ends before it begins", format!("write {last}-{first}")));
    }
    if !typed_well {
        return Err(mistake("is not a range", format!("write {first}-{last}")));
    }
    if first == 0 {
        return Err(mistake("contains port 0", format!("write 1-{last}")));
    }
    Ok((first, last))
}
