//! Header fields that belong to one connection, or speak of it: hop-by-hop, X-Forwarded-*, Forwarded, Via.

use super::fields::Fields;
use crate::model::l7::{ForwardedSettings, HeaderOps};
use bytes::{BufMut, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};
use std::{fmt::Write, net::SocketAddr};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Removes what belongs to the connection it came by (RFC 9110, 7.6.1, and what older software sends), the fields named in
/// Connection too. `TE: trailers` stays: it says that trailers are understood, and gRPC asks for it. `fields`: what there is.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, fields: Fields) {
    if !fields.has(Fields::HOP_BY_HOP) {
        return;
    }
    if fields.has(Fields::CONNECTION) {
        remove_named(headers);
        headers.remove(header::CONNECTION);
    }
    if fields.has(Fields::TE) {
        keep_trailers(headers);
    }
    for (field, name) in [
        (Fields::TRANSFER_ENCODING, header::TRANSFER_ENCODING),
        (Fields::UPGRADE, header::UPGRADE),
        (Fields::KEEP_ALIVE, KEEP_ALIVE),
        (Fields::PROXY_CONNECTION, PROXY_CONNECTION),
    ] {
        if fields.has(field) {
            headers.remove(name);
        }
    }
}

fn remove_named(headers: &mut HeaderMap) {
    // The usual values name nothing.
    let mut values = headers.get_all(header::CONNECTION).iter();
    if let (Some(only), None) = (values.next(), values.next())
        && (only.as_bytes().eq_ignore_ascii_case(b"keep-alive")
            || only.as_bytes().eq_ignore_ascii_case(b"close"))
    {
        return;
    }
    let named: Vec<HeaderName> = (headers.get_all(header::CONNECTION).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::TE && *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(HTTP2_SETTINGS);
}

fn keep_trailers(headers: &mut HeaderMap) {
    if let Entry::Occupied(te) = headers.entry(header::TE) {
        let mut tokens = te.iter().filter_map(|value| value.to_str().ok());
        let trailers = tokens.any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("trailers"))
        });
        te.remove_entry_mult();
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Whether Connection names this token.
pub fn connection_has(headers: &HeaderMap, token: &str) -> bool {
    (headers.get_all(header::CONNECTION).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|each| each.trim().eq_ignore_ascii_case(token))
}

/// What is known of a client's connection.
pub struct Client<'a> {
    /// Its address, from the PROXY protocol where there is one.
    pub address: SocketAddr,
    /// Its address without the port, as X-Forwarded-For tells it.
    pub address_text: &'a HeaderValue,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// The request's host as it was sent.
    pub host: Option<&'a HeaderValue>,
    /// Its certificate, as x-forwarded-client-cert tells it.
    pub certificate: Option<&'a str>,
}

/// The client's address for logs and hashing: the trusted hop farthest from us, or the connection's.
pub fn client_address(headers: &HeaderMap, settings: &ForwardedSettings, peer: SocketAddr) -> SocketAddr {
    if settings.trusted_hops == 0 {
        return peer;
    }
    let hops: Vec<&str> = (headers.get_all(X_FORWARDED_FOR).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let trusted = usize::from(settings.trusted_hops);
    let index = hops.len().saturating_sub(trusted);
    match hops.get(index).and_then(|hop| hop.parse().ok()) {
        Some(address) => SocketAddr::new(address, 0),
        None => peer,
    }
}

/// Writes what the settings say about the client's connection into the request. `fields`: what there was.
pub fn forward(headers: &mut HeaderMap, settings: &ForwardedSettings, client: &Client<'_>, fields: Fields) {
    let trusted = settings.trusted_hops > 0;
    let scheme = if client.secure { "https" } else { "http" };
    if settings.x_forwarded {
        match trusted.then(|| joined(headers, &X_FORWARDED_FOR)).flatten() {
            Some(before) => {
                let text = format!("{before}, {}", client.address.ip());
                set(headers, X_FORWARDED_FOR, text);
            }
            None => {
                headers.insert(X_FORWARDED_FOR, client.address_text.clone());
            }
        }
        if !(trusted && headers.contains_key(X_FORWARDED_PROTO)) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
        if !(trusted && headers.contains_key(X_FORWARDED_HOST))
            && let Some(host) = client.host
        {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }
    if settings.forwarded {
        forwarded(headers, trusted, scheme, client);
    } else if !trusted && fields.has(Fields::FORWARDED) {
        headers.remove(header::FORWARDED);
    }
    if settings.request_id && !(trusted && headers.contains_key(X_REQUEST_ID)) {
        headers.insert(X_REQUEST_ID, request_id());
    }
    match client.certificate {
        Some(certificate) if settings.client_certificate => set(headers, XFCC, certificate.to_owned()),
        _ if !trusted && fields.has(Fields::CLIENT_CERTIFICATE) => {
            headers.remove(XFCC);
        }
        _ => {}
    }
}

/// RFC 7239.
fn forwarded(headers: &mut HeaderMap, trusted: bool, scheme: &str, client: &Client<'_>) {
    let node = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("\"[{}]\"", address.ip()),
    };
    let mut text = trusted
        .then(|| joined(headers, &header::FORWARDED))
        .flatten()
        .map_or_else(String::new, |before| before + ", ");
    let _ = write!(text, "for={};proto={scheme}", node(client.address));
    if let Some(host) = client.host.and_then(|host| host.to_str().ok()) {
        let _ = write!(text, ";host=\"{}\"", host.replace(['"', '\\'], ""));
    }
    set(headers, header::FORWARDED, text);
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut text = values.next()?.to_owned();
    for value in values {
        text.push_str(", ");
        text.push_str(value);
    }
    Some(text)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// A random UUID (RFC 9562, version 4).
fn request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u128(..);
    let bytes = ((random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)).to_be_bytes();
    let mut text = BytesMut::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.put_u8(b'-');
        }
        text.put_u8(HEX[usize::from(byte >> 4)]);
        text.put_u8(HEX[usize::from(byte & 0xf)]);
    }
    // Hexadecimal digits and dashes are always a header's value.
    let value = HeaderValue::from_maybe_shared(text.freeze());
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("-"));
    // HPACK keeps it out of its table: a value that never comes again would push out those that do.
    value.set_sensitive(true);
    value
}

/// Adds this proxy to Via (RFC 9110, 7.6.3).
pub fn via(headers: &mut HeaderMap, version: http::Version, name: &str) {
    let version = if version == http::Version::HTTP_2 {
        "2"
    } else {
        "1.1"
    };
    if let Ok(value) = HeaderValue::try_from(format!("{version} {name}")) {
        headers.append(header::VIA, value);
    }
}

/// Removes, sets, adds.
pub fn apply(headers: &mut HeaderMap, ops: &HeaderOps) {
    for name in &ops.remove {
        headers.remove(name);
    }
    for (name, value) in &ops.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &ops.add {
        headers.append(name.clone(), value.clone());
    }
}

/// HTTP/2 may split a Cookie; HTTP/1.1 must not see it split (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(_)) = (values.next(), values.next()) else {
        return;
    };
    let mut all = first.as_bytes().to_vec();
    for value in headers.get_all(header::COOKIE).iter().skip(1) {
        all.extend_from_slice(b"; ");
        all.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hop_by_hop_fields_go_with_those_that_connection_names() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "te, host"),
            ("x-secret", "1"),
            ("host", "a.example"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("accept", "*/*"),
        ]);
        let fields = Fields::of(&headers);
        remove_hop_by_hop(&mut headers, fields);
        let expected = map(&[("host", "a.example"), ("accept", "*/*"), ("te", "trailers")]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn te_without_trailers_goes() {
        let mut headers = map(&[("te", "gzip")]);
        let fields = Fields::of(&headers);
        remove_hop_by_hop(&mut headers, fields);
        assert!(headers.is_empty());
    }

    #[test]
    fn request_ids_are_version_4() {
        let id = request_id();
        let text = id.to_str().unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(request_id(), id);
    }

    #[test]
    fn the_trusted_hop_names_the_client() {
        let peer: SocketAddr = "192.0.2.1:99".parse().unwrap();
        let headers = map(&[
            ("x-forwarded-for", "198.51.100.7, 198.51.100.8"),
            ("x-forwarded-for", "198.51.100.9"),
        ]);
        let trusting = |trusted_hops| ForwardedSettings {
            trusted_hops,
            ..Default::default()
        };
        let client = |hops| client_address(&headers, &trusting(hops), peer).ip().to_string();
        assert_eq!(client(0), "192.0.2.1");
        assert_eq!(client(1), "198.51.100.9");
        assert_eq!(client(2), "198.51.100.8");
        assert_eq!(client(9), "198.51.100.7");
    }

    #[test]
    fn what_an_untrusted_client_says_of_others_is_replaced() {
        let mut headers = map(&[
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
        ]);
        let host = HeaderValue::from_static("a.example");
        let client = Client {
            address: "192.0.2.1:99".parse().unwrap(),
            address_text: &HeaderValue::from_static("192.0.2.1"),
            secure: true,
            host: Some(&host),
            certificate: None,
        };
        let fields = Fields::of(&headers);
        forward(&mut headers, &ForwardedSettings::default(), &client, fields);
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.1");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "a.example");
        assert!(!headers.contains_key(header::FORWARDED));
    }

    #[test]
    fn cookies_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }
}
