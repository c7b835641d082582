//! An echo server for thousands of connections on one thread; speaks TCP as [`super::EchoServer`] does.

use super::Host;
use anyhow::{Context, Result};
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How soon a stop is noticed when nothing flows.
const WAIT: Duration = Duration::from_millis(20);

/// The server's thread on a host; ends when dropped, and all connections with it.
pub struct CrowdServer {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CrowdServer {
    /// Listens on the addresses; ready on return.
    pub fn start(host: &Host, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let listen = |&address| -> io::Result<TcpListener> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listeners = host.run(|| addresses.iter().map(listen).collect::<io::Result<Vec<_>>>());
        let listeners = listeners.with_context(|| format!("listen on {addresses:?} on {}", host.name()))?;
        let mut server = Server::new(listeners, format!("{name}\n").into_bytes()).context("use epoll")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let for_thread = stopping.clone();
        let thread = std::thread::spawn(move || {
            let mut events = Vec::with_capacity(256);
            while !for_thread.load(Ordering::SeqCst) {
                server.turn(&mut events);
            }
        });
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }
}

impl Drop for CrowdServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    epoll: OwnedFd,
    name: Vec<u8>,
    /// Their numbers in epoll are their places here; connections' follow.
    listeners: Vec<TcpListener>,
    connections: HashMap<u64, Connection>,
    next: u64,
}

struct Connection {
    stream: TcpStream,
    /// Read, and not yet written back; nothing is read while there is some.
    pending: Vec<u8>,
}

impl Server {
    fn new(listeners: Vec<TcpListener>, name: Vec<u8>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, listener) in listeners.iter().enumerate() {
            epoll::add(
                &epoll,
                listener,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
        }
        Ok(Self {
            epoll,
            name,
            next: listeners.len() as u64,
            listeners,
            connections: HashMap::new(),
        })
    }

    /// Waits for something to do, for a short time, and does it.
    fn turn(&mut self, events: &mut Vec<Event>) {
        let timeout = Timespec::try_from(WAIT).ok();
        // An error is a signal that came in between.
        let _ = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            timeout.as_ref(),
        );
        for event in events.drain(..) {
            let number = event.data.u64();
            if number < self.listeners.len() as u64 {
                self.accept(number as usize);
            } else if let Some(connection) = self.connections.get_mut(&number) {
                match connection.echo() {
                    Ok(true) => {
                        let wanted = if connection.pending.is_empty() {
                            EventFlags::IN
                        } else {
                            EventFlags::OUT
                        };
                        let data = EventData::new_u64(number);
                        // Fails for no descriptor that was added.
                        let _ = epoll::modify(&self.epoll, &connection.stream, data, wanted);
                    }
                    // A client that breaks off is the client's affair.
                    Ok(false) | Err(_) => {
                        self.connections.remove(&number);
                    }
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        while let Ok((stream, _)) = self.listeners[listener].accept() {
            let number = self.next;
            let added = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| {
                    let data = EventData::new_u64(number);
                    Ok(epoll::add(&self.epoll, &stream, data, EventFlags::OUT)?)
                });
            if added.is_ok() {
                self.next += 1;
                let pending = self.name.clone();
                self.connections.insert(number, Connection { stream, pending });
            }
        }
    }
}

impl Connection {
    /// Writes what is pending and reads what comes next; false at the client's end.
    fn echo(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            while !self.pending.is_empty() {
                match self.stream.write(&self.pending) {
                    Ok(written) => drop(self.pending.drain(..written)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.stream.shutdown(Shutdown::Write)?;
                    return Ok(false);
                }
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}
