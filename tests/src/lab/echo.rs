//! A TCP and UDP echo server that says its name, so that clients can count who answered.
//!
//! TCP: a line with the name on accept, then every byte back until the client's end of stream.
//! UDP: a line with the name and then the datagram.

use super::Host;
use anyhow::{Context, Result};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

/// The server's threads on a host; ends when dropped.
pub struct EchoServer {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    threads: Vec<JoinHandle<()>>,
}

enum Socket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<UdpSocket>),
}

#[derive(Default)]
struct Shared {
    name: String,
    stopping: AtomicBool,
    accepted: AtomicU64,
    datagrams: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EchoServer {
    /// Listens on the addresses, for TCP and UDP each; ready on return.
    pub fn start(host: &Host, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            ..Shared::default()
        });
        let mut server = Self {
            shared,
            sockets: Vec::new(),
            threads: Vec::new(),
        };
        for &address in addresses {
            let bound = host.run(|| -> io::Result<_> {
                Ok((
                    Arc::new(TcpListener::bind(address)?),
                    Arc::new(UdpSocket::bind(address)?),
                ))
            });
            let (tcp, udp) = bound.with_context(|| format!("listen on {address} on {}", host.name()))?;
            server
                .sockets
                .extend([Socket::Tcp(tcp.clone()), Socket::Udp(udp.clone())]);
            let [for_tcp, for_udp] = [server.shared.clone(), server.shared.clone()];
            server
                .threads
                .push(std::thread::spawn(move || accept_all(&for_tcp, &tcp)));
            server
                .threads
                .push(std::thread::spawn(move || answer_all(&for_udp, &udp)));
        }
        Ok(server)
    }

    /// TCP connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Datagrams answered so far.
    pub fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Relaxed)
    }

    /// TCP connections open now.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    /// Closes every socket, as the end of the process would.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for socket in self.sockets.drain(..) {
            // Wakes the thread that waits in accept or receive. For UDP the kernel says
            // "not connected" and wakes it all the same.
            let _ = match &socket {
                Socket::Tcp(tcp) => rustix::net::shutdown(tcp.as_fd(), rustix::net::Shutdown::Both),
                Socket::Udp(udp) => rustix::net::shutdown(udp.as_fd(), rustix::net::Shutdown::Both),
            };
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for stream in self.shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept_all(shared: &Arc<Shared>, listener: &TcpListener) {
    while !shared.stopping.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(clone) = stream.try_clone() {
            shared.open().insert(number, clone);
        }
        let shared = shared.clone();
        std::thread::spawn(move || {
            // A client that breaks off is the client's affair.
            let _ = echo(&shared.name, stream);
            shared.open().remove(&number);
        });
    }
}

fn echo(name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn answer_all(shared: &Shared, socket: &UdpSocket) {
    let name = format!("{}\n", shared.name);
    let mut buffer = vec![0; name.len() + 65_535];
    buffer[..name.len()].copy_from_slice(name.as_bytes());
    while !shared.stopping.load(Ordering::SeqCst) {
        // Errors here are ICMP errors about earlier answers.
        let Ok((length, from)) = socket.recv_from(&mut buffer[name.len()..]) else {
            continue;
        };
        shared.datagrams.fetch_add(1, Ordering::Relaxed);
        let _ = socket.send_to(&buffer[..name.len() + length], from);
    }
}
