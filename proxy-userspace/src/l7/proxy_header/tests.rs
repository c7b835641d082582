//! Headers whole, in pieces and broken, over real sockets; curl as a sender.

use super::{HeaderError, header, parse, read};
use crate::model::l7::ProxyHeader;
use std::{net::SocketAddr, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const LONG: Duration = Duration::from_secs(60);

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().await.unwrap().0)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Headers and what they say.
fn good() -> Vec<(Vec<u8>, Option<(SocketAddr, SocketAddr)>)> {
    let (v4, v6) = (
        (address("192.0.2.1:5678"), address("198.51.100.2:443")),
        (address("[2001:db8::1]:5678"), address("[2001:db8::2]:443")),
    );
    let mut with_tlv = header(ProxyHeader::V2, v4.0, v4.1);
    with_tlv[15] += 5;
    with_tlv.extend_from_slice(&[0x04, 0, 2, 0, 0]); // PP2_TYPE_NOOP
    let binary = |command, family, addresses: &[u8]| {
        let mut bytes = ppp::v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend_from_slice(&[command, family, 0, addresses.len() as u8]);
        bytes.extend_from_slice(addresses);
        bytes
    };
    vec![
        (header(ProxyHeader::V1, v4.0, v4.1), Some(v4)),
        (header(ProxyHeader::V1, v6.0, v6.1), Some(v6)),
        (header(ProxyHeader::V2, v4.0, v4.1), Some(v4)),
        (header(ProxyHeader::V2, v6.0, v6.1), Some(v6)),
        (with_tlv, Some(v4)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
        (binary(0x20, 0x00, &[]), None),      // LOCAL, as health checks send it
        (binary(0x20, 0x11, &[1; 12]), None), // LOCAL with addresses, which don't count
        (binary(0x21, 0x00, &[]), None),      // unspecified
        (binary(0x21, 0x31, &[0; 216]), None), // UNIX sockets
    ]
}

#[test]
fn written_as_the_specification_has_it() {
    let (client, local) = (address("192.0.2.1:5678"), address("198.51.100.2:443"));
    assert_eq!(
        header(ProxyHeader::V1, client, local),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5678 443\r\n"
    );
    assert_eq!(
        header(ProxyHeader::V2, client, local),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x16\x2e\x01\xbb"
    );
    // A client of IPv4 on a socket of IPv6 is one of IPv4; families that differ meet in IPv6.
    let (mapped, v6) = (address("[::ffff:192.0.2.1]:5678"), address("[2001:db8::2]:443"));
    assert_eq!(
        header(ProxyHeader::V1, mapped, local),
        header(ProxyHeader::V1, client, local)
    );
    assert_eq!(
        header(ProxyHeader::V1, client, v6),
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5678 443\r\n"
    );
}

#[test]
fn takes_the_header_and_not_a_byte_more() {
    run(async {
        for (bytes, said) in good() {
            let (mut client, mut server) = connected().await;
            client.write_all(&bytes).await.unwrap();
            client.write_all(b"GET /").await.unwrap();
            assert_eq!(read(&server, LONG).await, Ok(said), "{bytes:?}");
            let mut rest = [0; 5];
            server.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"GET /");
        }
    });
}

#[test]
fn a_header_in_pieces_is_waited_for() {
    run(async {
        for (bytes, said) in good() {
            let (mut client, server) = connected().await;
            let sender = async {
                for byte in &bytes {
                    client.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            assert_eq!(tokio::join!(read(&server, LONG), sender).0, Ok(said), "{bytes:?}");
        }
    });
}

#[test]
fn every_begin_of_a_header_is_incomplete() {
    for (bytes, _) in good() {
        for length in 1..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None, "{:?}", &bytes[..length]);
        }
        assert!(matches!(parse(&bytes), Some(Ok((length, _))) if length == bytes.len()));
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let long = format!("PROXY UNKNOWN {}", "a".repeat(120));
    for (bytes, label) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "missing"),
        (b"\x16\x03\x01\x02\x00", "missing"),
        (b"\r\n\r\nhello, world", "missing"),
        (b"P\xff", "missing"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.300 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.3 1 65536\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.3 1 2 3\r\n", "malformed"),
        (b"PROXY SCTP 192.0.2.1 192.0.2.3 1 2\r\n", "malformed"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "malformed"),
        (long.as_bytes(), "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c", "malformed"), // version 1 in binary
        (b"\r\n\r\n\0\r\nQUIT\n\x2f\x11\0\x0c", "malformed"), // an unknown command
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01", "malformed"), // no room for addresses
    ] {
        let Some(Err(error)) = parse(bytes) else {
            panic!("{bytes:?} is taken");
        };
        assert_eq!(error.label(), label, "{bytes:?}: {error}");
    }
}

#[test]
fn bounded_in_time_and_size() {
    run(async {
        let (client, server) = connected().await;
        assert_eq!(
            read(&server, Duration::from_millis(1)).await,
            Err(HeaderError::Timeout)
        );
        drop(client);
        assert_eq!(read(&server, LONG).await, Err(HeaderError::Closed));

        let (mut client, server) = connected().await;
        client.write_all(b"PROXY TCP4 ").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&server, LONG).await, Err(HeaderError::Closed));

        let (mut client, server) = connected().await;
        client
            .write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff")
            .await
            .unwrap();
        client.write_all(&[0; 8_192]).await.unwrap();
        assert_eq!(read(&server, LONG).await, Err(HeaderError::TooLong));
    });
}

#[test]
fn curl_sends_one() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let mut curl = Command::new("curl")
            .args([
                "--silent",
                "--haproxy-protocol",
                "--noproxy",
                "*",
                &format!("http://{local}/"),
            ])
            .spawn()
            .expect("curl is not installed");
        let (mut stream, peer) = listener.accept().await.unwrap();
        assert_eq!(read(&stream, LONG).await, Ok(Some((peer, local))));
        let mut begin = [0; 6];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"GET / ");
        stream
            .write_all(b"HTTP/1.0 204 No Content\r\n\r\n")
            .await
            .unwrap();
        drop(stream);
        curl.wait().unwrap();
    });
}
