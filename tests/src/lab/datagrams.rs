//! Numbered datagrams to a UDP echo server: every one must come back, once, from the server that answered the first.

use super::Host;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Sent at once: far less than any queue on the way holds.
const BURST: u64 = 8;

/// Only a lost datagram takes that long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a flow fared.
#[derive(Clone, Debug)]
pub struct DatagramOutcome {
    /// Who answered.
    pub server: String,
    /// Datagrams sent.
    pub sent: u64,
    /// Answers that were right.
    pub answered: u64,
    /// What went wrong first.
    pub trouble: Option<String>,
}

/// Flows of numbered datagrams, a thread each.
pub struct NumberedDatagrams {
    flows: Vec<Arc<Flow>>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

#[derive(Default)]
struct Flow {
    server: OnceLock<String>,
    sent: AtomicU64,
    answered: AtomicU64,
    trouble: OnceLock<String>,
}

impl NumberedDatagrams {
    /// Begins so many flows, each of bursts that are `pause` apart.
    pub fn start(host: &Host, target: SocketAddr, flows: usize, pause: Duration) -> Result<Self> {
        let mut all = Self {
            flows: Vec::new(),
            threads: Vec::new(),
            stopping: Arc::default(),
        };
        for _ in 0..flows {
            let socket = host.run(|| -> io::Result<UdpSocket> {
                let any: SocketAddr = if target.is_ipv4() {
                    ([0; 4], 0).into()
                } else {
                    ([0_u16; 8], 0).into()
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(target)?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                Ok(socket)
            });
            let socket = socket.with_context(|| format!("a UDP socket for {target}"))?;
            let flow = Arc::<Flow>::default();
            all.flows.push(flow.clone());
            let stopping = all.stopping.clone();
            all.threads.push(thread::spawn(move || {
                while !stopping.load(Ordering::SeqCst) {
                    if let Err(error) = flow.burst(&socket) {
                        let _ = flow.trouble.set(error.to_string());
                        break;
                    }
                    // The pace of the traffic; nothing waits for it.
                    thread::sleep(pause);
                }
            }));
        }
        Ok(all)
    }

    /// Waits until every flow without trouble has had `more` answers from now.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let answered = |flow: &Arc<Flow>| flow.answered.load(Ordering::Relaxed);
        let goals: Vec<u64> = self.flows.iter().map(|flow| answered(flow) + more).collect();
        super::until("answers to datagrams", 2 * TIMEOUT, || {
            let mut flows = self.flows.iter().zip(&goals);
            flows
                .all(|(flow, goal)| answered(flow) >= *goal || flow.trouble.get().is_some())
                .then_some(())
        })
    }

    /// Ends after the bursts that were begun, and says how each flow fared.
    pub fn finish(mut self) -> Vec<DatagramOutcome> {
        self.stop();
        let outcome = |flow: &Arc<Flow>| DatagramOutcome {
            server: flow.server.get().cloned().unwrap_or_default(),
            sent: flow.sent.load(Ordering::Relaxed),
            answered: flow.answered.load(Ordering::Relaxed),
            trouble: flow.trouble.get().cloned(),
        };
        self.flows.iter().map(outcome).collect()
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for NumberedDatagrams {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Flow {
    /// Sends the next numbers and waits for all of them, in any order.
    fn burst(&self, socket: &UdpSocket) -> io::Result<()> {
        let first = self.sent.load(Ordering::Relaxed);
        let mut missing: BTreeSet<u64> = (first..first + BURST).collect();
        for number in first..first + BURST {
            socket.send(&number.to_be_bytes())?;
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        let mut buffer = [0; 128];
        while !missing.is_empty() {
            let length = socket
                .recv(&mut buffer)
                .map_err(|error| io::Error::other(format!("{missing:?} did not come back: {error}")))?;
            let other = |what| io::Error::other(format!("{what}: {:?}", &buffer[..length]));
            let (name, number) = buffer[..length]
                .split_last_chunk()
                .ok_or_else(|| other("no number"))?;
            let name = String::from_utf8_lossy(name).trim_end().to_owned();
            if *self.server.get_or_init(|| name.clone()) != name {
                return Err(other("from another server than before"));
            }
            if !missing.remove(&u64::from_be_bytes(*number)) {
                return Err(other("a number that was not sent, or came before"));
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
