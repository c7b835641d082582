//! One probe by HTTP: does the backend answer as it should?

use super::{
    How,
    probe::{Outcome, connect, failure},
};
use crate::{
    l7::{proxy_header, tls},
    model::{
        EndpointId, HttpCheck,
        l7::{ProxyHeader, UpstreamProtocol},
    },
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
    time,
};
use tokio_rustls::TlsConnector;

/// Bytes of a body that are read, so that the backend is the one who closes and keeps the port in TIME_WAIT.
const BODY_BYTES: usize = 64 << 10;

/// All that a probe of one endpoint needs, made once.
pub(super) struct Probe {
    check: HttpCheck,
    authority: Authority,
    http2: bool,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    proxy_protocol: Option<ProxyHeader>,
}

impl Probe {
    /// # Errors
    /// Why this endpoint can't be asked, in a short phrase.
    pub(super) fn new(endpoint: &EndpointId, check: &HttpCheck, how: &How) -> Result<Self, String> {
        let address = endpoint.address.0;
        let host = match (&check.host, &how.name) {
            (Some(host), _) => host.to_string(),
            (None, Some(name)) => format!("{name}:{}", address.port()),
            (None, None) => address.to_string(),
        };
        let authority = Authority::try_from(host).map_err(|error| error.to_string())?;
        let alpn: &[&[u8]] = match how.protocol {
            UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
            UpstreamProtocol::Http1 => &[b"http/1.1"],
            UpstreamProtocol::Http2 => &[b"h2"],
        };
        let tls = match &how.tls {
            None => None,
            Some(settings) => {
                let config = tls::client(settings, alpn).map_err(|mistake| mistake.to_string())?;
                let name = tls::server_name(settings, how.name.as_deref(), address.ip());
                Some((config, name))
            }
        };
        Ok(Self {
            check: check.clone(),
            authority,
            http2: how.protocol == UpstreamProtocol::Http2,
            tls,
            proxy_protocol: how.proxy_protocol,
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, address: SocketAddr, mark: Option<u32>, timeout: Duration) -> Outcome {
        match time::timeout(timeout, self.exchange(address, mark)).await {
            Ok(Ok(status)) if self.passes(status) => Outcome::Passed,
            Ok(Ok(status)) => Outcome::Failed(format!("{address}: answered {}", status.as_u16())),
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::Failed(format!("{address}: no answer within {timeout:?}")),
        }
    }

    fn passes(&self, status: StatusCode) -> bool {
        if self.check.status.is_empty() {
            return status.is_success();
        }
        self.check.status.contains(&status)
    }

    async fn exchange(&self, address: SocketAddr, mark: Option<u32>) -> Result<StatusCode, Outcome> {
        let mut stream = connect(address, mark).await?;
        if let Some(version) = self.proxy_protocol {
            let local = stream.local_addr().map_err(|error| failure(&error, address))?;
            let header = proxy_header::header(version, local, address);
            let written = stream.write_all(&header).await;
            written.map_err(|error| failure(&error, address))?;
        }
        let failed = |error: hyper::Error| Outcome::Failed(format!("{address}: {error}"));
        let Some((config, name)) = &self.tls else {
            return self.ask_over(stream, self.http2, "http").await.map_err(failed);
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), stream).await;
        let stream = stream.map_err(|error| Outcome::Failed(format!("{address}: TLS: {error}")))?;
        let http2 = stream
            .get_ref()
            .1
            .alpn_protocol()
            .map_or(self.http2, |name| name == b"h2");
        self.ask_over(stream, http2, "https").await.map_err(failed)
    }

    async fn ask_over<S>(&self, stream: S, http2: bool, scheme: &str) -> Result<StatusCode, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        // Aborted with this future.
        let mut driver = JoinSet::new();
        let response = if http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            driver.spawn(connection);
            sender.send_request(self.request(Some(scheme))).await?
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            driver.spawn(connection);
            sender.send_request(self.request(None)).await?
        };
        let status = response.status();
        drain(response).await;
        Ok(status)
    }

    /// In HTTP/2 with the authority in the URI, in HTTP/1.1 with it in the Host header.
    fn request(&self, scheme: Option<&str>) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        let path = self.check.path.parse().unwrap_or_else(|_| Uri::from_static("/"));
        let mut parts = path.into_parts();
        let headers = request.headers_mut();
        headers.insert(
            header::USER_AGENT,
            header::HeaderValue::from_static("weir health check"),
        );
        match scheme {
            Some(scheme) => {
                parts.scheme = scheme.parse().ok();
                parts.authority = Some(self.authority.clone());
            }
            None => {
                headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
                if let Ok(host) = header::HeaderValue::from_str(self.authority.as_str()) {
                    headers.insert(header::HOST, host);
                }
            }
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request
    }
}

/// Reads the body as far as that is worth it; the verdict is known already.
async fn drain(response: Response<Incoming>) {
    let _too_long_or_broken = Limited::new(response.into_body(), BODY_BYTES).collect().await;
}
