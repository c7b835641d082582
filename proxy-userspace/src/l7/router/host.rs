//! The host that a request is for, as routes compare it.

use http::{HeaderMap, Uri, header::HOST};
use std::{borrow::Cow, net::Ipv6Addr};

/// Why a request has no usable host; answered with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostMistake {
    /// HTTP/1.0 alone may leave it out (RFC 9112, 3.2).
    #[error("the request names no host")]
    Missing,
    /// RFC 9112, 3.2.
    #[error("the request has several Host headers")]
    Several,
    /// Not a host with or without a port.
    #[error("the request's host is malformed")]
    Malformed,
}

/// The host of a request: of the target's authority, which is HTTP/2's `:authority` and goes before the header
/// (RFC 9112, 3.2.2), else of the Host header.
///
/// # Errors
/// There is none, or more than one, or it is none.
pub fn host_of<'a>(target: &'a Uri, headers: &'a HeaderMap) -> Result<Cow<'a, str>, HostMistake> {
    let authority = match target.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut values = headers.get_all(HOST).iter();
            let value = values.next().ok_or(HostMistake::Missing)?;
            if values.next().is_some() {
                return Err(HostMistake::Several);
            }
            value.to_str().map_err(|_| HostMistake::Malformed)?
        }
    };
    canonical_host(authority).ok_or(HostMistake::Malformed)
}

/// An authority's host in lower case, without port and without the dot at its end; an IPv6 address keeps its brackets.
/// None for what is no host: empty, with user information, empty labels, percent-encoding or bytes that are not a
/// `reg-name`'s (RFC 3986, 3.2.2). Borrowed where it was so already.
pub fn canonical_host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, _) = split(authority)?;
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

/// The port that an authority names.
pub fn port_of(authority: &str) -> Option<u16> {
    split(authority)?.1
}

/// Host, without the dot at its end, and port.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rfind([':', ']']) {
        Some(colon) if authority.as_bytes()[colon] == b':' => {
            let port = &authority[colon + 1..];
            // `u16::from_str` takes a sign. A port may be empty (RFC 3986, 3.2.3).
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let number = if port.is_empty() {
                None
            } else {
                Some(port.parse().ok()?)
            };
            (&authority[..colon], number)
        }
        _ => (authority, None),
    };
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        return address.parse::<Ipv6Addr>().ok().map(|_| (host, port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    is_name(host.as_bytes()).then_some((host, port))
}

fn is_name(host: &[u8]) -> bool {
    let mut previous = b'.';
    for byte in host {
        let is_right = match byte {
            // No empty label, also not at the begin.
            b'.' => previous != b'.',
            b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' => true,
            byte => byte.is_ascii_alphanumeric(),
        };
        if !is_right {
            return false;
        }
        previous = *byte;
    }
    previous != b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_dot_and_case() {
        for (authority, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM:8080", "example.com", Some(8080)),
            ("example.com.", "example.com", None),
            ("example.com.:80", "example.com", Some(80)),
            ("example.com:", "example.com", None),
            ("localhost", "localhost", None),
            ("192.0.2.1:1", "192.0.2.1", Some(1)),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
            ("[::1]", "[::1]", None),
            ("a_b.example", "a_b.example", None),
        ] {
            assert_eq!(canonical_host(authority).as_deref(), Some(host), "{authority}");
            assert_eq!(port_of(authority), port, "{authority}");
        }
        assert!(matches!(canonical_host("a.example:80"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn what_is_no_host() {
        for authority in [
            "",
            ".",
            ":80",
            "a..b",
            ".a",
            "a..",
            "a b",
            "user@host",
            "a/b",
            "a:b",
            "a:+1",
            "a:65536",
            "::1",
            "[::1",
            "[::1]x",
            "[a]",
            "a]:1",
            "ü",
            "a%2eb",
            "a:1:2",
        ] {
            assert_eq!(canonical_host(authority), None, "{authority}");
        }
    }

    #[test]
    fn the_target_goes_before_the_header() {
        let mut headers = HeaderMap::new();
        let relative = Uri::from_static("/a");
        assert_eq!(host_of(&relative, &headers), Err(HostMistake::Missing));
        headers.insert(HOST, http::HeaderValue::from_static("A.example:1"));
        assert_eq!(host_of(&relative, &headers).as_deref(), Ok("a.example"));
        let absolute = Uri::from_static("http://b.example:80/a");
        assert_eq!(host_of(&absolute, &headers).as_deref(), Ok("b.example"));
        headers.append(HOST, http::HeaderValue::from_static("c.example"));
        assert_eq!(host_of(&relative, &headers), Err(HostMistake::Several));
        headers.insert(HOST, http::HeaderValue::from_static("a@b"));
        assert_eq!(host_of(&relative, &headers), Err(HostMistake::Malformed));
    }
}
