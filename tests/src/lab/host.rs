//! A lab and its hosts: namespaces with links, addresses, routes and settings.

use super::{
    command::{Finished, Process, tool},
    namespace::Namespace,
    pins, until, xdp_pass,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Counts the labs of this process, to keep their names apart.
static LABS: AtomicU32 = AtomicU32::new(0);

/// The kernel looks at links once a second when they change often.
const ADDRESS: Duration = Duration::from_secs(60);

/// For `ethtool -K`: checksums and VLAN tags are in the frame when it leaves, and NAPI receives.
const OFFLOADS: &str = "tx off tx-vlan-hw-insert off tx-vlan-stag-hw-insert off gro on";

/// A set of hosts with a temporary folder. Its hosts live as long as it does.
pub struct Lab {
    name: String,
    directory: PathBuf,
    hosts: Mutex<Vec<Host>>,
}

impl Lab {
    /// An empty lab. Sweeps what killed processes left behind.
    ///
    /// # Errors
    /// The process is not root, or a tool is missing.
    pub fn new() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab makes network namespaces and needs root: run as root, or with `sudo -E`"
        );
        for name in ["ip", "ethtool"] {
            tool(name)?;
        }
        pins::sweep()?;
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", pins::PREFIX, std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self {
            name,
            directory,
            hosts: Mutex::default(),
        })
    }

    /// `weir-lab-PID-NUMBER`: unique on this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder of this lab's own, removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A host with nothing but `lo`, up. IPv6 addresses will work at once (no duplicate address
    /// detection), and nothing is sent that no one asked for.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = Host {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                directory: self.directory.clone(),
                namespace: Namespace::new()?,
                attached: Mutex::default(),
            }),
        };
        for family in ["all", "default"] {
            host.sysctl(&format!("net.ipv6.conf.{family}.accept_dad"), "0")?;
            host.sysctl(&format!("net.ipv6.conf.{family}.router_solicitations"), "0")?;
        }
        host.ip("link set dev lo up")?;
        self.hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(host.clone());
        Ok(host)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // For a look at configs and logs after a failure; the next lab sweeps them.
        if std::env::var_os("WEIR_LAB_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
        pins::remove_of(&self.name);
    }
}

/// A network namespace that plays a machine. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    directory: PathBuf,
    namespace: Namespace,
    /// Holds XDP programs where they are.
    attached: Mutex<Vec<OwnedFd>>,
}

impl Host {
    /// As given to [`Lab::host`].
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The lab's folder.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Runs a closure on a thread in this host and waits for it: std's sockets are this host's.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inner.namespace.run(work)
    }

    /// A command that will run in this host and die with the calling thread.
    ///
    /// # Errors
    /// The program is not installed.
    pub fn command(&self, program: &str) -> Result<Command> {
        let program = if program.contains('/') {
            PathBuf::from(program)
        } else {
            tool(program)?
        };
        let mut command = Command::new(program);
        self.inner.namespace.place(&mut command);
        Ok(command)
    }

    /// Runs a command line, split at spaces, to its end and returns its standard output.
    ///
    /// # Errors
    /// It is not installed or fails; the message names the host.
    pub fn execute(&self, line: &str) -> Result<String> {
        self.try_execute(line)?
            .success()
            .with_context(|| format!("on {}", self.name()))
    }

    /// As [`Host::execute`], but a failure of the program is for the caller to judge.
    pub fn try_execute(&self, line: &str) -> Result<Finished> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        Finished::run(self.command(program)?.args(words), "")
    }

    /// Starts a command in the background; its output goes to `HOST-PROGRAM.log` in the lab's folder.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let log = format!("{}-{}.log", self.name(), program.to_string_lossy());
        Process::start(command, &self.directory().join(log))
    }

    /// Runs `ip` commands, one a line, without the word `ip`. IPv6 addresses can be used on return.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = self.command("ip")?;
        let finished = Finished::run(command.args(["-batch", "-"]), lines)?;
        finished
            .success()
            .with_context(|| format!("on {}, one of:\n{lines}", self.name()))?;
        if lines.contains("address add") {
            until(&format!("IPv6 addresses of {}", self.name()), ADDRESS, || {
                self.run(no_address_is_tentative).ok()?.then_some(())
            })?;
        }
        Ok(())
    }

    /// Writes a setting such as `net.ipv4.ip_forward`; an interface name may not hold a dot.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.run(|| fs::write(&path, value))
            .with_context(|| format!("set {name} to {value} on {}", self.name()))
    }

    /// Routes packets that are not its own, in both families.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Joins this host's new interface to a new one of `peer` by a veth pair, both up.
    ///
    /// Each end computes its checksums in software and receives by NAPI (GRO), as an XDP program at
    /// the other end needs: one reads checksums and VLAN tags as they are in the frame, and can
    /// redirect to it. For XDP_TX see [`Host::take_xdp_tx`].
    pub fn connect(&self, interface: &str, peer: &Self, peer_interface: &str) -> Result<()> {
        let path = peer.namespace().path();
        self.ip(&format!(
            "link add {interface} type veth peer name {peer_interface} netns {}\nlink set dev {interface} up",
            path.display()
        ))?;
        peer.ip(&format!("link set dev {peer_interface} up"))?;
        self.execute(&format!("ethtool -K {interface} {OFFLOADS}"))?;
        peer.execute(&format!("ethtool -K {peer_interface} {OFFLOADS}"))?;
        Ok(())
    }

    /// Lets this end of a veth take what an XDP program at the other end sends with XDP_TX.
    pub fn take_xdp_tx(&self, interface: &str) -> Result<()> {
        let attached = self.run(|| xdp_pass::attach(interface))?;
        self.inner
            .attached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(attached);
        Ok(())
    }

    /// An interface's MAC address.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let shown = self.execute(&format!("ip -br link show dev {interface}"))?;
        let mac = shown.split_whitespace().nth(2);
        Ok(mac
            .with_context(|| format!("no MAC address in `{}`", shown.trim()))?
            .to_owned())
    }
}

/// Whether every IPv6 address of the calling thread's namespace can be used. Even without duplicate
/// address detection the kernel makes them so in the background, when the link is ready.
fn no_address_is_tentative() -> io::Result<bool> {
    /// `IFA_F_TENTATIVE`, linux/if_addr.h.
    const TENTATIVE: u32 = 0x40;
    let text = fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    // Address, interface index, prefix length, scope, flags, name.
    let flags = text.lines().filter_map(|line| line.split_whitespace().nth(4));
    Ok(flags
        .filter_map(|flags| u32::from_str_radix(flags, 16).ok())
        .all(|flags| flags & TENTATIVE == 0))
}
