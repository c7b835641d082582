//! A bounded ClientHello parser: record and handshake layers (RFC 8446, 4.1.2 and 5.1), the extension server_name (RFC 6066).

use std::borrow::Cow;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// A record's payload (RFC 8446, 5.1).
const RECORD_MOST: usize = 16 << 10;

/// What some first bytes say.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Hello {
    /// Too few to say.
    Incomplete,
    /// A ClientHello for this server, lower case.
    Name(Box<str>),
    /// A ClientHello without a name.
    NoName,
    /// No ClientHello.
    NotTls,
}

/// Reads a connection's first bytes.
pub(super) fn parse(bytes: &[u8]) -> Hello {
    let Some(records) = handshake(bytes) else {
        return Hello::NotTls;
    };
    let [kind, length @ ..] = match records.first_chunk::<HANDSHAKE_HEADER>() {
        Some(header) => *header,
        None if records.first().is_some_and(|kind| *kind != CLIENT_HELLO) => return Hello::NotTls,
        None => return Hello::Incomplete,
    };
    if kind != CLIENT_HELLO {
        return Hello::NotTls;
    }
    let length = length
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    match records[HANDSHAKE_HEADER..].get(..length) {
        Some(body) => match server_name(&mut Cursor(body)) {
            Ok(Some(name)) => Hello::Name(name),
            Ok(None) => Hello::NoName,
            Err(Short) => Hello::NotTls,
        },
        None => Hello::Incomplete,
    }
}

/// The payload of handshake records so far, put together where there are several; none where it is no such record.
fn handshake(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut payload = Cow::Borrowed(&[][..]);
    let mut rest = bytes;
    while let Some(kind) = rest.first() {
        // The version was fixed as 3.1 or 3.3; older clients that still matter agree in its first byte.
        if *kind != RECORD_HANDSHAKE || rest.get(1).is_some_and(|major| *major != 3) {
            return None;
        }
        let Some(header) = rest.first_chunk::<RECORD_HEADER>() else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_MOST {
            return None;
        }
        let behind = &rest[RECORD_HEADER..];
        let (record, next) = behind.split_at(length.min(behind.len()));
        if payload.is_empty() {
            payload = Cow::Borrowed(record);
        } else {
            payload.to_mut().extend_from_slice(record);
        }
        if whole(&payload) {
            break;
        }
        rest = next;
    }
    Some(payload)
}

/// Whether the first handshake message is whole, or no ClientHello: what follows it may be anything.
fn whole(payload: &[u8]) -> bool {
    match payload {
        [CLIENT_HELLO, length @ ..] => length.first_chunk::<3>().is_some_and(|[a, b, c]| {
            payload.len() >= HANDSHAKE_HEADER + u32::from_be_bytes([0, *a, *b, *c]) as usize
        }),
        [] => false,
        _ => true,
    }
}

/// Fewer bytes than a length said.
struct Short;

/// Reads from the front; what follows is left for the next call.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Short> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16, Short> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What is behind a length of one byte.
    fn behind_byte(&mut self) -> Result<Self, Short> {
        let length = self.byte()?;
        self.take(length.into()).map(Self)
    }

    /// What is behind a length of two bytes.
    fn behind_short(&mut self) -> Result<Self, Short> {
        let length = self.short()?;
        self.take(length.into()).map(Self)
    }
}

/// The host name in a ClientHello's body.
fn server_name(body: &mut Cursor<'_>) -> Result<Option<Box<str>>, Short> {
    /// Version and random.
    const FIXED: usize = 2 + 32;
    body.take(FIXED)?;
    body.behind_byte()?; // session id
    body.behind_short()?; // cipher suites
    body.behind_byte()?; // compression methods
    if body.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = body.behind_short()?;
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let mut extension = extensions.behind_short()?;
        if kind == SERVER_NAME {
            let mut names = extension.behind_short()?;
            while !names.0.is_empty() {
                let kind = names.byte()?;
                let name = names.behind_short()?.0;
                if kind == HOST_NAME {
                    return Ok(host(name));
                }
            }
            return Ok(None);
        }
    }
    Ok(None)
}

/// The name in lower case, without the root's dot; none where it can't be a DNS name.
fn host(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if name.is_empty() || name.len() > 253 || !name.iter().all(allowed) {
        return None;
    }
    Some(str::from_utf8(name).ok()?.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests;
