//! QUIC connection IDs that name an endpoint: draft-ietf-quic-load-balancers-21, plaintext.

use proxy_common::quic::SERVER_ID_BYTES;
use std::{fmt, str::FromStr};

/// Connection IDs that name an endpoint by its [`ServerId`]: draft-ietf-quic-load-balancers-21, plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quic {
    /// The three high bits of such an ID's first octet, 0 to 6.
    pub config_id: u8,
    /// Bytes of a server ID, 1 to 15.
    pub server_id_length: u8,
}

impl fmt::Display for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config ID {}, server IDs of {} bytes",
            self.config_id, self.server_id_length
        )
    }
}

/// What names an endpoint in the QUIC connection IDs that it gives out: 1 to 15 bytes, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServerId {
    length: u8,
    bytes: [u8; 16],
}

impl ServerId {
    /// From its bytes; none if there are no or too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > SERVER_ID_BYTES {
            return None;
        }
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        Some(Self {
            length: bytes.len() as u8,
            bytes: padded,
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The same, and zeros behind them.
    pub fn padded(&self) -> [u8; 16] {
        self.bytes
    }
}

impl FromStr for ServerId {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        Self::new(&bytes(text).ok_or(NotHexadecimal)?).ok_or(NotHexadecimal)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A destination connection ID as a client's packet has it: 1 to 20 bytes (RFC 9000 section 17.2), written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionId {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl ConnectionId {
    const MOST: usize = 20;

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The server ID in it, if it is one that a service reads.
    pub fn server_id(&self, quic: Quic) -> Option<ServerId> {
        let [first, rest @ ..] = self.bytes() else {
            return None;
        };
        if first >> 5 != quic.config_id {
            return None;
        }
        ServerId::new(rest.get(..usize::from(quic.server_id_length))?)
    }
}

impl FromStr for ConnectionId {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        let typed = bytes(text).ok_or(NotHexadecimal)?;
        if typed.is_empty() || typed.len() > Self::MOST {
            return Err(NotHexadecimal);
        }
        let mut bytes = [0; Self::MOST];
        bytes[..typed.len()].copy_from_slice(&typed);
        Ok(Self {
            length: typed.len() as u8,
            bytes,
        })
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not two digits a byte, or too few or many of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not bytes in hexadecimal, two digits each, or too many of them")]
pub struct NotHexadecimal;

/// Pairs of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| Some(digit.to_digit(16)? as u8))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_holds_a_server_id() {
        let quic = Quic {
            config_id: 2,
            server_id_length: 2,
        };
        let cases = [
            ("4a0a0199887766", Some("0a01")),
            ("5F0a01", Some("0a01")),
            ("4a0a", None),
            ("6a0a0199887766", None),
            ("ff", None),
        ];
        for (text, expected) in cases {
            let id: ConnectionId = text.parse().unwrap();
            let found = id.server_id(quic).map(|id| id.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
            assert_eq!(id.to_string(), text.to_lowercase());
        }
        for text in ["", "0", "0a0", "0g", "+a", " 0a", &"00".repeat(21)] {
            assert!(text.parse::<ConnectionId>().is_err(), "{text:?}");
        }
        assert!("00".repeat(16).parse::<ServerId>().is_err());
    }
}
