//! Addresses, ports and names as they are typed, with a remedy for each way to get them wrong.

use super::{error::Mistake, limits, name, path::clipped, suggest::shown};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// Where an endpoint listens.
pub(super) enum Target {
    /// By address.
    Address(SocketAddr),
    /// By a DNS name, lower case, and a port.
    Name(String, u16),
}

/// An endpoint's IP address or name, and its port.
pub(super) fn target(typed: &str) -> Result<Target, Mistake> {
    let (host, port) = typed.rsplit_once(':').unwrap_or((typed, ""));
    if let Some(url) = typed.split_once("://") {
        return Err(url_of_an_endpoint(typed, url));
    }
    let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(['[', ':', '/']);
    if !is_name && port == "0" {
        // The port that the client sent the packet to.
        return socket_address(&format!("{host}:1")).map(|address| Target::Address((address.ip(), 0).into()));
    }
    if !is_name {
        return socket_address(typed).map(Target::Address);
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name::dns(&name)?;
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Target::Name(name, port)),
        _ if port.is_empty() => Err(Mistake::new(
            format!("{} has no port", shown(typed)),
            format!("write {name}:PORT, such as {name}:80"),
        )),
        _ => Err(Mistake::new(
            format!("{} has no usable port", shown(typed)),
            format!("write a port from 1 to 65535: {name}:80"),
        )),
    }
}

/// `https://api.internal/` and the like.
fn url_of_an_endpoint(typed: &str, (scheme, rest): (&str, &str)) -> Mistake {
    let authority = rest.split('/').next().unwrap_or(rest);
    let with_port = if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if scheme == "https" { 443 } else { 80 })
    };
    let tls = if scheme == "https" {
        ", and `tls: {}` at the cluster"
    } else {
        ""
    };
    let remedy = format!("write {}{tls}", written(&clipped(&with_port)));
    Mistake::new(format!("{} is a URL", shown(typed)), remedy)
}

/// An IP address with a port that traffic can be sent to.
pub(super) fn socket_address(typed: &str) -> Result<SocketAddr, Mistake> {
    let address = parsed(typed)?;
    if address.ip().is_unspecified() {
        return Err(Mistake::new(
            format!("{} is every address at once", shown(typed)),
            "write one address for each entry",
        ));
    }
    Ok(address)
}

/// An address and a port of this host; `0.0.0.0` and `[::]` for every address.
pub(super) fn own_address(typed: &str) -> Result<SocketAddr, Mistake> {
    parsed(typed)
}

/// A DNS server's IP address, with or without a port.
pub(super) fn dns_server(typed: &str) -> Result<SocketAddr, Mistake> {
    match typed.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => socket_address(&format!("{v4}:53")),
        Ok(IpAddr::V6(v6)) => socket_address(&format!("[{v6}]:53")),
        Err(_) => socket_address(typed),
    }
}

/// An IP address with a port, as it can stand in a packet, or unspecified.
pub(super) fn parsed(typed: &str) -> Result<SocketAddr, Mistake> {
    let address: SocketAddr = typed.parse().map_err(|_| not_a_socket_address(typed))?;
    let bad =
        |problem: &str, remedy: String| Err(Mistake::new(format!("{} {problem}", shown(typed)), remedy));
    if let SocketAddr::V6(v6) = address {
        if v6.scope_id() != 0 {
            return bad(
                "has a zone (%), which means nothing to a service",
                "use a global or unique local address".into(),
            );
        }
        if let Some(v4) = v6.ip().to_ipv4_mapped() {
            return bad(
                "is an IPv4 address written as IPv6",
                format!("write {v4}:{}", v6.port()),
            );
        }
        if v6.ip().is_unicast_link_local() {
            return bad(
                "is link-local, and no service can be reached by that",
                "use a global or unique local address".into(),
            );
        }
    }
    if address.port() == 0 {
        return bad("has port 0", "write a port from 1 to 65535".into());
    }
    let broadcast = address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.ip().is_multicast() || broadcast {
        return bad(
            "is a multicast or broadcast address",
            "write a unicast address".into(),
        );
    }
    Ok(address)
}

fn not_a_socket_address(typed: &str) -> Mistake {
    let mistake = |problem: &str, remedy: String| Mistake::new(format!("{} {problem}", shown(typed)), remedy);
    let trimmed = typed.trim();
    if trimmed != typed && trimmed.parse::<SocketAddr>().is_ok() {
        return mistake(
            "has spaces around the address",
            format!("write {}", written(trimmed)),
        );
    }
    if let Some((_, rest)) = trimmed.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return mistake(
            "is a URL",
            if rest.parse::<SocketAddr>().is_ok() {
                format!("write {}", written(rest))
            } else {
                "write an IP address and a port, such as 192.0.2.11:53".into()
            },
        );
    }
    if let Some((address, suffix)) = trimmed.split_once('/') {
        if matches!(suffix, "udp" | "tcp") {
            return mistake(
                "has a protocol behind the port",
                format!("write {} and `protocol: {suffix}`", written(address)),
            );
        }
        return mistake(
            "is a network",
            "write one IP address and a port, such as 192.0.2.11:53".into(),
        );
    }
    if let Some(mistake) = without_port(trimmed, typed) {
        return mistake;
    }
    let (host, port) = trimmed.rsplit_once(':').unwrap_or((trimmed, ""));
    if let Ok(v6) = host.parse::<Ipv6Addr>() {
        return mistake(
            "is an IPv6 address without brackets",
            format!("write \"[{v6}]:{port}\", with the quotes"),
        );
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if ip.is_ok() && !(port.parse::<u16>().is_ok() && host.starts_with('[')) {
        return mistake(
            "has no usable port",
            format!("write a port from 1 to 65535: {}", written(&format!("{host}:53"))),
        );
    }
    if host.is_empty() || host == "*" {
        return mistake("has no address", "write one, such as 192.0.2.53:53".into());
    }
    if host.starts_with('[') {
        return mistake(
            "has no IPv6 address in its brackets",
            "write \"[2001:db8::11]:53\"".into(),
        );
    }
    if host.contains(|c: char| c.is_ascii_alphabetic()) {
        let problem = "is a name, and a listener has an address";
        return mistake(
            problem,
            "write its IP address and port, such as 192.0.2.11:53".into(),
        );
    }
    mistake(
        "is not an IP address and port",
        "write one such as 192.0.2.11:53: four numbers from 0 to 255, and a port".into(),
    )
}

/// For an address with no port behind it.
fn without_port(trimmed: &str, typed: &str) -> Option<Mistake> {
    let bare = trimmed.trim_start_matches('[').trim_end_matches(']');
    let ip: IpAddr = bare.parse().ok()?;
    let problem = format!("{} has no port", shown(typed));
    Some(match ip {
        IpAddr::V4(v4) => Mistake::new(problem, format!("write {v4}:PORT, such as {v4}:53")),
        IpAddr::V6(v6) => {
            // `2001:db8::1:53` may be an address that ends in 53, or one with a port and no brackets.
            let split = trimmed.rsplit_once(':').and_then(|(host, port)| {
                let port: u16 = port.parse().ok()?;
                Some((host.parse::<Ipv6Addr>().ok()?, port))
            });
            match split {
                Some((host, port)) if !trimmed.starts_with('[') => Mistake::new(
                    format!("{} has no brackets around the IPv6 address", shown(typed)),
                    format!("write \"[{host}]:{port}\", with the quotes, or \"[{v6}]:PORT\""),
                ),
                _ => Mistake::new(problem, format!("write \"[{v6}]:PORT\", with the quotes")),
            }
        }
    })
}

/// Quoted where YAML asks for it.
fn written(address: &str) -> String {
    if address.starts_with('[') {
        format!("\"{address}\"")
    } else {
        address.to_owned()
    }
}

/// An IPv4 address that a host can have.
pub(super) fn ipv4(typed: &str) -> Result<Ipv4Addr, Mistake> {
    let address: Ipv4Addr = typed.parse().map_err(|_| {
        let problem = format!("{} is not an IPv4 address", shown(typed));
        let remedy = match typed.parse::<Ipv6Addr>() {
            Ok(v6) => format!("write `source_ipv6: \"{v6}\"`"),
            Err(_) => "write one without port or prefix length, such as 192.0.2.1".to_owned(),
        };
        Mistake::new(problem, remedy)
    })?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return Err(not_a_source(typed));
    }
    Ok(address)
}

/// An address that clients send to.
pub(super) fn vip(typed: &str) -> Result<IpAddr, Mistake> {
    let Ok(address) = typed.parse::<IpAddr>() else {
        let remedy = "write it without port or prefix length, such as 192.0.2.53 or \"2001:db8::53\"";
        return Err(Mistake::new(
            format!("{} is not an IP address", shown(typed)),
            remedy,
        ));
    };
    // The rules are those of a VIP with a port.
    parsed(&SocketAddr::new(address, 1).to_string())
        .and_then(|address| socket_address(&address.to_string()))
        .map(|address| address.ip())
        .map_err(|_| {
            Mistake::new(
                format!("{} is no address that clients can send to", shown(typed)),
                "write the VIP's own",
            )
        })
}

/// A VIP without port, or all of a prefix.
pub(super) fn vips(typed: &str) -> Result<Vec<IpAddr>, Mistake> {
    if !typed.contains('/') {
        return Ok(vec![vip(typed)?]);
    }
    let net: IpNet = prefix(typed, "192.0.2.0/28")?;
    let free = u32::from(net.max_prefix_len() - net.prefix_len());
    let count = 1u128.checked_shl(free).unwrap_or(u128::MAX);
    if count > limits::MAX_VIPS_OF_PREFIX {
        let longest = u32::from(net.max_prefix_len()) - limits::MAX_VIPS_OF_PREFIX.ilog2();
        return Err(Mistake::new(
            format!("{net} has too many addresses: each becomes one of this host"),
            format!("write a prefix of /{longest} or longer, or several"),
        ));
    }
    let all = (0..count).map(|number| match net.network() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | number as u32).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | number).into(),
    });
    all.map(|address: IpAddr| vip(&address.to_string())).collect()
}

/// A prefix of a family, without bits behind it.
pub(super) fn prefix<P>(typed: &str, example: &str) -> Result<P, Mistake>
where
    P: FromStr + Copy + Into<IpNet>,
{
    let wrong = |remedy: String| Err(Mistake::new(format!("{} is not a prefix", shown(typed)), remedy));
    let Ok(prefix) = typed.parse::<P>() else {
        return match typed.parse::<IpAddr>() {
            Ok(address) => wrong(format!(
                "write its length too, such as {address}/{}",
                if address.is_ipv4() { 32 } else { 128 }
            )),
            Err(_) => wrong(format!("write an address and a length, such as {example}")),
        };
    };
    let net: IpNet = prefix.into();
    if net.trunc() != net {
        return wrong(format!(
            "{} has bits behind its length: write {}",
            net,
            net.trunc()
        ));
    }
    Ok(prefix)
}

/// An IPv6 address that a host can have.
pub(super) fn ipv6(typed: &str) -> Result<Ipv6Addr, Mistake> {
    let address: Ipv6Addr = typed.parse().map_err(|_| {
        let problem = format!("{} is not an IPv6 address", shown(typed));
        let remedy = match typed.parse::<Ipv4Addr>() {
            Ok(v4) => format!("write `source_ipv4: {v4}`"),
            Err(_) => "write one without brackets, port or prefix length, such as \"2001:db8::1\"".to_owned(),
        };
        Mistake::new(problem, remedy)
    })?;
    let local = address.is_unicast_link_local() || address.is_loopback();
    if address.is_unspecified() || address.is_multicast() || local || address.to_ipv4_mapped().is_some() {
        return Err(not_a_source(typed));
    }
    Ok(address)
}

fn not_a_source(typed: &str) -> Mistake {
    let problem = format!("{} is no address that backends can answer to", shown(typed));
    Mistake::new(problem, "write a unicast address of this host")
}
