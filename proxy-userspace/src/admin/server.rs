//! The server side: one request in, one answer out, errors with a remedy.

use super::{
    AdminSocket, metrics,
    status::{EndpointPatch, ErrorAnswer},
};
use crate::{
    control::{FlowQuestion, Handle, Refusal, RefusalKind, Trigger},
    model::BackendAddr,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_common::net::Protocol;
use serde::Serialize;
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time,
};
use tracing::{debug, warn};

/// Clients served at a time; the next ones wait in the socket's queue.
const CLIENTS: usize = 64;

/// A body is one small JSON object.
const MAX_BODY_BYTES: usize = 16 << 10;

/// A client must send its request, and its next one, within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What there is, for whoever asks for something else.
const PATHS: &str = "GET /status, GET /metrics, GET /flows/PROTOCOL/CLIENT/VIP[?connection_id=HEX], POST /reload, PATCH /clusters/NAME/endpoints/ADDR";

/// Serves until dropped.
///
/// # Errors
/// The socket can't be used with this runtime.
pub async fn serve(socket: AdminSocket, control: Handle) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        // Never closed, so this never fails.
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = control.clone();
                tokio::spawn(async move {
                    serve_client(stream, control).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only burn time.
                warn!("admin socket: {error}");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_client(stream: UnixStream, control: Handle) {
    let service = service_fn(move |request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(answer(request, &control).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!("admin client: {error}");
    }
}

pub(super) type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, control: &Handle) -> Answer {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    match segments[..] {
        ["status"] if method == Method::GET => outcome(control.status().await),
        ["status"] => wrong_method(&method, &path, "GET"),
        ["metrics"] if method == Method::GET => metrics::answer(request.headers(), control).await,
        ["metrics"] => wrong_method(&method, &path, "GET"),
        ["flows", protocol, client, vip] if method == Method::GET => {
            match question(protocol, client, vip, request.uri().query()) {
                Some(question) => outcome(control.flow(question).await),
                None => error(
                    StatusCode::BAD_REQUEST,
                    "no flow in the path",
                    "write /flows/tcp/IP:PORT/IP:PORT (or udp), first the client, then the VIP; for IPv6 [IP]:PORT. Of QUIC \
                 ?connection_id=HEX may follow",
                ),
            }
        }
        ["flows", _, _, _] => wrong_method(&method, &path, "GET"),
        ["reload"] if method == Method::POST => outcome(control.reload(Trigger::Api).await),
        ["reload"] => wrong_method(&method, &path, "POST"),
        ["clusters", cluster, "endpoints", address] if method == Method::PATCH => {
            match patch_endpoint(cluster, address, request.into_body(), control).await {
                Ok(answer) | Err(answer) => answer,
            }
        }
        ["clusters", _, "endpoints", _] => wrong_method(&method, &path, "PATCH"),
        _ => error(
            StatusCode::NOT_FOUND,
            format!("no such path {path}"),
            format!("there are {PATHS}"),
        ),
    }
}

fn question(protocol: &str, client: &str, vip: &str, query: Option<&str>) -> Option<FlowQuestion> {
    let connection_id = match query {
        Some(query) => Some(query.strip_prefix("connection_id=")?.parse().ok()?),
        None => None,
    };
    Some(FlowQuestion {
        protocol: match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        client: percent_decoded(client)?.parse().ok()?,
        vip: percent_decoded(vip)?.parse().ok()?,
        connection_id,
    })
}

async fn patch_endpoint(
    cluster: &str,
    address: &str,
    body: Incoming,
    control: &Handle,
) -> Result<Answer, Answer> {
    let invalid = |what: String, remedy: &str| error(StatusCode::BAD_REQUEST, what, remedy);
    let cluster = percent_decoded(cluster).ok_or_else(|| {
        invalid(
            format!("{cluster} is not a name"),
            "write it as UTF-8, percent-encoded",
        )
    })?;
    let address = percent_decoded(address)
        .and_then(|address| address.parse().ok())
        .map(BackendAddr);
    let address = address.ok_or_else(|| {
        invalid(
            "no endpoint address in the path".into(),
            "write IP:PORT, for IPv6 [IP]:PORT",
        )
    })?;
    let body = read(body).await?;
    let remedy = r#"send {"weight": N}, {"drain": true|false}, or both"#;
    let patch: EndpointPatch =
        serde_json::from_slice(&body).map_err(|why| invalid(format!("body: {why}"), remedy))?;
    if patch == EndpointPatch::default() {
        return Err(invalid("body: nothing to change".into(), remedy));
    }
    Ok(outcome(control.set_endpoint(&cluster, address, patch).await))
}

async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let limited = Limited::new(body, MAX_BODY_BYTES).collect();
    let Ok(read) = time::timeout(REQUEST_TIMEOUT, limited).await else {
        let what = format!("no whole body within {REQUEST_TIMEOUT:?}");
        return Err(error(StatusCode::REQUEST_TIMEOUT, what, "send it at once"));
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(why) if why.is::<LengthLimitError>() => {
            let what = format!("the body is longer than {MAX_BODY_BYTES} bytes");
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, what, "send one JSON object"))
        }
        Err(why) => Err(error(
            StatusCode::BAD_REQUEST,
            format!("body: {why}"),
            "send it whole",
        )),
    }
}

pub(super) fn outcome(outcome: Result<impl Serialize, Refusal>) -> Answer {
    match outcome {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => {
            let status = match refusal.kind {
                RefusalKind::NotFound => StatusCode::NOT_FOUND,
                RefusalKind::Invalid => StatusCode::BAD_REQUEST,
                // Understood, and impossible to follow as it stands.
                RefusalKind::Config => StatusCode::UNPROCESSABLE_ENTITY,
                RefusalKind::Kernel => StatusCode::INTERNAL_SERVER_ERROR,
                RefusalKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, refusal.error, refusal.remedy)
        }
    }
}

pub(super) fn wrong_method(method: &Method, path: &str, allowed: &'static str) -> Answer {
    let what = format!("{path} does not take {method}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, what, format!("use {allowed}"));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

pub(super) fn error(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Answer {
    json(
        status,
        &ErrorAnswer {
            error: error.into(),
            remedy: remedy.into(),
        },
    )
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let (status, mut text) = match serde_json::to_vec_pretty(body) {
        Ok(text) => (status, text),
        // Our own types have string keys and finite numbers: not reached, and yet no reason to die.
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string().into_bytes()),
    };
    text.push(b'\n');
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// RFC 3986 section 2.1; none for a bad escape or what is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            decoded.push((digit()? * 16 + digit()?) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(
            percent_decoded("%5B2001:db8::1%5d:80").as_deref(),
            Some("[2001:db8::1]:80")
        );
        assert_eq!(percent_decoded("plain").as_deref(), Some("plain"));
        for bad in ["%", "%5", "%zz", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }
}
