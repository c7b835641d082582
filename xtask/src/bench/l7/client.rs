//! What our own generators share: HTTP/1.1 exchanges, and TLS that proves nothing and so costs little.

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{pin::Pin, sync::Arc, task::Poll};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A request without a body.
pub fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// Sends a request and reads the response, which has a Content-Length; `bytes` is room to use again.
///
/// # Errors
/// When the response isn't 200, or the connection ends.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    bytes: &mut Vec<u8>,
) -> Result<()> {
    bytes.clear();
    stream.write_all(request).await?;
    stream.flush().await?;
    loop {
        let count = stream.read_buf(bytes).await?;
        ensure!(count > 0, "the connection was closed");
        if is_whole(bytes)? {
            return Ok(());
        }
    }
}

/// Whether these bytes are a whole response.
///
/// # Errors
/// When it isn't 200, or longer than it says.
pub fn is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = (str::from_utf8(&bytes[..head])?, bytes.len() - head - 4);
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "not what was asked for:\n{head}"
    );
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length: usize = length.context("no Content-Length")?.trim().parse()?;
    ensure!(body <= length, "more than was asked for");
    Ok(body == length)
}

/// Runs futures at the same time until all are done.
///
/// # Errors
/// The first that fails ends it.
pub async fn all<F: Future<Output = Result<()>>>(futures: impl Iterator<Item = F>) -> Result<()> {
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut index = 0;
        while index < running.len() {
            match running[index].as_mut().poll(context) {
                Poll::Ready(Ok(())) => drop(running.swap_remove(index)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => index += 1,
            }
        }
        if running.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// TLS 1.3 with X25519 and AES-128-GCM, which all proxies have, without resumption.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// With its own configuration.
    ///
    /// # Errors
    /// When rustls refuses it.
    pub fn new() -> Result<Self> {
        let provider = CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// When the other side doesn't.
    pub async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(super::credentials::NAME)?;
        Ok(self.0.connect(name, stream).await?)
    }
}

/// Believes every certificate and signature: a generator that checked them would use more CPU time than the proxy.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
