//! The least that makes a reverse proxy out of hyper, without any feature: the floor below Weir.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{http1 as client1, http2 as client2},
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task,
};
use tokio_rustls::TlsAcceptor;

/// How the bare proxy is started.
#[derive(clap::Args)]
pub struct BareArgs {
    /// Where it listens.
    #[arg(long)]
    from: SocketAddr,
    /// Where it forwards to.
    #[arg(long)]
    to: SocketAddr,
    /// Clients speak HTTP/2 without TLS.
    #[arg(long)]
    http2_from: bool,
    /// The upstream speaks HTTP/2.
    #[arg(long)]
    http2_to: bool,
    /// Folder of cert.pem and key.pem: clients speak TLS.
    #[arg(long)]
    tls: Option<PathBuf>,
}

/// Runs until it is killed.
///
/// # Errors
/// When it can't listen.
pub fn run(arguments: &BareArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    task::LocalSet::new().block_on(&runtime, serve(arguments))
}

async fn serve(arguments: &BareArgs) -> Result<()> {
    let listener = TcpListener::bind(arguments.from).await.context("cannot listen")?;
    let acceptor = match &arguments.tls {
        Some(folder) => Some(super::credentials::acceptor(folder)?),
        None => None,
    };
    let upstream = Rc::new(Upstream {
        address: arguments.to,
        http2: arguments.http2_to,
        idle1: RefCell::default(),
        open2: RefCell::default(),
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // A socket that is already closed shows it when read.
        let _ = stream.set_nodelay(true);
        task::spawn_local(connection(
            stream,
            acceptor.clone(),
            arguments.http2_from,
            Rc::clone(&upstream),
        ));
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, http2: bool, upstream: Rc<Upstream>) {
    let Some(acceptor) = acceptor else {
        return speak(stream, http2, upstream).await;
    };
    if let Ok(stream) = acceptor.accept(stream).await {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        speak(stream, http2, upstream).await;
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, http2: bool, upstream: Rc<Upstream>) {
    let service = service_fn(move |request| Upstream::forward(Rc::clone(&upstream), request));
    let stream = TokioIo::new(stream);
    // The client that goes away is an error too.
    let _ = if http2 {
        let mut builder = http2::Builder::new(Local);
        builder.max_concurrent_streams(1_024);
        builder.serve_connection(stream, service).await
    } else {
        http1::Builder::new().serve_connection(stream, service).await
    };
}

/// Runs hyper's tasks on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        task::spawn_local(future);
    }
}

/// The one endpoint and the connections to it.
struct Upstream {
    address: SocketAddr,
    http2: bool,
    idle1: RefCell<Vec<client1::SendRequest<Incoming>>>,
    open2: RefCell<Option<client2::SendRequest<Incoming>>>,
}

impl Upstream {
    async fn forward(this: Rc<Self>, request: Request<Incoming>) -> Result<Response<Returning>> {
        if this.http2 {
            let request = for_http2(request)?;
            let response = this.sender2().await?.send_request(request).await?;
            return Ok(response.map(|body| Returning { body, home: None }));
        }
        let request = for_http1(request)?;
        let mut sender = this.sender1().await?;
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| {
            let mut body = Returning {
                body,
                home: Some((this, sender)),
            };
            body.settle();
            body
        }))
    }

    fn waiting1(&self) -> Option<client1::SendRequest<Incoming>> {
        let mut idle = self.idle1.borrow_mut();
        let index = idle.iter().rposition(client1::SendRequest::is_ready)?;
        Some(idle.swap_remove(index))
    }

    async fn sender1(&self) -> Result<client1::SendRequest<Incoming>> {
        if let Some(waiting) = self.waiting1() {
            return Ok(waiting);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = client1::handshake(TokioIo::new(stream)).await?;
        task::spawn_local(connection);
        sender.ready().await?;
        Ok(sender)
    }

    async fn sender2(&self) -> Result<client2::SendRequest<Incoming>> {
        if let Some(sender) = &*self.open2.borrow()
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client2::handshake(Local, TokioIo::new(stream)).await?;
        task::spawn_local(connection);
        *self.open2.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

/// A response's body, which gives its connection back at its end.
struct Returning {
    body: Incoming,
    home: Option<(Rc<Upstream>, client1::SendRequest<Incoming>)>,
}

impl Returning {
    fn settle(&mut self) {
        if self.body.is_end_stream()
            && let Some((upstream, sender)) = self.home.take()
        {
            upstream.idle1.borrow_mut().push(sender);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        this.settle();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Origin form and a Host header.
fn for_http1(mut request: Request<Incoming>) -> Result<Request<Incoming>> {
    if request.version() == Version::HTTP_2 {
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::from_str(authority.as_str())?;
            request.headers_mut().insert(header::HOST, host);
        }
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
        *request.version_mut() = Version::HTTP_11;
    }
    Ok(request)
}

/// Scheme and authority.
fn for_http2(mut request: Request<Incoming>) -> Result<Request<Incoming>> {
    if request.version() != Version::HTTP_2 {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        if let Some(host) = request.headers_mut().remove(header::HOST) {
            parts.authority = Some(host.to_str()?.parse()?);
            parts.scheme = Some(http::uri::Scheme::HTTP);
        }
        *request.uri_mut() = Uri::from_parts(parts)?;
        *request.version_mut() = Version::HTTP_2;
    }
    Ok(request)
}
