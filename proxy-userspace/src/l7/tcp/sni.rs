//! The server name a client asks for, read from its ClientHello without taking a byte of it (TLS passthrough).

mod hello;

use crate::l7::peek::{Peeked, peek};
use hello::{Hello, parse};
use std::{fmt, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Longest ClientHello looked at: one record's most, and its header. With post-quantum key shares they have 2 KiB.
const MOST: usize = 5 + (16 << 10);

/// Why there is no verdict on a ClientHello.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SniError {
    /// It wasn't whole in time.
    Timeout,
    /// The client closed before it was whole.
    Closed,
    /// The connection failed.
    Io,
}

impl SniError {
    /// A metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for SniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no whole ClientHello in time",
            Self::Closed => "the client closed within its ClientHello",
            Self::Io => "the connection failed within the ClientHello",
        })
    }
}

impl std::error::Error for SniError {}

/// The name in the ClientHello, lower case; none where the client names no server, speaks no TLS, or sends a hello
/// larger than a record. The bytes stay in the socket.
///
/// # Errors
/// Less than a ClientHello within `limit`: the connection is to be closed.
pub async fn read(stream: &TcpStream, limit: Duration) -> Result<Option<Box<str>>, SniError> {
    let judge = |bytes: &[u8]| match parse(bytes) {
        Hello::Incomplete => None,
        Hello::Name(name) => Some(Some(name)),
        Hello::NoName | Hello::NotTls => Some(None),
    };
    let peeked = timeout(limit, peek(stream, MOST, judge))
        .await
        .map_err(|_| SniError::Timeout)?
        .map_err(|_| SniError::Io)?;
    match peeked {
        Peeked::Found(name) => Ok(name),
        Peeked::TooLong => Ok(None),
        Peeked::Closed => Err(SniError::Closed),
    }
}
