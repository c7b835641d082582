//! The server side: connections over the UNIX socket and TCP, HTTP/1.1 on both, and who is at their other end.

use super::{
    Access, AdminSocket, Caller, Context, Origin,
    answer::{REQUEST_TIMEOUT, Rights, answer},
    pages,
};
use crate::{descriptors, l7::tls};
use hyper::{header::AUTHORIZATION, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time,
};
use tracing::{debug, warn};

/// Clients served at a time, of the UNIX socket and of TCP apart: whoever holds all places of one leaves those of the other. The next
/// ones wait in the socket's queue.
const CLIENTS: usize = 64;

/// How often it is looked whether the UNIX socket's file is still there.
const LOOK: Duration = Duration::from_secs(1);

/// A request's line and headers.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Serves the UNIX socket until dropped.
///
/// # Errors
/// The socket can't be used with this runtime.
pub async fn serve(socket: AdminSocket, context: Context) -> io::Result<()> {
    let mut listener = UnixListener::from_std(socket.listener()?)?;
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut is_lost = false;
    let places = Arc::new(Semaphore::new(CLIENTS));
    descriptors::keep();
    loop {
        // Never closed, so this never fails.
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick() => {
                match socket.renew().and_then(|new| new.map(UnixListener::from_std).transpose()) {
                    Ok(new) => {
                        is_lost = false;
                        listener = new.unwrap_or(listener);
                    }
                    Err(error) if !is_lost => {
                        is_lost = true;
                        warn!("admin socket: removed, and it can't be made again: {error}; trying again");
                    }
                    Err(_) => {}
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                let context = context.clone();
                tokio::spawn(async move {
                    serve_local(stream, context).await;
                    descriptors::keep();
                    drop(place);
                });
            }
            Err(error) if is_out_of_descriptors(&error) && descriptors::release() => {}
            Err(error) => pause("admin socket", &error).await,
        }
    }
}

/// Serves TCP until dropped.
///
/// # Errors
/// None that is known.
pub async fn serve_tcp(listener: TcpListener, access: Arc<Access>, context: Context) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((stream, remote)) => {
                let (access, context) = (Arc::clone(&access), context.clone());
                tokio::spawn(async move {
                    serve_remote(stream, remote, access, context).await;
                    drop(place);
                });
            }
            Err(error) => pause("admin API over TCP", &error).await,
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Out of descriptors, most likely: trying again at once would only burn time.
async fn pause(what: &str, error: &io::Error) {
    warn!("{what}: {error}");
    time::sleep(Duration::from_millis(100)).await;
}

/// Whoever may open the socket may do everything.
async fn serve_local(stream: UnixStream, context: Context) {
    let peer = stream.peer_cred();
    let caller = match &peer {
        Ok(peer) => Caller::Unix {
            uid: peer.uid(),
            pid: peer.pid(),
        },
        Err(error) => {
            debug!("admin client: {error}");
            return;
        }
    };
    let origin = Origin::from(caller);
    serve_http(stream, |request| {
        let (origin, context) = (origin.clone(), context.clone());
        async move { answer(request, origin, Rights::Change, &context).await }
    })
    .await;
}

async fn serve_remote(stream: TcpStream, remote: SocketAddr, access: Arc<Access>, context: Context) {
    let Some(config) = access.tls() else {
        return serve_known(stream, None, remote, access, context).await;
    };
    match tls::accept(stream, config, REQUEST_TIMEOUT).await {
        Ok(stream) => {
            let subject = tls::peer_identity(stream.get_ref().1).map(|peer| peer.subject);
            serve_known(stream, subject, remote, access, context).await;
        }
        Err(error) => debug!("admin client {remote}: {error}"),
    }
}

/// Every request is admitted anew: a token that was revoked is so on connections that are open too.
async fn serve_known<S>(
    stream: S,
    subject: Option<Box<str>>,
    remote: SocketAddr,
    access: Arc<Access>,
    context: Context,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_http(stream, |request| {
        let admitted = access.admit(subject.as_deref(), request.headers().get(AUTHORIZATION));
        let context = context.clone();
        async move {
            match admitted {
                Ok((caller, rights)) => {
                    let origin = Origin {
                        caller,
                        remote: Some(remote),
                    };
                    answer(request, origin, rights, &context).await
                }
                Err(stranger) => {
                    debug!("admin client {remote}: not admitted");
                    stranger.answer()
                }
            }
        }
    })
    .await;
}

async fn serve_http<S, F>(stream: S, answered: impl Fn(hyper::Request<hyper::body::Incoming>) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = super::answer::Answer>,
{
    let service = service_fn(|request| {
        // Whoever comes: the page is what asks for a token.
        let page = pages::answer(&request);
        let answer = answered(request);
        async move {
            match page {
                Some(page) => Ok::<_, Infallible>(page),
                None => Ok(answer.await),
            }
        }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD_BYTES)
        .header_read_timeout(REQUEST_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!("admin client: {error}");
    }
}
