//! The client side, for the command line and the tests: one call, one connection.

use super::status::ErrorAnswer;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::{io, path::Path, time::Duration};
use tokio::{net::UnixStream, runtime, time};

/// Reading all counters of a large balancer and building its tables are well below this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no weir runs on {0}; start one with `weir run CONFIG`, or name its socket with --socket")]
    NotRunning(String),
    /// Somebody listens, but not for us.
    #[error("no permission to use {0}; run as root")]
    Permission(String),
    /// The daemon says no.
    #[error("{}; {}", .0.error, .0.remedy)]
    Refused(ErrorAnswer),
    /// Something listens that does not talk as we do.
    #[error("{0}: {1}; is a weir of another version running there?")]
    Garbled(String, String),
    /// The daemon is stuck.
    #[error("{0}: no answer within {TIMEOUT:?}; is the daemon stopped or overloaded?")]
    Timeout(String),
}

/// Sends a request and returns the body of its answer. Blocks.
///
/// # Errors
/// No daemon there, or its refusal.
pub fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Bytes, ClientError> {
    let shown = socket.display().to_string();
    let garbled = |why: String| ClientError::Garbled(shown.clone(), why);
    let body = body
        .map(serde_json::to_vec)
        .transpose()
        .map_err(|why| garbled(why.to_string()))?;
    let request = Request::builder().method(method).uri(path).header(HOST, "weir");
    let request =
        (request.body(Full::from(body.unwrap_or_default()))).map_err(|why| garbled(why.to_string()))?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| garbled(why.to_string()))?;
    runtime.block_on(async {
        let exchange = time::timeout(TIMEOUT, exchange(socket, request));
        exchange.await.map_err(|_| ClientError::Timeout(shown.clone()))?
    })
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
    let shown = socket.display().to_string();
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(shown.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Permission(shown.clone()),
            _ => ClientError::Garbled(shown.clone(), error.to_string()),
        })?;
    let garbled = |why: hyper::Error| ClientError::Garbled(shown.clone(), why.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(garbled)?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let response: Response<Incoming> = sender.send_request(request).await.map_err(garbled)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(garbled)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice(&body) {
        Ok(refusal) => Err(ClientError::Refused(refusal)),
        Err(_) => Err(ClientError::Garbled(shown, format!("answered {status}"))),
    }
}
