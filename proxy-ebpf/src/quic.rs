//! QUIC connection IDs that name a backend (docs/dataplane.md, "QUIC connection IDs").

use crate::{maps::QUIC_SERVERS, parse::Headers, tracked};
use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes},
};
use core::ffi::c_void;
use proxy_common::{
    headers::udp,
    quic::{ServerKey, flags},
    values::{NO_BACKEND, ServiceValue, service_flags},
};

/// What a datagram says, in one word: whom its connection ID names, and whether it opens a connection.
#[derive(Clone, Copy)]
pub struct Said(pub u64);

impl Said {
    /// Nothing.
    pub const NOTHING: Self = Self(NO_BACKEND as u64);
    /// It opens a connection, and names nobody.
    const OPENS: Self = Self(NO_BACKEND as u64 | Self::IS_LONG);
    /// A long header: of a packet of the handshake, if it names somebody.
    const IS_LONG: u64 = 1 << 32;

    /// Index of the backend, alive, or [`NO_BACKEND`].
    #[inline(always)]
    pub fn backend(self) -> u32 {
        self.0 as u32
    }

    /// Whether it opens a connection.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 == Self::OPENS.0
    }

    /// Whether it belongs to the handshake with the backend that it names.
    #[inline(always)]
    pub fn is_handshake(self) -> bool {
        self.0 & Self::IS_LONG != 0 && !self.opens()
    }
}

/// Where the datagram is in a frame.
#[derive(Clone, Copy)]
pub struct Payload {
    /// What comes behind the UDP header.
    pub start: u32,
    /// The end of the IP packet.
    pub end: u32,
}

impl Payload {
    /// That of a packet that has a transport header; else nothing.
    #[inline(always)]
    fn of(headers: &Headers) -> Self {
        let start = (headers.l4() + udp::LENGTH) as u32;
        let end = if headers.is_later() {
            0
        } else {
            headers.end() as u32
        };
        Self { start, end }
    }
}

/// What a frame that arrived says to a service.
#[inline(always)]
pub fn of_frame(ctx: *mut xdp_md, service: &ServiceValue, headers: &Headers) -> Said {
    if service.flags & service_flags::QUIC == 0 {
        return Said::NOTHING;
    }
    let payload = Payload::of(headers);
    Said(read_frame(ctx, service, payload.start, payload.end))
}

/// The same, of a packet that this host sends.
#[inline(always)]
pub fn of_skb(skb: *mut __sk_buff, service: &ServiceValue, headers: &Headers) -> Said {
    if service.flags & service_flags::QUIC == 0 {
        return Said::NOTHING;
    }
    let payload = Payload::of(headers);
    Said(read_skb(skb, service, payload.start, payload.end))
}

/// [`read`] of a frame, with a stack frame of its own.
#[inline(never)]
pub fn read_frame(ctx: *mut xdp_md, service: &ServiceValue, start: u32, end: u32) -> u64 {
    let payload = Payload { start, end };
    // SAFETY: the helper checks the packet's bounds and writes so many bytes, which the callers below have room for.
    let load = |offset, to, bytes| unsafe { bpf_xdp_load_bytes(ctx, offset, to, bytes) == 0 };
    read(service, payload, load).0
}

#[inline(never)]
fn read_skb(skb: *mut __sk_buff, service: &ServiceValue, start: u32, end: u32) -> u64 {
    let payload = Payload { start, end };
    // SAFETY: as above.
    let load = |offset, to, bytes| unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, bytes) == 0 };
    read(service, payload, load).0
}

/// The first bytes of a QUIC packet: all of a long header as far as the destination connection ID's first octet, RFC 8999 section 5.1,
/// and one more.
const HEAD: u32 = 8;
/// Where a short header's connection ID is, RFC 8999 section 5.2.
const SHORT_ID: u32 = 1;
/// Where a long header's is.
const LONG_ID: u32 = 6;

/// Lookups: 2 (`quic_servers`, the backend) where the ID has the service's config ID.
#[inline(always)]
fn read(service: &ServiceValue, payload: Payload, load: impl Fn(u32, *mut c_void, u32) -> bool) -> Said {
    let mut head = 0u64;
    if payload.start + HEAD > payload.end || !load(payload.start, (&raw mut head).cast(), HEAD) {
        return Said::NOTHING;
    }
    // Byte N of the packet is bits 8 N and up.
    let byte = |at: u32| (head >> (8 * at)) as u8;
    let bytes = flags::server_id_bytes(service.flags);
    let is_long = byte(0) & 0x80 != 0;
    let mut otherwise = Said::NOTHING;
    let (at, octet) = if is_long {
        let version = u32::from_be((head >> 8) as u32);
        if opens(version, byte(0)) {
            otherwise = Said::OPENS;
        }
        if u32::from(byte(5)) < 1 + bytes {
            return otherwise;
        }
        (LONG_ID + 1, byte(LONG_ID))
    } else {
        (SHORT_ID + 1, byte(SHORT_ID))
    };
    let at = payload.start + at;
    if u32::from(octet >> 5) != flags::config_id(service.flags) || at + bytes > payload.end || bytes == 0 {
        return otherwise;
    }
    let mut key = ServerKey {
        service: service.index,
        server_id: [0; 16],
    };
    if !load(at, key.server_id.as_mut_ptr().cast(), bytes) {
        return otherwise;
    }
    // SAFETY: read at once; what a changed entry says is as good as what it said before.
    let Some(server) = (unsafe { QUIC_SERVERS.get(&key) }) else {
        return otherwise;
    };
    match tracked::live(server.backend) {
        Some(backend) if backend.incarnation == server.incarnation => {
            Said(u64::from(server.backend) | if is_long { Said::IS_LONG } else { 0 })
        }
        _ => otherwise,
    }
}

/// Whether a long header is of a packet that opens a connection: Initial, by the versions' numbers for it (RFC 9000 section 17.2,
/// RFC 9369 section 3.2). Of a version that isn't known any may be.
#[inline(always)]
fn opens(version: u32, first: u8) -> bool {
    const V1: u32 = 1;
    const V2: u32 = 0x6b33_43cf;
    let kind = first >> 4 & 3;
    match version {
        V1 => kind == 0,
        V2 => kind == 1,
        _ => true,
    }
}
