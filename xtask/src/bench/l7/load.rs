//! The generators: what each scenario's clients do for a while, and how much of it was done.

use super::{
    backend::CHUNK,
    client::{self, Connector},
    peers::Peers,
};
use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::{
    cell::Cell,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

/// Connections of the generators that make a request at a time on each.
const CONNECTIONS: usize = 32;

/// Handshakes at a time.
const HANDSHAKES: usize = 16;

/// Bytes of a small message.
const MESSAGE: usize = 64;

/// What clients do.
#[derive(Clone)]
pub enum Load {
    /// Requests by wrk over this many HTTP/1.1 connections.
    Wrk {
        /// The path.
        path: &'static str,
        /// Connections.
        connections: usize,
    },
    /// Requests by h2load over 16 HTTP/2 connections with 32 streams each.
    H2load {
        /// `http` or `https`.
        scheme: &'static str,
        /// The path.
        path: &'static str,
        /// A file that is posted as gRPC.
        post: Option<PathBuf>,
    },
    /// Full TLS 1.3 handshakes, with one request on each connection.
    Handshakes,
    /// These HTTP/1.1 requests in turn.
    Requests(std::rc::Rc<[Vec<u8>]>),
    /// Bytes from the endpoint on one connection.
    Bulk,
    /// Small messages to the endpoint and back.
    Messages,
}

/// The programs and the runtime that generators need.
pub struct Generators<'a> {
    peers: &'a Peers,
    runtime: tokio::runtime::Runtime,
    connector: Connector,
}

impl<'a> Generators<'a> {
    /// On the caller's CPU.
    ///
    /// # Errors
    /// When there is no runtime to be had.
    pub fn new(peers: &'a Peers) -> Result<Self> {
        Ok(Self {
            peers,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            connector: Connector::new()?,
        })
    }

    /// Does it for about `time` and returns how much was done: requests, handshakes, messages or bytes. A generator
    /// that is told a number makes as many as `rate`, that of an earlier run in work per second, allows.
    ///
    /// # Errors
    /// When a request fails: what isn't right isn't measured.
    pub fn run(&self, load: &Load, to: SocketAddr, time: Duration, rate: Option<f64>) -> Result<f64> {
        let done = match load {
            Load::Wrk { path, connections } => self.wrk(to, path, *connections, time),
            Load::H2load { scheme, path, post } => {
                let url = format!("{scheme}://{to}{path}");
                self.h2load(&url, post.as_ref(), time, rate)
            }
            Load::Handshakes => self.closed_loop(HANDSHAKES, time, |turn| self.handshake(to, turn)),
            Load::Requests(requests) => self.runtime.block_on(requests_in_turn(to, requests, time)),
            Load::Bulk => bulk(to, time),
            Load::Messages => self.runtime.block_on(messages(to, time)),
        }?;
        ensure!(done > 0.0, "nothing was done");
        Ok(done)
    }

    /// Runs a future and the local tasks it spawns.
    ///
    /// # Errors
    /// The future's.
    pub fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::task::LocalSet::new().block_on(&self.runtime, future)
    }

    /// Requests by wrk.
    fn wrk(&self, to: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<f64> {
        let seconds = time.as_secs().max(1);
        let output = shell::output(Command::new(&self.peers.wrk).args([
            "-t1".to_owned(),
            format!("-c{connections}"),
            format!("-d{seconds}s"),
            format!("http://{to}{path}"),
        ]))?;
        if output.contains("Non-2xx") || output.contains("Socket errors") {
            bail!("requests failed:\n{output}");
        }
        let done = output
            .lines()
            .find_map(|line| line.trim().split_once(" requests in"));
        Ok(done.context("wrk printed something else")?.0.parse()?)
    }

    /// Requests by h2load.
    fn h2load(&self, url: &str, post: Option<&PathBuf>, time: Duration, rate: Option<f64>) -> Result<f64> {
        let mut command = Command::new(&self.peers.h2load);
        command.args(["-c16", "-m32"]);
        command.arg(match rate {
            // By count, every request that a proxy began is counted.
            Some(rate) => format!("-n{}", (rate * time.as_secs_f64()).max(1_024.0) as u64),
            None => format!("-D{}ms", time.as_millis()),
        });
        if let Some(file) = post {
            command.arg("-d").arg(file);
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        }
        let output = shell::output(command.arg(url))?;
        let line = output.lines().find(|line| line.starts_with("requests:"));
        let line = line.with_context(|| format!("h2load printed something else:\n{output}"))?;
        let count = |what: &str| -> Result<f64> {
            let words = line.split([':', ',']).map(str::trim);
            let number = words.filter_map(|words| words.strip_suffix(what)).next();
            Ok(number
                .with_context(|| format!("no number of {what} in: {line}"))?
                .trim()
                .parse()?)
        };
        let bad = count("failed")? + count("errored")? + count("timeout")?;
        ensure!(
            bad == 0.0 && output.contains(" 0 4xx, 0 5xx"),
            "requests failed:\n{output}"
        );
        count("succeeded")
    }

    /// Does a thing again and again in several tasks; `turn` counts through all of them.
    fn closed_loop<F: Future<Output = Result<()>>>(
        &self,
        tasks: usize,
        time: Duration,
        thing: impl Fn(usize) -> F,
    ) -> Result<f64> {
        let end = Instant::now() + time;
        let (turn, done) = (Cell::new(0), Cell::new(0_u64));
        let task = async || -> Result<()> {
            while Instant::now() < end {
                turn.set(turn.get() + 1);
                thing(turn.get()).await?;
                done.set(done.get() + 1);
            }
            Ok(())
        };
        self.runtime.block_on(client::all((0..tasks).map(|_| task())))?;
        Ok(done.get() as f64)
    }

    /// A connection with a request; closed by the client, from many source addresses in turn, since each can have but
    /// as many closed connections waiting as there are ports.
    async fn handshake(&self, to: SocketAddr, turn: usize) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, 1 + (turn % 250) as u8), 0).into())?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(stream).await?;
        client::exchange(&mut stream, &client::request("localhost", "/"), &mut Vec::new()).await
    }
}

async fn requests_in_turn(to: SocketAddr, requests: &[Vec<u8>], time: Duration) -> Result<f64> {
    let end = Instant::now() + time;
    let (turn, done) = (Cell::new(0_usize), Cell::new(0_u64));
    let task = async || -> Result<()> {
        let mut stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut bytes = Vec::new();
        while Instant::now() < end {
            turn.set(turn.get() + 1);
            let request = &requests[turn.get() % requests.len()];
            client::exchange(&mut stream, request, &mut bytes).await?;
            done.set(done.get() + 1);
        }
        Ok(())
    };
    client::all((0..CONNECTIONS).map(|_| task())).await?;
    Ok(done.get() as f64)
}

fn bulk(to: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"x")?;
    let end = Instant::now() + time;
    let mut bytes = vec![0; 4 * CHUNK];
    let mut done = 0;
    while Instant::now() < end {
        let count = stream.read(&mut bytes)?;
        ensure!(count > 0, "the connection was closed");
        done += count;
    }
    Ok(done as f64)
}

async fn messages(to: SocketAddr, time: Duration) -> Result<f64> {
    let end = Instant::now() + time;
    let done = Cell::new(0_u64);
    let task = async || -> Result<()> {
        let mut stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut bytes = [b'x'; MESSAGE];
        while Instant::now() < end {
            stream.write_all(&bytes).await?;
            stream.read_exact(&mut bytes).await?;
            done.set(done.get() + 1);
        }
        Ok(())
    };
    client::all((0..CONNECTIONS).map(|_| task())).await?;
    Ok(done.get() as f64)
}
