//! The cluster by server name: peeked at, passed on untouched.

use super::{
    super::{choose, sni},
    site::{LONG, pair, run},
};
use crate::model::{
    ClusterName,
    l7::{HostMatch, SniRoute, TcpSettings},
};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn settings(default: Option<&str>) -> TcpSettings {
    let route = |hosts: Vec<HostMatch>, cluster: &str| SniRoute {
        hosts,
        cluster: ClusterName(cluster.into()),
    };
    TcpSettings {
        sni: vec![
            route(vec![HostMatch::Exact("www.example.com".into())], "www"),
            route(
                vec![
                    HostMatch::Suffix(".example.com".into()),
                    HostMatch::Exact("other.example".into()),
                ],
                "any",
            ),
        ],
        cluster: default.map(|name| ClusterName(name.into())),
        idle_timeout: LONG,
    }
}

#[test]
fn the_first_route_with_the_name() {
    let settings = settings(Some("rest"));
    let chosen = |name| choose(&settings, name).map(|cluster| &*cluster.0);
    for (name, cluster) in [
        (Some("www.example.com"), "www"),
        (Some("WWW.Example.com"), "www"),
        (Some("a.example.com"), "any"),
        (Some("a.b.EXAMPLE.com"), "any"),
        (Some("other.example"), "any"),
        (Some("example.com"), "rest"),
        (Some(".example.com"), "rest"),
        (Some("wwwexample.com"), "rest"),
        (None, "rest"),
    ] {
        assert_eq!(chosen(name), Some(cluster), "{name:?}");
    }
    assert_eq!(choose(&super::routes::settings(None), Some("b.example")), None);
}

#[test]
fn openssls_hello_is_read_and_stays() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-servername", "WWW.example.com"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is not installed");
        let (mut stream, _) = listener.accept().await.unwrap();
        let name = sni::read(&stream, LONG).await.unwrap();
        assert_eq!(name.as_deref(), Some("www.example.com"));
        let mut begin = [0; 3];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(begin, [22, 3, 1]);
        drop(stream);
        openssl.wait().unwrap();
    });
}

#[test]
fn a_hello_in_pieces_is_waited_for() {
    /// A ClientHello for a.example, by RFC 8446 and RFC 6066.
    const HELLO: &[u8] = b"\x16\x03\x01\0\x41\x01\0\0\x3d\x03\x03\
        ................................\0\0\x02\x13\x01\x01\0\0\x12\0\0\0\x0e\0\x0c\0\0\x09a.example";
    run(async {
        let (mut client, server) = pair().await;
        client.set_nodelay(true).unwrap();
        let sender = async {
            for byte in HELLO {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (name, ()) = tokio::join!(sni::read(&server, LONG), sender);
        assert_eq!(name.unwrap().as_deref(), Some("a.example"));
    });
}

#[test]
fn what_is_not_tls_has_no_name() {
    run(async {
        let (mut client, mut server) = pair().await;
        client.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        assert_eq!(sni::read(&server, LONG).await, Ok(None));
        let mut rest = [0; 11];
        server.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"SSH-2.0-x\r\n");
    });
}

#[test]
fn bounded_in_time_and_size() {
    run(async {
        let (mut client, server) = pair().await;
        client.write_all(b"\x16\x03").await.unwrap();
        assert_eq!(
            sni::read(&server, Duration::from_millis(1)).await,
            Err(sni::SniError::Timeout)
        );
        client.shutdown().await.unwrap();
        assert_eq!(sni::read(&server, LONG).await, Err(sni::SniError::Closed));

        let (mut client, server) = pair().await;
        // A ClientHello of 16 MiB, begun.
        client
            .write_all(b"\x16\x03\x01\x40\0\x01\xff\xff\xff")
            .await
            .unwrap();
        client.write_all(&[0; 16 << 10]).await.unwrap();
        assert_eq!(sni::read(&server, LONG).await, Ok(None));
    });
}
