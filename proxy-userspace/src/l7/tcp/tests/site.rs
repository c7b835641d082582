//! A client, a proxy between, and an upstream.

use super::super::{Copied, Stream, serve};
use crate::{
    l7::tls::{self, Shared},
    model::l7::{Certificate, PemBytes, Secret, ServerTls, TlsVersion, UpstreamTls, Verify},
};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, LocalSet, spawn_local},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Nothing in a test takes this long.
pub const LONG: Duration = Duration::from_secs(60);

/// Runs it as a worker does.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Two ends of a connection.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let other = listener.accept().await.unwrap().0;
    (one, other)
}

/// Two ends of a connection with TLS.
pub async fn tls_pair() -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>) {
    let (one, other) = pair().await;
    let (client, server) = configs();
    let name = ServerName::try_from("a.example").unwrap();
    let (one, other) = tokio::join!(
        TlsConnector::from(client).connect(name, one),
        TlsAcceptor::from(server).accept(other)
    );
    (one.unwrap(), other.unwrap())
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["a.example".into()]).unwrap();
    let pem = |text: String| PemBytes {
        path: None,
        bytes: text.into_bytes().into(),
    };
    let settings = ServerTls {
        certificates: vec![Certificate {
            chain: pem(made.cert.pem()),
            key: Secret(pem(made.signing_key.serialize_pem())),
        }],
        alpn: Vec::new(),
        min_version: TlsVersion::V1_2,
        client_auth: None,
        handshake_timeout: LONG,
    };
    let upstream = UpstreamTls {
        verify: Verify::Off,
        server_name: None,
        certificate: None,
        min_version: TlsVersion::V1_2,
    };
    let server = tls::server(&settings, &Shared::default()).unwrap();
    (tls::client(&upstream, &[]).unwrap(), server)
}

/// Proxies between these two on a task of its own.
pub fn proxy<S: Stream + 'static, U: Stream + 'static>(client: S, upstream: U) -> JoinHandle<Copied> {
    spawn_local(serve(client, upstream, LONG))
}
