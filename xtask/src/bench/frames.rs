//! The frames that are sent: one template for each mix of headers.

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use std::net::{IpAddr, SocketAddr};

/// Bytes of a frame; mirrors `LENGTH` in `proxy-ebpf/src/bench/frame.rs`.
pub const LENGTH: usize = 80;

/// Which headers a frame has. The numbers are those of the kernel side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Shape {
    /// UDP over IPv4.
    Udp4 = 0,
    /// TCP over IPv4.
    Tcp4 = 1,
    /// UDP over IPv6.
    Udp6 = 2,
}

impl Shape {
    /// As the report shows it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Udp4 => "UDP/IPv4",
            Self::Tcp4 => "TCP/IPv4",
            Self::Udp6 => "UDP/IPv6",
        }
    }
}

/// Sender of flow 0; further flows have higher ports, then higher addresses.
pub const CLIENT_PORT: u16 = 16_384;

/// A frame of flow 0 with valid checksums; TCP has the flag SYN when it is opening, else ACK.
///
/// # Errors
/// When the headers don't fit.
pub fn frame(
    shape: Shape,
    macs: [[u8; 6]; 2],
    from: SocketAddr,
    to: SocketAddr,
    opening: bool,
) -> Result<[u8; LENGTH]> {
    let ethernet = PacketBuilder::ethernet2(macs[0], macs[1]);
    let network = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), 64)
        }
        _ => anyhow::bail!("source and destination are of different families"),
    };
    let headers = match shape {
        Shape::Udp4 => 14 + 20 + 8,
        Shape::Tcp4 => 14 + 20 + 20,
        Shape::Udp6 => 14 + 40 + 8,
    };
    let payload = vec![0u8; LENGTH - headers];
    let mut bytes = Vec::with_capacity(LENGTH);
    if shape == Shape::Tcp4 {
        let tcp = network.tcp(from.port(), to.port(), 1, 65_535);
        let tcp = if opening { tcp.syn() } else { tcp.ack(1) };
        tcp.write(&mut bytes, &payload)?;
    } else {
        network.udp(from.port(), to.port()).write(&mut bytes, &payload)?;
    }
    bytes
        .try_into()
        .ok()
        .context("a frame of another length than planned")
}
