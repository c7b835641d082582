//! A SYN flood from random sources, as hping3 makes one, with a count of what was sent.

use super::Host;
use crate::model::random::Random;
use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use rustix::{
    net::{AddressFamily, Protocol, SendFlags, SocketType, sendto, socket},
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// `IPPROTO_RAW`, linux/in.h: the sender writes the IPv4 header, the source in it too.
const RAW: u32 = 255;

/// A thread on a host that sends SYNs until it is stopped or has sent enough.
pub struct SynFlood {
    sent: Arc<AtomicU64>,
    cpu_ns: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a flood may take of the machine that it shares with those it is measured on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Bounds {
    /// SYNs a second; 0 for as many as it can.
    pub per_second: u64,
    /// The one CPU it runs on; with it runs what the kernel does with each packet on its way.
    pub cpu: Option<usize>,
}

/// Counts the floods of this process.
static FLOODS: AtomicU64 = AtomicU64::new(1);

/// SYNs between two looks at its CPU time.
const LOOK: u64 = 256;

/// How often a bounded flood sends what is due.
const BURST: Duration = Duration::from_micros(500);

impl SynFlood {
    /// The network that the sources are of: nobody's.
    pub const SOURCES: &str = "198.19.0.0/16";

    /// Floods an IPv4 address, with `most` packets at most.
    pub fn start(host: &Host, target: SocketAddr, most: u64) -> Result<Self> {
        Self::start_within(host, target, most, Bounds::default())
    }

    /// The same within bounds.
    pub fn start_within(host: &Host, target: SocketAddr, most: u64, bounds: Bounds) -> Result<Self> {
        let protocol = NonZeroU32::new(RAW).map(Protocol::from_raw);
        let opened = host.run(|| socket(AddressFamily::INET, SocketType::RAW, protocol));
        let socket = opened.context("open a raw socket")?;
        let (sent, stopping) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let cpu_ns = Arc::<AtomicU64>::default();
        let mut flood = Self {
            sent: sent.clone(),
            cpu_ns: cpu_ns.clone(),
            stopping: stopping.clone(),
            thread: None,
        };
        flood.thread = Some(std::thread::spawn(move || {
            if let Some(cpu) = bounds.cpu {
                let mut set = CpuSet::new();
                set.set(cpu);
                // Best effort: a lab without that CPU still has its flood.
                let _ = sched_setaffinity(None, &set);
            }
            let begin = Instant::now();
            let due = || match bounds.per_second {
                0 => u64::MAX,
                rate => (begin.elapsed().as_secs_f64() * rate as f64) as u64,
            };
            // The next flood is of other sources.
            let mut random = Random::new(FLOODS.fetch_add(1, Ordering::Relaxed));
            while !stopping.load(Ordering::SeqCst) && sent.load(Ordering::Relaxed) < most {
                let count = sent.load(Ordering::Relaxed);
                if count.is_multiple_of(LOOK) {
                    cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
                }
                if count >= due() {
                    std::thread::sleep(BURST);
                    continue;
                }
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

    /// CPU time so far: its own, and of what the kernel does in its name.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
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

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
