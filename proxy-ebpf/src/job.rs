//! A packet on its way to a backend, and what was found out about it.

use crate::{encap::Macs, quic::Said, tracked, words::KeyWords};
use proxy_common::values::{BackendValue, ServiceValue};

/// A client's packet to a service without NAT.
pub struct Job {
    /// 5-tuple.
    pub key: KeyWords,
    /// Bytes of the IP packet.
    pub length: u32,
    /// IPv4 rather than IPv6.
    pub is_ipv4: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN: TOS or traffic class.
    pub class: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Whether the packet opens a flow.
    pub opens: bool,
    /// Whether it is only about a flow, an ICMP error: it goes where the flow's packets go, and leaves no trace of its own.
    pub is_about: bool,
    /// Found on the way: index of the backend; before that, of the one that a connection ID names, or else [`NO_BACKEND`].
    pub index: u32,
    /// The low half of the hash that chose it.
    pub hash: u32,
    /// The backend.
    pub backend: &'static BackendValue,
    /// MAC addresses that the frame is to get.
    pub macs: Macs,
    /// The largest packet that gets there.
    pub mtu: u32,
}

impl Job {
    /// Goes by what a datagram's connection ID says.
    #[inline(always)]
    pub fn heed(&mut self, service: &ServiceValue, said: Said) {
        self.index = said.backend();
        if said.opens() {
            self.opens = true;
        }
        if said.is_handshake() {
            tracked::note_handshake(self, service);
        }
    }
}
