//! `traceparent` and `tracestate` (W3C Trace Context Level 2).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// Members of a list beyond which it is invalid (3.3.1.1).
const MOST_MEMBERS: usize = 32;

/// The whole trace's id; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// The trace.
    pub trace_id: TraceId,
    /// The span of whoever wrote it; never zero.
    pub span_id: u64,
    /// As written.
    pub flags: u8,
    /// Whether it is of the version that is written here.
    pub is_version_0: bool,
}

impl Context {
    /// Its trace is sampled.
    pub const SAMPLED: u8 = 1;
    /// The trace's id is random in its last 56 bits.
    pub const RANDOM: u8 = 2;

    /// Whether its writer sampled the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Reads a field's value. Of later versions what is known of it (3.2.4).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let version = hexadecimal(&known[..2])?;
        if version == 0xff
            || (version == 0 && !more.is_empty())
            || more.first().is_some_and(|next| *next != b'-')
        {
            return None;
        }
        if [2, 35, 52].iter().any(|dash| known[*dash] != b'-') {
            return None;
        }
        let trace_id = hexadecimal(&known[3..35])?;
        let span_id = hexadecimal(&known[36..52])? as u64;
        let flags = hexadecimal(&known[53..])? as u8;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id: TraceId(trace_id),
            span_id,
            flags,
            is_version_0: version == 0,
        })
    }

    /// As a field's value: one allocation, of its bytes.
    pub fn value(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hexadecimal(&mut text[3..35], self.trace_id.0);
        write_hexadecimal(&mut text[36..52], self.span_id.into());
        write_hexadecimal(
            &mut text[53..],
            (self.flags & (Self::SAMPLED | Self::RANDOM)).into(),
        );
        let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text));
        // Hexadecimal digits and dashes are always a header's value.
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("-"));
        // HPACK keeps it out of its table: a value that never comes again would push out those that do.
        value.set_sensitive(true);
        value
    }
}

/// What these headers say, if it is valid and said once.
pub fn of(headers: &HeaderMap) -> Option<Context> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Context::parse(only.as_bytes()),
        _ => None,
    }
}

/// Whether all `tracestate` fields together are a valid list (3.3.1).
pub(super) fn is_valid_state(headers: &HeaderMap) -> bool {
    let mut keys = [&[] as &[u8]; MOST_MEMBERS];
    let mut count = 0;
    let values = headers.get_all(TRACESTATE).iter();
    for member in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let Some(at) = member.iter().position(|byte| *byte == b'=') else {
            return false;
        };
        let (key, value) = (&member[..at], &member[at + 1..]);
        if count == MOST_MEMBERS || !is_key(key) || !is_value(value) || keys[..count].contains(&key) {
            return false;
        }
        keys[count] = key;
        count += 1;
    }
    true
}

/// All `tracestate` fields as one (3.3.1.3).
pub(super) fn state(headers: &HeaderMap) -> String {
    let values = headers.get_all(TRACESTATE).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

fn is_key(key: &[u8]) -> bool {
    let first = key
        .first()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    first && key.len() <= 256 && key.iter().all(fits)
}

fn is_value(value: &[u8]) -> bool {
    let fits = |byte: &u8| (0x20..=0x7e).contains(byte) && !b",=".contains(byte);
    !value.is_empty() && value.len() <= 256 && value.iter().all(fits)
}

/// Lower case alone (3.2.2.1).
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn write_hexadecimal(text: &mut [u8], mut number: u128) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_what_it_writes() {
        let context = Context::parse(VALID.as_bytes()).unwrap();
        assert_eq!(context.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled() && context.is_version_0);
        assert_eq!(context.value(), VALID);
    }

    /// The cases of the W3C's trace-context test suite (test.py), each by its meaning.
    #[test]
    fn what_is_no_traceparent() {
        for bad in [
            "",
            // Illegal characters and upper case.
            "00-12345678901234567890123456789012-1234567890123456-.0",
            "00-.2345678901234567890123456789012-1234567890123456-01",
            "00-12345678901234567890123456789012-123456789012345.-01",
            ".0-12345678901234567890123456789012-1234567890123456-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            // All zero.
            "00-00000000000000000000000000000000-1234567890123456-01",
            "00-12345678901234567890123456789012-0000000000000000-01",
            // Too long, too short.
            "00-123456789012345678901234567890123-1234567890123456-01",
            "00-1234567890123456789012345678901-1234567890123456-01",
            "00-12345678901234567890123456789012-12345678901234567-01",
            "00-12345678901234567890123456789012-123456789012345-01",
            "00-12345678901234567890123456789012-1234567890123456-001",
            "00-12345678901234567890123456789012-1234567890123456-1",
            "000-12345678901234567890123456789012-1234567890123456-01",
            "0-12345678901234567890123456789012-1234567890123456-01",
            // More than version 00 has, and the version that there will never be.
            "00-12345678901234567890123456789012-1234567890123456-01.",
            "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            "ff-12345678901234567890123456789012-1234567890123456-01",
            "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
            // Other delimiters, spaces.
            "00_12345678901234567890123456789012-1234567890123456-01",
            "00-12345678901234567890123456789012_1234567890123456-01",
            "00-12345678901234567890123456789012-1234567890123456_01",
            " 00-12345678901234567890123456789012-1234567890123456-01",
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn later_versions_and_flags() {
        for (good, flags, is_version_0) in [
            (
                "cc-12345678901234567890123456789012-1234567890123456-01",
                1,
                false,
            ),
            (
                "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future",
                1,
                false,
            ),
            (
                "00-12345678901234567890123456789012-1234567890123456-ff",
                0xff,
                true,
            ),
            ("00-12345678901234567890123456789012-1234567890123456-00", 0, true),
        ] {
            let context = Context::parse(good.as_bytes()).unwrap();
            assert_eq!(
                (context.flags, context.is_version_0),
                (flags, is_version_0),
                "{good}"
            );
            let written = Context::parse(context.value().as_bytes()).unwrap();
            assert_eq!(written.trace_id, context.trace_id);
            assert_eq!(written.flags, flags & 3);
        }
    }

    /// Whatever one byte is changed to, it is read as what is written there or not at all.
    #[test]
    fn any_byte_may_be_wrong() {
        for at in 0..VALID.len() {
            for byte in 0..=255_u8 {
                let mut text = VALID.as_bytes().to_vec();
                text[at] = byte;
                if let Some(context) = Context::parse(&text) {
                    let rewritten = context.value();
                    let same = text[2..53] == rewritten.as_bytes()[2..53];
                    assert!(same && byte.is_ascii_hexdigit() | (byte == b'-'), "{at} {byte}");
                }
            }
            assert_eq!(Context::parse(&VALID.as_bytes()[..at]), None);
        }
    }

    #[test]
    fn states() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACESTATE, value.parse().unwrap());
            }
            headers
        };
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v,")).collect::<String>();
        for good in [
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"] as &[&str],
            &["foo=1", "bar=2"],
            &["foo=1 \t , \t bar=2, \t baz=3", ""],
            &["fw529a3039@dt=FfAy/_*-z,0key=a b"],
            &[&many(32)],
            &[&format!("{}=1", "z".repeat(256))],
            &[&format!("a={}", "v".repeat(256))],
        ] {
            assert!(is_valid_state(&headers(good)), "{good:?}");
        }
        for bad in [
            &["foo=1", "foo=2"] as &[&str],
            &["foo"],
            &["foo="],
            &["=1"],
            &["foo =1"],
            &["FOO=1"],
            &["foo.bar=1"],
            &["@foo=1"],
            &["foo=bar=baz"],
            &["foo=1;bar=2"; 2],
            &[&many(33)],
            &[&format!("{}=1", "z".repeat(257))],
            &[&format!("a={}", "v".repeat(257))],
        ] {
            assert!(!is_valid_state(&headers(bad)), "{bad:?}");
        }
    }
}
