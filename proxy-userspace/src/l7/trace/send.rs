//! One request to the collector, over HTTP/1.1 or as gRPC, on the connection of the one before where that is still open.

use super::tracer::Tracing;
use crate::{
    l7::tls,
    model::{Collector, OtlpProtocol},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Most bytes of an answer that are read: it holds a number and a line of text.
const ANSWER_BYTES: usize = 64 << 10;

/// Longest that a collector's wish to wait is followed.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// gRPC's length prefix: uncompressed, and four bytes of length.
const PREFIX_BYTES: usize = 5;

/// What became of a request.
pub(super) enum Outcome {
    /// The collector has the spans, but for so many that it refused.
    Taken(u64),
    /// It may take them later, after this time if it said so.
    Later(Option<Duration>, String),
    /// It never will.
    Refused(String),
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// A connection to the collector, opened when it is needed.
pub(super) struct Connection {
    tracing: Arc<Tracing>,
    sender: Option<Sender>,
}

impl Connection {
    pub(super) fn new(tracing: Arc<Tracing>) -> Self {
        Self {
            tracing,
            sender: None,
        }
    }

    /// Whom it is to.
    pub(super) fn tracing(&self) -> &Arc<Tracing> {
        &self.tracing
    }

    /// Sends this message, once.
    pub(super) async fn send(&mut self, message: &Bytes) -> Outcome {
        let limit = self.tracing.settings.collector.timeout;
        let outcome = match timeout(limit, self.try_send(message)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Later(None, error),
            Err(_) => Outcome::Later(None, format!("no answer within {limit:?}")),
        };
        if !matches!(outcome, Outcome::Taken(_)) {
            // A broken one may look open; a new one goes to where the name points now.
            self.sender = None;
        }
        outcome
    }

    async fn try_send(&mut self, message: &Bytes) -> Result<Outcome, String> {
        let collector = &self.tracing.settings.collector;
        let request = request(collector, message)?;
        let is_open = match &self.sender {
            None => false,
            Some(Sender::H1(sender)) => !sender.is_closed(),
            Some(Sender::H2(sender)) => !sender.is_closed(),
        };
        if !is_open {
            self.sender = Some(open(&self.tracing).await?);
        }
        let response = match &mut self.sender {
            Some(Sender::H1(sender)) => {
                sender.ready().await.map_err(said)?;
                sender.send_request(request).await
            }
            Some(Sender::H2(sender)) => sender.send_request(request).await,
            None => return Err("no connection".into()),
        };
        answer(collector.protocol, response.map_err(said)?).await
    }
}

fn said(error: hyper::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn request(collector: &Collector, message: &Bytes) -> Result<Request<Full<Bytes>>, String> {
    let is_grpc = collector.protocol == OtlpProtocol::Grpc;
    let scheme = if collector.tls.is_some() { "https" } else { "http" };
    let uri = if is_grpc {
        let uri = Uri::builder().scheme(scheme).authority(&*collector.authority);
        uri.path_and_query(&*collector.path).build()
    } else {
        Uri::builder().path_and_query(&*collector.path).build()
    };
    let mut headers = HeaderMap::new();
    if is_grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        let host = HeaderValue::from_str(&collector.authority).map_err(|error| error.to_string())?;
        headers.insert(header::HOST, host);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
    }
    let agent = concat!("OTel-OTLP-Exporter-Weir/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.extend(collector.headers.iter().cloned());
    let body = if is_grpc {
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
        framed.put_slice(message);
        framed.freeze()
    } else {
        message.clone()
    };
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn open(tracing: &Tracing) -> Result<Sender, String> {
    let collector = &tracing.settings.collector;
    let failed = |error: io::Error| format!("connecting: {error}");
    let stream = TcpStream::connect((&*collector.host, collector.port))
        .await
        .map_err(failed)?;
    let _not_vital = stream.set_nodelay(true);
    let (Some(config), Some(settings)) = (&tracing.tls, &collector.tls) else {
        return handshake(collector.protocol, stream).await;
    };
    let address = collector
        .host
        .parse()
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let is_name = collector.host.parse::<IpAddr>().is_err();
    let name = tls::server_name(settings, is_name.then_some(&*collector.host), address);
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name, stream).await;
    handshake(
        collector.protocol,
        stream.map_err(|error| format!("TLS: {error}"))?,
    )
    .await
}

async fn handshake(
    protocol: OtlpProtocol,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, String> {
    let io = TokioIo::new(stream);
    match protocol {
        OtlpProtocol::Http => {
            let (sender, connection) = http1::handshake(io).await.map_err(said)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Sender::H1(sender))
        }
        OtlpProtocol::Grpc => {
            let handshake = http2::handshake(TokioExecutor::new(), io);
            let (sender, connection) = handshake.await.map_err(said)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Sender::H2(sender))
        }
    }
}

/// What the collector says (OTLP 1.5, "OTLP/HTTP Response" and "OTLP/gRPC Response").
async fn answer(protocol: OtlpProtocol, response: Response<Incoming>) -> Result<Outcome, String> {
    let (head, body) = response.into_parts();
    let read = Limited::new(body, ANSWER_BYTES).collect().await;
    let read = read.map_err(|error| format!("reading the answer: {error}"))?;
    let trailers = read.trailers().cloned();
    let bytes = read.to_bytes();
    if head.status != StatusCode::OK {
        let why = format!("the collector answered {}", head.status);
        return Ok(match head.status.as_u16() {
            429 | 502 | 503 | 504 => Outcome::Later(retry_after(&head.headers), why),
            // A gRPC proxy without its server (http-grpc-status-mapping).
            _ => Outcome::Refused(why),
        });
    }
    if protocol == OtlpProtocol::Http {
        return Ok(Outcome::Taken(rejected(&bytes)));
    }
    let fields = trailers.as_ref().unwrap_or(&head.headers);
    let text = |name: &str| fields.get(name).or(head.headers.get(name))?.to_str().ok();
    match text("grpc-status").and_then(|code| code.parse::<u16>().ok()) {
        Some(0) => Ok(Outcome::Taken(rejected(
            bytes.get(PREFIX_BYTES..).unwrap_or_default(),
        ))),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            let why = format!("the collector answered grpc-status {code} {message}");
            // Those that OTLP says may pass.
            Ok(match code {
                1 | 4 | 8 | 10 | 11 | 14 | 15 => Outcome::Later(None, why),
                _ => Outcome::Refused(why),
            })
        }
        None => Err("the collector's answer has no grpc-status".into()),
    }
}

/// Spans that a collector says it didn't take; an answer that is none counts as all taken, as OTLP has it.
fn rejected(bytes: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(bytes).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    u64::try_from(partial.rejected_spans).unwrap_or(0)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MOST_RETRY_AFTER))
}
