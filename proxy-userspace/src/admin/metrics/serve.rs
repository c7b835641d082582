//! `GET /metrics`, `/ready` and `/live` alone, over TCP, for scrapers and health checks that know no UNIX sockets.

use super::answer;
use crate::{
    admin::answer::{Answer, error, wrong_method},
    control::Handle,
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tracing::{debug, warn};

/// Scrapers at a time; a page may be some MiB large.
const CLIENTS: usize = 16;

/// Prometheus keeps its connection between scrapes, one a minute by default: longer ones are opened anew.
const IDLE: Duration = Duration::from_secs(90);

/// The address can't be used.
#[derive(thiserror::Error, Debug)]
#[error("metrics.address: {address}: {error}; choose an address of this host that nobody listens on")]
pub struct MetricsError {
    address: SocketAddr,
    error: io::Error,
}

/// Where scrapers connect to.
pub struct MetricsSocket(SocketAddr, TcpListener);

impl MetricsSocket {
    /// Listens, at the socket of the process before this one if there is one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn open(address: SocketAddr, before: Option<StdListener>) -> Result<Self, MetricsError> {
        let open = || {
            let listener = before.map_or_else(|| StdListener::bind(address), Ok)?;
            listener.set_nonblocking(true)?;
            Ok(Self(address, TcpListener::from_std(listener)?))
        };
        open().map_err(|error| MetricsError { address, error })
    }

    /// Its address as it is configured, and the socket once more, for another process.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub fn duplicate(&self) -> io::Result<(SocketAddr, OwnedFd)> {
        Ok((self.0, self.1.as_fd().try_clone_to_owned()?))
    }

    /// Serves until dropped.
    pub async fn serve(self, control: Handle) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.1.accept().await {
                Ok((stream, _)) => {
                    let control = control.clone();
                    tokio::spawn(async move {
                        serve_client(stream, control).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!("metrics.address: {error}");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_client(stream: TcpStream, control: Handle) {
    let service = service_fn(move |request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(only_metrics(request, &control).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!("metrics client: {error}");
    }
}

async fn only_metrics(request: Request<Incoming>, control: &Handle) -> Answer {
    let path = request.uri().path();
    match (path, request.method()) {
        ("/metrics", &Method::GET) => answer(request.headers(), control).await,
        ("/ready", &Method::GET) => ready(control).await,
        ("/live", &Method::GET) => match control.look(|_| ()).await {
            Ok(()) => plain(StatusCode::OK, "live"),
            Err(refusal) => plain(StatusCode::SERVICE_UNAVAILABLE, &refusal.error),
        },
        ("/metrics" | "/ready" | "/live", method) => wrong_method(method.as_str(), path, "GET"),
        _ => error(
            StatusCode::NOT_FOUND,
            format!("no such path {path}"),
            "there are GET /metrics, /ready and /live; all else is at the admin API's UNIX socket",
        ),
    }
}

/// For whoever decides by health checks whether traffic is sent here.
async fn ready(control: &Handle) -> Answer {
    match control.look(|core| core.drain_status().ready).await {
        Ok(true) => plain(StatusCode::OK, "ready"),
        Ok(false) => plain(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Err(refusal) => plain(StatusCode::SERVICE_UNAVAILABLE, &refusal.error),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}
