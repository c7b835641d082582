//! What a packet says of its flow.

use super::parse::TCP;
use proxy_common::values::seen;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What a packet says of its flow.
#[derive(Clone, Copy)]
pub struct Said {
    /// It opens a connection.
    pub opens: bool,
    fin: bool,
    rst: bool,
}

impl Said {
    /// By the protocol, and TCP's flags.
    pub fn new(protocol: u8, flags: u8) -> Self {
        let tcp = protocol == TCP;
        Self {
            opens: tcp && flags & (SYN | ACK | RST | FIN) == SYN,
            fin: tcp && flags & FIN != 0,
            rst: tcp && flags & RST != 0,
        }
    }

    /// What an entry that it makes has seen: [`seen`].
    pub fn bits(self) -> u32 {
        let mut bits = seen::PACKET;
        if !self.opens {
            bits |= seen::GOING;
        }
        if self.fin {
            bits |= seen::FIN;
        }
        if self.rst {
            bits |= seen::RST;
        }
        bits.into()
    }
}
