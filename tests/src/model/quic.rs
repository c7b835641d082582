//! QUIC connection IDs that name a backend (docs/dataplane.md, "QUIC connection IDs").

use super::{
    Model,
    parse::{Packet, Piece, UDP},
};
use proxy_common::values::{ServiceValue, backend_flags};
use std::collections::HashMap;

/// How a service's connection IDs are read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// The three high bits of an ID's first byte.
    pub config_id: u8,
    /// Bytes of a server ID.
    pub length: usize,
    /// Index and incarnation of the backend that each server ID names.
    pub servers: HashMap<Vec<u8>, (u32, u32)>,
}

/// What a datagram says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Heard {
    /// Index of the backend that it names.
    pub backend: Option<u32>,
    /// It opens a connection.
    pub opens: bool,
    /// It belongs to the handshake with that backend.
    pub is_handshake: bool,
}

impl Model {
    /// What a client's packet to a service says.
    pub(super) fn hear(&self, service: &ServiceValue, frame: &[u8], packet: &Packet) -> Heard {
        let nothing = Heard::default();
        let Some(rules) = self.quic.get(&service.index) else {
            return nothing;
        };
        if packet.protocol != UDP || matches!(packet.piece, Piece::Later(_)) {
            return nothing;
        }
        let payload = frame.get(packet.transport + 8..packet.end).unwrap_or_default();
        if payload.len() < 8 {
            return nothing;
        }
        let is_long = payload[0] >= 0x80;
        let (id, length) = if is_long {
            (&payload[6..], usize::from(payload[5]))
        } else {
            (&payload[1..], usize::MAX)
        };
        if let Some(backend) = self.named(rules, id, length) {
            return Heard {
                backend: Some(backend),
                opens: false,
                is_handshake: is_long,
            };
        }
        let kind = payload[0] >> 4 & 3;
        let is_initial = match payload[1..5] {
            [0, 0, 0, 1] => kind == 0,
            [0x6b, 0x33, 0x43, 0xcf] => kind == 1,
            _ => true,
        };
        Heard {
            backend: None,
            opens: is_long && is_initial,
            is_handshake: false,
        }
    }

    fn named(&self, rules: &Rules, id: &[u8], length: usize) -> Option<u32> {
        let server_id = id.get(1..=rules.length)?;
        if length <= rules.length || id[0] >> 5 != rules.config_id {
            return None;
        }
        let (index, incarnation) = *rules.servers.get(server_id)?;
        let backend = self.backends.get(&index)?;
        (backend.incarnation == incarnation && backend.flags & backend_flags::DEAD == 0).then_some(index)
    }
}
