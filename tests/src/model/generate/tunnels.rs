//! Packets in tunnels: for VIPs of this host's and others, in headers of every kind.

use super::Generator;
use crate::model::{
    build::{Checksum, Frame},
    parse::{TCP, UDP},
};
use std::net::IpAddr;

impl Generator {
    /// A frame by a tunnel to this host, or to another one.
    pub(super) fn tunnel(&mut self) -> Vec<u8> {
        let inner = self.tunnelled();
        let is_inner_ipv4 = inner.first().is_some_and(|first| first >> 4 == 4);
        let mut content = inner;
        let is_ipv4 = self.random.once_in(2);
        let source = (self.client_address(is_ipv4), self.port());
        let ends = match self.random.below(16) {
            0 => self.pools.strangers.clone(),
            1 => self.pools.tunnel_vips.clone(),
            _ => self.pools.ends.clone(),
        };
        let destination = self.address(&ends, is_ipv4);
        let random = &mut self.random;
        let mut inside: u8 = if is_inner_ipv4 { 4 } else { 41 };
        if random.once_in(24) {
            inside = *random.pick(&[4, 41, 47, 0]);
        }
        let mut protocol = inside;
        if random.once_in(2) {
            protocol = UDP;
            if random.once_in(2) {
                // Variant 0; seldom with the control bit, or as another variant.
                let words = if random.once_in(4) {
                    random.below(32)
                } else {
                    random.below(3)
                };
                let mut first = words as u8;
                if random.once_in(8) {
                    first |= *random.pick(&[0x20, 0x40, 0x80, 0xc0]);
                }
                let mut header = vec![first, inside, 0, 0];
                header.resize(4 + 4 * words, random.bits() as u8);
                content = [header, content].concat();
            }
        }
        let port = if random.once_in(24) {
            6081
        } else {
            self.pools.gue_port
        };
        let mut frame = Frame::plain(source, (destination, port), protocol);
        frame.payload = content;
        frame.checksum = *random.pick(&[Checksum::Zero, Checksum::Right, Checksum::Wrong(7)]);
        frame.ttl = *random.pick(&[64, 64, 64, 1, 0]);
        self.dress_outside(&mut frame);
        if !self.random.once_in(12) {
            frame.options.clear();
            frame.extensions.clear();
            frame.fragment = (false, 0);
        }
        frame.class = frame.class & 0xfc | self.random.below(4) as u8;
        frame.bytes()
    }

    /// The packet inside: IPv4 or IPv6, sometimes none.
    fn tunnelled(&mut self) -> Vec<u8> {
        let is_ipv4 = self.random.once_in(2);
        let source = (self.client_address(is_ipv4), self.port());
        let ((service, port), protocol) = *self.random.pick(&self.pools.services);
        let vips = self.pools.tunnel_vips.clone();
        let destination = match self.random.below(8) {
            0 if service.is_ipv4() == is_ipv4 => service,
            1 => self.client_address(is_ipv4),
            _ => self.address(&vips, is_ipv4),
        };
        let mut frame = self.dressed_frame(source, (destination, port), protocol);
        frame.tags.clear();
        frame.padding = 0;
        if self.random.once_in(2) {
            frame.class = frame.class & 0xfc | self.random.below(4) as u8;
        }
        let mut packet = frame.packet();
        if self.random.once_in(16) {
            let length = self.random.below(packet.len().min(64));
            packet.truncate(length);
        }
        packet
    }

    /// A client's packet to a VIP that tunnels bring packets for, without a tunnel.
    pub(super) fn beside_tunnels(&mut self) -> Vec<u8> {
        let vip: IpAddr = *self.random.pick(&self.pools.tunnel_vips);
        let source = (self.client_address(vip.is_ipv4()), self.port());
        let protocol = *self.random.pick(&[TCP, UDP]);
        let port = *self.random.pick(&[80, self.pools.gue_port]);
        self.dressed(source, (vip, port), protocol)
    }
}
