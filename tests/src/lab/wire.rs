//! A wire that tags: frames of an untagged host travel with VLAN tags.
//!
//! The kernel's VLAN devices are a module that not every machine has; this is a pair of TAP
//! interfaces with a thread between them, which works with any client on the untagged side.

use super::Host;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Offset of the EtherType, behind both MAC addresses.
const ETHERTYPE: usize = 12;

/// The tags of a wire, outermost first: EtherType and VLAN id.
pub type VlanTags = Vec<(u16, u16)>;

/// Two TAP interfaces and the thread that copies frames between them; gone when dropped.
pub struct Wire {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    tags: Vec<u8>,
    stopping: AtomicBool,
    tagged: AtomicU64,
    untagged: AtomicU64,
}

impl Wire {
    /// Makes `interface` on the untagged `host` and `far_interface` on `far`, both up. Frames get
    /// the tags on their way to `far` and lose them on their way back; frames that come back
    /// without just these tags are counted and lost, as on an access port.
    pub fn connect(
        host: &Host,
        interface: &str,
        far: &Host,
        far_interface: &str,
        tags: &VlanTags,
    ) -> Result<Self> {
        let near_end = tap(host, interface)?;
        let far_end = tap(far, far_interface)?;
        let tags = tags
            .iter()
            .flat_map(|(ethertype, id)| [ethertype.to_be_bytes(), id.to_be_bytes()]);
        let shared = Arc::new(Shared {
            tags: tags.flatten().collect(),
            stopping: AtomicBool::new(false),
            tagged: AtomicU64::new(0),
            untagged: AtomicU64::new(0),
        });
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || copy_frames(&for_thread, &near_end, &far_end));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Frames that came back with the tags.
    pub fn tagged(&self) -> u64 {
        self.shared.tagged.load(Ordering::Relaxed)
    }

    /// Frames that came back with other tags or none, and were lost.
    pub fn untagged(&self) -> u64 {
        self.shared.untagged.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes a TAP interface: what is written to the file arrives at the host, and what the host
/// sends is read from it.
fn tap(host: &Host, interface: &str) -> Result<File> {
    let made = host.run(|| -> io::Result<File> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK)?;
        // SAFETY: all zeros is a valid ifreq: integers and character arrays.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if interface.len() >= request.ifr_name.len() {
            return Err(io::Error::other("interface names have at most 15 characters"));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(file)
        }
    });
    let file = made.with_context(|| format!("make the TAP interface {interface} on {}", host.name()))?;
    host.ip(&format!("link set dev {interface} up"))?;
    Ok(file)
}

fn copy_frames(shared: &Shared, near: &File, far: &File) {
    // Room for the largest frame and for the tags in front of its EtherType.
    let mut frame = vec![0; 65_536];
    // How soon a stop is noticed when nothing flows.
    let timeout = rustix::event::Timespec::try_from(Duration::from_millis(20)).ok();
    while !shared.stopping.load(Ordering::SeqCst) {
        let mut ends = [near, far].map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN));
        if rustix::event::poll(&mut ends, timeout.as_ref()).is_err() {
            continue;
        }
        while let Some(length) = receive(near, &mut frame, ETHERTYPE + 2) {
            let tagged = [&frame[..ETHERTYPE], &shared.tags, &frame[ETHERTYPE..length]].concat();
            send(far, &tagged);
        }
        while let Some(length) = receive(far, &mut frame, ETHERTYPE + 2 + shared.tags.len()) {
            let rest = &frame[ETHERTYPE..length];
            if let Some(inner) = rest.strip_prefix(shared.tags.as_slice()) {
                shared.tagged.fetch_add(1, Ordering::Relaxed);
                send(near, &[&frame[..ETHERTYPE], inner].concat());
            } else {
                shared.untagged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The next frame of at least this length, if one waits. Shorter ones are not Ethernet.
fn receive(mut end: &File, frame: &mut [u8], least: usize) -> Option<usize> {
    loop {
        let length = end.read(frame).ok()?;
        if length >= least {
            return Some(length);
        }
    }
}

/// A full queue loses the frame, as wires do.
fn send(mut end: &File, frame: &[u8]) {
    let _ = end.write_all(frame);
}
