//! L4 services: a VIP, port and protocol forwarded in the kernel to a cluster.

use super::{ClusterName, ListenAddr, Quic, Span};
use ipnet::IpNet;
use proxy_common::net::Protocol;
use std::{fmt, sync::Arc, time::Duration};

/// One L4 listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The listener's name, unique in a config.
    pub name: Arc<str>,
    /// VIP and port, of several the first ones; with the protocol it is unique. Port 0 where all ports are taken.
    pub address: ListenAddr,
    /// The other addresses and ports that it has.
    pub span: Span,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where its flows go; exists in the snapshot and has endpoints of the VIP's family only.
    pub cluster: ClusterName,
    /// How packets get to the backend.
    pub mode: ForwardMode,
    /// Maglev slots: a prime.
    pub table_size: u32,
    /// What of a packet picks its backend.
    pub hash: FlowHash,
    /// Which flows are stored, in modes other than NAT.
    pub tracking: Tracking,
    /// Whether a source's flows go to one backend. Such a service stores all its flows.
    pub affinity: Option<Affinity>,
    /// How its datagrams' QUIC connection IDs are read, if they are to name an endpoint.
    pub quic: Option<Quic>,
    /// The largest TCP segment that either end of its connections may send, with NAT; none for what they agree on.
    pub max_segment_size: Option<u16>,
    /// Who may send to it, and how much.
    pub guard: Guard,
    /// When idle flows end.
    pub idle_timeouts: IdleTimeouts,
}

/// A source's new flows go to the backend of its last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// For this long after it was opened.
    pub timeout: Duration,
    /// First bits of an IPv4 address that count as one source, 1 to 32.
    pub ipv4_prefix: u8,
    /// The same of IPv6, 1 to 128.
    pub ipv6_prefix: u8,
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.timeout.as_secs();
        write!(f, "{seconds}s by /{} and /{}", self.ipv4_prefix, self.ipv6_prefix)
    }
}

/// Who may send to a service, and how much.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Guard {
    /// Sources that may: if there are any, no others may.
    pub allow: Arc<[IpNet]>,
    /// Sources that may not; of both lists the longest prefix decides.
    pub deny: Arc<[IpNet]>,
    /// Packets of one source.
    pub packets: Option<Rate>,
    /// Connections that one source opens.
    pub connections: Option<Rate>,
}

/// A token bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: u32,
    /// Tokens that it holds.
    pub burst: u32,
}

/// What of a packet picks its backend.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FlowHash {
    /// Addresses, ports and protocol: every flow by itself.
    #[default]
    FiveTuple,
    /// The client's address: all that a client sends to the service, to one backend.
    Source,
    /// The client's address and the VIP.
    SourceDestination,
}

impl fmt::Display for FlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FiveTuple => "five_tuple",
            Self::Source => "source",
            Self::SourceDestination => "source_destination",
        })
    }
}

/// Which flows the kernel remembers the backend of, where it needn't for translation.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Tracking {
    /// Those that a change of the backends would move otherwise.
    #[default]
    Auto,
    /// All.
    Always,
    /// None: every packet follows the Maglev table.
    Never,
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// How packets get to a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardMode {
    /// Full NAT.
    Nat,
    /// Direct server return on one link: another MAC address alone.
    DsrL2,
    /// Direct server return through IP in IP.
    Ipip,
    /// Direct server return through Generic UDP Encapsulation.
    Gue,
}

impl ForwardMode {
    /// Whether packets are put into others.
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}

impl fmt::Display for ForwardMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::DsrL2 => "dsr-l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        })
    }
}

/// After how long without a packet in either direction a flow ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleTimeouts {
    /// TCP, answered, no FIN or RST seen. Default 2 h 30 min: longer than Linux's keepalive of 2 h.
    pub tcp: Duration,
    /// TCP before the backend's first answer. Default 60 s.
    pub tcp_opening: Duration,
    /// TCP after a FIN or RST from either side. Default 60 s, Linux's TIME_WAIT.
    pub tcp_closing: Duration,
    /// UDP. Default 120 s.
    pub udp: Duration,
}

impl Default for IdleTimeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(9_000),
            tcp_opening: Duration::from_secs(60),
            tcp_closing: Duration::from_secs(60),
            udp: Duration::from_secs(120),
        }
    }
}
