//! The key of a request: a hash of what `hash` in the config names.

use crate::model::l7::Hashing;
use http::{HeaderMap, header::COOKIE};
use proxy_common::{hash::xxh64_16, net::Address};
use std::net::IpAddr;
use xxhash_rust::xxh64::xxh64;

/// Seed of a text's and an address's hash.
const KEY_SEED: u64 = 4;

/// What of a request can be hashed.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// As the client sent them.
    pub headers: &'a HeaderMap,
    /// The client.
    pub source: IpAddr,
    /// Of the URI, without `?`.
    pub query: Option<&'a str>,
}

/// A hash (XXH64) of the first of these that the request has, or none. Headers and cookies with several values count by
/// their first; query parameters are taken as they are, without percent-decoding.
pub fn key(hashing: &[Hashing], facts: &Facts<'_>) -> Option<u64> {
    let text = |bytes: &[u8]| xxh64(bytes, KEY_SEED);
    hashing.iter().find_map(|what| match what {
        Hashing::Header(name) => facts.headers.get(name).map(|value| text(value.as_bytes())),
        Hashing::Cookie(name) => cookies(facts.headers, name).next().map(text),
        Hashing::Source => Some(source(facts.source)),
        Hashing::Query(name) => parameter(facts.query?, name).map(|value| text(value.as_bytes())),
    })
}

/// A client has one key, whether the socket shows it as IPv4 or IPv4-mapped.
fn source(address: IpAddr) -> u64 {
    let bytes = u128::from_be_bytes(Address::from(address).bytes);
    xxh64_16([(bytes >> 64) as u64, bytes as u64], KEY_SEED)
}

/// The values of all cookies of this name (RFC 6265, 5.4), as they are.
pub(super) fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter();
    let pairs = pairs.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value)
    })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}
