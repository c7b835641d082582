//! Network namespaces for the bench: made, entered by a thread, and removed when done.

use crate::shell;
use anyhow::{Context, Result};
use rustix::{
    net::{AddressFamily, SocketType, netdevice},
    process::Pid,
    thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity},
};
use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    thread,
};

/// Start of the names of the bench's namespaces and pin folders; a process id follows.
pub const PREFIX: &str = "weir-bench-";

/// Where `ip netns` keeps namespaces.
const FOLDER: &str = "/run/netns";

/// A network namespace of this process; removed with everything in it when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with loopback up.
    ///
    /// # Errors
    /// Without root, or without iproute2.
    pub fn new(role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        shell::run(&mut shell::command("ip", &["netns", "add", &name]))?;
        let this = Self { name };
        this.ip("link set lo up")?;
        Ok(this)
    }

    /// `ip …` inside; words are separated by spaces.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut command = shell::command("ip", &["-n", &self.name]);
        shell::run(command.args(words.split(' ')))
    }

    /// A shell line inside, with /sys showing this namespace's interfaces.
    ///
    /// # Errors
    /// When it fails.
    pub fn shell(&self, line: &str) -> Result<()> {
        shell::run(&mut shell::command(
            "ip",
            &["netns", "exec", &self.name, "sh", "-ec", line],
        ))
    }

    /// Makes a veth pair from here to another namespace, both ends up, with these MAC addresses.
    /// The other's end can take frames whose destination is `macs[1]`.
    ///
    /// # Errors
    /// When it fails.
    pub fn connect(&self, here: &str, other: &Self, there: &str, macs: [[u8; 6]; 2]) -> Result<()> {
        let text = macs.map(mac_text);
        self.ip(&format!(
            "link add {here} address {} type veth peer name {there} address {} netns {}",
            text[0], text[1], other.name
        ))?;
        self.ip(&format!("link set {here} up"))?;
        other.ip(&format!("link set {there} up"))
    }

    /// Runs in a thread inside.
    ///
    /// # Errors
    /// What the function returns, or that the namespace can't be entered.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new(FOLDER).join(&self.name);
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("cannot enter a network namespace")?;
                function()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = shell::run(&mut shell::command("ip", &["netns", "delete", &self.name]));
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}

/// Removes what a bench that was killed has left: its process is gone.
///
/// # Errors
/// When a folder can't be read.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(FOLDER).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_orphan(&name) {
            shell::run(&mut shell::command("ip", &["netns", "delete", &name]))?;
        }
    }
    Ok(())
}

/// Whether a name carries the id of a bench process that is gone.
pub fn is_orphan(name: &str) -> bool {
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    process.is_some_and(|id| !Path::new("/proc").join(id).exists())
}

/// Keeps a thread (this one without an id) on one CPU.
///
/// # Errors
/// When there is no such CPU or thread.
pub fn pin(thread: Option<Pid>, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(thread, &set).with_context(|| format!("cannot pin to CPU {cpu}"))
}

/// CPUs this process may run on, lowest first.
///
/// # Errors
/// When the kernel doesn't say.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// An interface's index in this thread's namespace.
///
/// # Errors
/// When there is no such interface.
pub fn ifindex(interface: &str) -> Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).context("socket")?;
    netdevice::name_to_index(&socket, interface).with_context(|| format!("no interface {interface}"))
}

/// As `ip` writes it.
fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
