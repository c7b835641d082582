//! The endpoint: one thread that answers every protocol as cheaply as can be, since it shares the generator's CPU.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
    thread,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Paths of the larger bodies, and their sizes; every other path gives `SMALL` bytes.
pub const LARGE: [(&str, usize); 2] = [("/100k", 100 << 10), ("/10m", 10 << 20)];

/// Bytes of a body.
pub const SMALL: usize = 1 << 10;

/// Bytes of a message of the gRPC-like response.
const MESSAGE: usize = 64;

/// Bytes read or written at a time on byte streams.
pub const CHUNK: usize = 64 << 10;

/// Where each protocol is answered; the thread runs until the process ends.
pub struct Backends {
    /// HTTP/1.1.
    pub http1: SocketAddr,
    /// HTTP/2 with prior knowledge: a small message and trailers.
    pub http2: SocketAddr,
    /// What comes goes back.
    pub echo: SocketAddr,
    /// Sends without end once a byte has come.
    pub source: SocketAddr,
}

impl Backends {
    /// Starts the thread, on the caller's CPU.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime
                .map_err(Into::into)
                .and_then(|runtime| runtime.block_on(serve(&sender)))
            {
                // The receiver is gone when the bench has ended.
                let _ = sender.send(Err(error));
            }
        });
        receiver.recv().context("the backends' thread ended")?
    }
}

async fn serve(started: &mpsc::Sender<Result<Backends>>) -> Result<()> {
    let listener = || TcpListener::bind("127.0.0.1:0");
    let [http1, http2, echo, source] = [
        listener().await?,
        listener().await?,
        listener().await?,
        listener().await?,
    ];
    started.send(Ok(Backends {
        http1: http1.local_addr()?,
        http2: http2.local_addr()?,
        echo: echo.local_addr()?,
        source: source.local_addr()?,
    }))?;
    let responses = Arc::new(Responses::new());
    tokio::join!(
        accept(http1, move |stream| answer_http1(stream, Arc::clone(&responses))),
        accept(http2, answer_http2),
        accept(echo, answer_echo),
        accept(source, answer_source),
    );
    Ok(())
}

/// Runs a task for each connection; what goes wrong with one is seen by its client.
async fn accept<F>(listener: TcpListener, answer: impl Fn(TcpStream) -> F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await
            && stream.set_nodelay(true).is_ok()
        {
            tokio::spawn(answer(stream));
        }
    }
}

/// Whole HTTP/1.1 responses.
struct Responses {
    small: Vec<u8>,
    large: [(&'static str, Vec<u8>); 2],
}

impl Responses {
    fn new() -> Self {
        let response = |length: usize| {
            let mut bytes =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
                    .into_bytes();
            bytes.resize(bytes.len() + length, b'x');
            bytes
        };
        Self {
            small: response(SMALL),
            large: LARGE.map(|(path, length)| (path, response(length))),
        }
    }

    /// By the request's head.
    fn of(&self, head: &[u8]) -> &[u8] {
        let target = head.strip_prefix(b"GET ").unwrap_or_default();
        let found = self
            .large
            .iter()
            .find(|(path, _)| target.starts_with(path.as_bytes()));
        found.map_or(&self.small, |(_, response)| response)
    }
}

/// Requests without a body, one after the other.
async fn answer_http1(mut stream: TcpStream, responses: Arc<Responses>) -> Result<()> {
    let mut bytes = Vec::with_capacity(4 << 10);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if bytes.ends_with(b"\r\n\r\n") {
            stream.write_all(responses.of(&bytes)).await?;
            bytes.clear();
        }
    }
}

async fn answer_http2(stream: TcpStream) -> Result<()> {
    let service = service_fn(|request: Request<Incoming>| async {
        request.into_body().collect().await?;
        let mut response = Response::new(Answer::Message);
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok::<_, hyper::Error>(response)
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(1_024);
    builder.serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// What is left of a gRPC-like response.
enum Answer {
    Message,
    Trailers,
    Nothing,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, rest) = match *self {
            Self::Message => (Frame::data(Bytes::from_static(&[b'x'; MESSAGE])), Self::Trailers),
            Self::Trailers => {
                let status = HeaderValue::from_static("0");
                let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]);
                (Frame::trailers(trailers), Self::Nothing)
            }
            Self::Nothing => return Poll::Ready(None),
        };
        *self = rest;
        Poll::Ready(Some(Ok(frame)))
    }
}

async fn answer_echo(mut stream: TcpStream) -> Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count]).await?;
    }
}

async fn answer_source(mut stream: TcpStream) -> Result<()> {
    stream.read_u8().await?;
    let bytes = vec![b'x'; CHUNK];
    loop {
        stream.write_all(&bytes).await?;
    }
}
