//! Towards endpoints: verification, names, own certificate, resumption, key exchange.

use super::{
    super::{Shared, client, server, server_name},
    material::{Authority, ecdsa, server_tls, upstream_tls},
    site::{Outcome, Site},
};
use crate::model::l7::{ClientAuthMode, TlsVersion, UpstreamTls, Verify};
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use std::{net::IpAddr, sync::Arc};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;

/// Connects, reads until the server's close, and yields what the server saw; or why the client refused.
fn connect(
    site: &Site,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Outcome, rustls::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(site.address).await.unwrap();
        match TlsConnector::from(config.clone()).connect(name, stream).await {
            Ok(mut stream) => {
                // The server may refuse the client's certificate now.
                let _refused = stream.read_to_end(&mut Vec::new()).await;
                Ok(site.outcome())
            }
            Err(error) => {
                let _refused = site.outcome();
                let inner = error.into_inner().unwrap();
                Err(*inner.downcast::<rustls::Error>().unwrap())
            }
        }
    })
}

fn name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

#[test]
fn verified_by_authority_and_name() {
    let authority = Authority::new("ca");
    let site = Site::new(
        server(
            &server_tls(vec![authority.issue(&["a.example", "127.0.0.1"])]),
            &Shared::default(),
        )
        .unwrap(),
    );
    let trusting = client(&upstream_tls(Verify::Ca(authority.pem.clone())), &[]).unwrap();
    connect(&site, &trusting, name("a.example")).unwrap().unwrap();
    connect(&site, &trusting, name("127.0.0.1")).unwrap().unwrap();
    assert!(matches!(
        connect(&site, &trusting, name("b.example")),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForNameContext { .. }
        ))
    ));
    let other = client(&upstream_tls(Verify::Ca(Authority::new("other").pem)), &[]).unwrap();
    assert!(matches!(
        connect(&site, &other, name("a.example")),
        Err(rustls::Error::InvalidCertificate(_))
    ));
    let off = client(&upstream_tls(Verify::Off), &[]).unwrap();
    connect(&site, &off, name("b.example")).unwrap().unwrap();
}

#[test]
fn hybrid_key_exchange_protocol_and_resumption() {
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    settings.alpn = vec!["http/1.1".into(), "h2".into()];
    let site = Site::new(server(&settings, &Shared::default()).unwrap());
    let config = client(&upstream_tls(Verify::Off), &[b"h2"]).unwrap();
    let first = connect(&site, &config, name("a.example")).unwrap().unwrap();
    assert_eq!(
        first,
        r#"TLSv1_3 Full Some(X25519MLKEM768) alpn=Some("h2") client=None"#
    );
    let second = connect(&site, &config, name("a.example")).unwrap().unwrap();
    assert!(second.starts_with("TLSv1_3 Resumed"), "{second}");
    let another = connect(&site, &config, name("b.example")).unwrap().unwrap();
    assert!(another.starts_with("TLSv1_3 Full"), "{another}");
}

#[test]
fn shows_its_own_certificate() {
    let authority = Authority::new("ca");
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    settings.client_auth = Some(authority.client_auth(ClientAuthMode::Require));
    let site = Site::new(server(&settings, &Shared::default()).unwrap());
    let settings = UpstreamTls {
        certificate: Some(authority.client()),
        min_version: TlsVersion::V1_3,
        ..upstream_tls(Verify::Off)
    };
    let seen = connect(&site, &client(&settings, &[]).unwrap(), name("a.example"))
        .unwrap()
        .unwrap();
    assert!(seen.contains("CN=client"), "{seen}");
}

#[test]
fn the_name_is_the_configured_one_then_the_endpoints_then_the_address() {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let mut settings = upstream_tls(Verify::System);
    assert_eq!(server_name(&settings, None, address), name("192.0.2.1"));
    assert_eq!(
        server_name(&settings, Some("api.example."), address),
        name("api.example")
    );
    settings.server_name = Some("other.example".into());
    assert_eq!(
        server_name(&settings, Some("api.example"), address),
        name("other.example")
    );
}
