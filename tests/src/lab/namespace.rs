//! A network namespace held by a file descriptor, and threads and processes inside it.

use anyhow::{Context, Result};
use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, UnshareFlags},
};
use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    panic,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
};

/// A network namespace without a name: gone when its last holder is.
#[derive(Clone)]
pub struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// Makes an empty namespace; the caller's thread stays where it is.
    pub fn new() -> Result<Self> {
        let file = thread::spawn(|| -> io::Result<File> {
            // SAFETY: CLONE_NEWNET alone does not touch file descriptors or memory shared with
            // other threads, which is what makes unshare unsafe.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
            File::open("/proc/thread-self/ns/net")
        })
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that makes a namespace panicked"))?
        .context("make a network namespace (needs root)")?;
        Ok(Self { file: Arc::new(file) })
    }

    /// A path by which other processes can open the namespace: `nsenter --net=PATH`.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.file.as_raw_fd()
        ))
    }

    /// Moves the calling thread into the namespace.
    fn enter(&self) -> io::Result<()> {
        rustix::thread::move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs a closure on a thread inside the namespace and waits for it; a panic is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let in_namespace = || {
            self.enter().expect("enter a network namespace we hold");
            work()
        };
        thread::scope(|scope| scope.spawn(in_namespace).join())
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Starts a thread inside the namespace. Sockets made there stay there.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter().expect("enter a network namespace we hold");
            work()
        })
    }

    /// Makes the command run inside the namespace and die with the calling thread. Mounts stay
    /// those of the host: unlike `ip netns exec`, /sys/fs/bpf is still there.
    pub fn place(&self, command: &mut Command) {
        let namespace = self.clone();
        // Ctrl-C is for the program that made the lab: it ends its children in order.
        command.process_group(0);
        // SAFETY: the closure makes system calls only: no allocation, no locks.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                namespace.enter()
            });
        }
    }
}
