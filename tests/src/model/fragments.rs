//! Fragments: the ports of a datagram are in its first one (docs/dataplane.md, "Fragments").

use super::{
    Model,
    parse::{Packet, Piece},
};
use proxy_common::{
    fragments::{FOLLOWED, FragmentKey, FragmentValue},
    net::Address,
};
use std::time::Duration;

/// How long later fragments follow the first.
pub const VALID: Duration = Duration::from_secs(30);

impl Model {
    /// Whether fragments are followed at all.
    pub(super) fn follows(&self) -> bool {
        self.settings.flags & FOLLOWED != 0
    }

    /// Remembers what the first fragment says, if this is one.
    pub(super) fn remember_ports(&mut self, packet: &Packet, ports: (u16, u16)) {
        let Piece::First(identification) = packet.piece else {
            return;
        };
        let value = FragmentValue {
            source_port: ports.0,
            destination_port: ports.1,
            protocol: packet.protocol.into(),
            stamp: self.now,
        };
        self.fragments.insert(key(packet, identification), value);
    }

    /// Protocol and ports of a later fragment, by its first one.
    pub(super) fn remembered(&self, packet: &Packet, identification: u32) -> Option<(u8, (u16, u16))> {
        let value = self.fragments.get(&key(packet, identification))?;
        let is_valid = Duration::from_nanos(self.now.saturating_sub(value.stamp)) <= VALID;
        is_valid.then_some((value.protocol as u8, (value.source_port, value.destination_port)))
    }
}

fn key(packet: &Packet, identification: u32) -> FragmentKey {
    FragmentKey {
        source: Address::from(packet.source),
        destination: Address::from(packet.destination),
        identification,
        protocol: match packet.source.is_ipv4() {
            true => packet.protocol.into(),
            false => 0,
        },
    }
}
