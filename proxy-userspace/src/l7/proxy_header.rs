//! The PROXY protocol (HAProxy's proxy-protocol.txt): reads the header a connection starts with, and writes one.

use super::{
    peek::{Peeked, peek},
    scratch,
};
use crate::model::l7::ProxyHeader;
use ppp::{PartialResult, v1, v2};
use std::{
    fmt::{self, Write},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Longest header taken, with TLVs. The protocol's receivers need not take more than a packet's worth.
const MOST: usize = 4 << 10;

/// Longest header of version 1, with its end.
const LINE: usize = 107;

/// Why a connection's PROXY header was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// It didn't come in time.
    Timeout,
    /// The connection ended before it was whole.
    Closed,
    /// The first bytes begin no PROXY header.
    Missing,
    /// It begins like one and goes on like none: what is wrong.
    Malformed(Box<str>),
    /// More than 4 KiB.
    TooLong,
    /// The connection failed.
    Io,
}

impl HeaderError {
    /// A metric's label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::TooLong => "too_long",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no PROXY protocol header in time"),
            Self::Closed => f.write_str("the connection ended within its PROXY protocol header"),
            Self::Missing => f.write_str(
                "no PROXY protocol header; have the sender write one, or remove `proxy_protocol` from the listener",
            ),
            Self::Malformed(what) => write!(f, "a malformed PROXY protocol header: {what}"),
            Self::TooLong => write!(f, "a PROXY protocol header of more than {MOST} bytes"),
            Self::Io => f.write_str("the connection failed within its PROXY protocol header"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Takes the header off the connection's begin and not a byte more. Yields the client's address and the one it
/// connected to; none where the sender speaks for itself (LOCAL) or doesn't say (UNKNOWN, UNIX sockets): then the
/// connection's own addresses count.
///
/// # Errors
/// No header, a malformed one, or none within `limit`: the connection is to be closed.
pub async fn read(
    stream: &TcpStream,
    limit: Duration,
) -> Result<Option<(SocketAddr, SocketAddr)>, HeaderError> {
    let peeked = timeout(limit, peek(stream, MOST, parse))
        .await
        .map_err(|_| HeaderError::Timeout)?
        .map_err(|_| HeaderError::Io)?;
    let (length, addresses) = match peeked {
        Peeked::Found(verdict) => verdict?,
        Peeked::Closed => return Err(HeaderError::Closed),
        Peeked::TooLong => return Err(HeaderError::TooLong),
    };
    take(stream, length).map_err(|_| HeaderError::Io)?;
    Ok(addresses)
}

/// Reads bytes that are there, since they were peeked at.
fn take(stream: &TcpStream, mut length: usize) -> io::Result<()> {
    scratch::with(|buffer| {
        while length > 0 {
            match stream.try_read(&mut buffer[..length])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => length -= count,
            }
        }
        Ok(())
    })
}

/// A whole header's length and what it says; none where more bytes are needed.
type Verdict = Result<(usize, Option<(SocketAddr, SocketAddr)>), HeaderError>;

fn parse(bytes: &[u8]) -> Option<Verdict> {
    // Which version it is shows in the first byte already.
    if bytes.first() == v2::PROTOCOL_PREFIX.first() {
        let header = v2::Header::try_from(bytes);
        return header.is_complete().then(|| match header {
            Ok(header) => Ok((header.as_bytes().len(), addresses_v2(&header))),
            Err(v2::ParseError::Prefix) => Err(HeaderError::Missing),
            Err(error) => Err(HeaderError::Malformed(error.to_string().into())),
        });
    }
    let prefix = b"PROXY ";
    if !bytes.starts_with(prefix) {
        return (!prefix.starts_with(bytes)).then_some(Err(HeaderError::Missing));
    }
    // Only a whole line is parsed: ppp takes some lines that are cut for wrong ones.
    let Some(end) = bytes.iter().take(LINE).position(|byte| *byte == b'\n') else {
        let long = || Err(HeaderError::Malformed("a line of more than 107 bytes".into()));
        return (bytes.len() >= LINE).then(long);
    };
    Some(match v1::Header::try_from(&bytes[..=end]) {
        Ok(header) => Ok((end + 1, addresses_v1(&header.addresses))),
        Err(error) => Err(HeaderError::Malformed(error.to_string().into())),
    })
}

fn addresses_v1(addresses: &v1::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(pair) => Some((
            (pair.source_address, pair.source_port).into(),
            (pair.destination_address, pair.destination_port).into(),
        )),
        v1::Addresses::Tcp6(pair) => Some((
            (pair.source_address, pair.source_port).into(),
            (pair.destination_address, pair.destination_port).into(),
        )),
    }
}

fn addresses_v2(header: &v2::Header<'_>) -> Option<(SocketAddr, SocketAddr)> {
    if header.command == v2::Command::Local || header.protocol != v2::Protocol::Stream {
        return None;
    }
    match &header.addresses {
        v2::Addresses::IPv4(pair) => Some((
            (pair.source_address, pair.source_port).into(),
            (pair.destination_address, pair.destination_port).into(),
        )),
        v2::Addresses::IPv6(pair) => Some((
            (pair.source_address, pair.source_port).into(),
            (pair.destination_address, pair.destination_port).into(),
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}

/// The header that tells an endpoint who the client is and which address it connected to.
pub fn header(version: ProxyHeader, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (source, destination) = one_family(client.ip(), local.ip());
    let ports = (client.port(), local.port());
    match version {
        ProxyHeader::V1 => {
            let family = if source.is_ipv4() { v1::TCP4 } else { v1::TCP6 };
            let mut text = String::with_capacity(LINE);
            let _infallible = write!(
                text,
                "PROXY {family} {source} {destination} {} {}\r\n",
                ports.0, ports.1
            );
            text.into_bytes()
        }
        ProxyHeader::V2 => binary(source, destination, ports),
    }
}

/// Both addresses in one family: IPv4 where both are (also mapped ones), else IPv6 with the IPv4 one mapped.
fn one_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    let mapped = |address| match address {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        IpAddr::V6(_) => address,
    };
    match (source.to_canonical(), destination.to_canonical()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (mapped(source), mapped(destination)),
    }
}

fn binary(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    /// Version 2, PROXY.
    const COMMAND: u8 = 0x21;
    /// TCP over IPv4, TCP over IPv6.
    const FAMILIES: [u8; 2] = [0x11, 0x21];
    let (family, length) = if source.is_ipv4() {
        (FAMILIES[0], 12_u16)
    } else {
        (FAMILIES[1], 36)
    };
    let mut bytes = Vec::with_capacity(16 + usize::from(length));
    bytes.extend_from_slice(v2::PROTOCOL_PREFIX);
    bytes.extend_from_slice(&[COMMAND, family]);
    bytes.extend_from_slice(&length.to_be_bytes());
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    bytes.extend_from_slice(&ports.0.to_be_bytes());
    bytes.extend_from_slice(&ports.1.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests;
