//! A SYN flood from random sources, as hping3 makes one, with a count of what was sent.

use super::Host;
use crate::model::random::Random;
use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, sendto, socket};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

/// `IPPROTO_RAW`, linux/in.h: the sender writes the IPv4 header, the source in it too.
const RAW: u32 = 255;

/// A thread on a host that sends SYNs until it is stopped or has sent enough.
pub struct SynFlood {
    sent: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SynFlood {
    /// The network that the sources are of: nobody's.
    pub const SOURCES: &str = "198.19.0.0/16";

    /// Floods an IPv4 address, with `most` packets at most.
    pub fn start(host: &Host, target: SocketAddr, most: u64) -> Result<Self> {
        let protocol = NonZeroU32::new(RAW).map(Protocol::from_raw);
        let opened = host.run(|| socket(AddressFamily::INET, SocketType::RAW, protocol));
        let socket = opened.context("open a raw socket")?;
        let (sent, stopping) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut flood = Self {
            sent: sent.clone(),
            stopping: stopping.clone(),
            thread: None,
        };
        flood.thread = Some(std::thread::spawn(move || {
            let mut random = Random::new(1);
            while !stopping.load(Ordering::SeqCst) && sent.load(Ordering::Relaxed) < most {
                // A full queue on this host takes none; what is counted was sent.
                if send(&socket, target, random.bits()).is_some() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        Ok(flood)
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends one SYN, whose source and sequence number are taken from random bits.
fn send(socket: &OwnedFd, target: SocketAddr, bits: u64) -> Option<()> {
    let IpAddr::V4(destination) = target.ip() else {
        return None;
    };
    let [a, b, c, d, sequence @ ..] = bits.to_ne_bytes();
    let builder = PacketBuilder::ipv4([198, 19, a, b], destination.octets(), 64)
        .tcp(
            u16::from_ne_bytes([c, d]) | 1024,
            target.port(),
            u32::from_ne_bytes(sequence),
            64_240,
        )
        .syn();
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[]).ok()?;
    sendto(socket, &packet, SendFlags::empty(), &target).ok()?;
    Some(())
}
