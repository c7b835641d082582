//! ClientHellos of rustls, whole, cut, in several records, and broken.

use super::{Hello, parse};
use rustls::{ClientConfig, ClientConnection, crypto::aws_lc_rs, pki_types::ServerName};
use std::sync::Arc;

/// A ClientHello as rustls writes it, in records of at most this size.
fn hello(name: &'static str, fragment: Option<usize>) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.max_fragment_size = fragment;
    let name = ServerName::try_from(name).unwrap();
    let mut connection = ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn name(name: &str) -> Hello {
    Hello::Name(name.into())
}

#[test]
fn with_and_without_a_name() {
    assert_eq!(parse(&hello("www.example.com", None)), name("www.example.com"));
    assert_eq!(parse(&hello("192.0.2.1", None)), Hello::NoName);
}

#[test]
fn in_several_records() {
    for size in [32, 64, 200] {
        let bytes = hello("www.example.com", Some(size));
        assert_eq!(parse(&bytes), name("www.example.com"), "{size}");
    }
}

#[test]
fn every_begin_is_incomplete_and_what_follows_does_not_matter() {
    for fragment in [None, Some(100)] {
        let mut bytes = hello("www.example.com", fragment);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Hello::Incomplete, "{length}");
        }
        bytes.extend_from_slice(b"\x14\x03\x03\0\x01\x01 and anything");
        assert_eq!(parse(&bytes), name("www.example.com"));
    }
}

#[test]
fn what_is_no_hello() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x15\x03\x01\0\x02\x02\x28",
        b"\x16\x02\x01\0\x02\x02\x28",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x04\x02\0\0\0",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\x03",
    ] {
        assert_eq!(parse(bytes), Hello::NotTls, "{bytes:?}");
    }
}

#[test]
fn names_that_can_not_be() {
    let good = hello("www.example.com", None);
    let at = good
        .windows(15)
        .position(|window| window == b"www.example.com")
        .unwrap();
    for (replaced, expected) in [
        (b"WWW.Example.COM", name("www.example.com")),
        (b"www.example.co.", name("www.example.co")),
        (b"www/example/com", Hello::NoName),
        (b"www.example.c\0m", Hello::NoName),
        (b"www.example.c\xc3m", Hello::NoName),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 15].copy_from_slice(replaced);
        assert_eq!(parse(&bytes), expected);
    }
}

#[test]
fn no_bytes_make_it_fail() {
    let good = hello("www.example.com", Some(100));
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200_000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        // Any answer will do; a panic won't.
        parse(&bytes);
    }
}
