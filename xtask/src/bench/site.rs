//! Where forwarding is measured: a forwarder's namespace between two veth pairs.

use super::{
    network::{self, Namespace},
    subject,
};
use crate::shell;
use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use std::fs;

/// Backends of the one service.
pub const BACKENDS: usize = 4;

/// MACs of the ends' and the forwarder's side, on both pairs.
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// A forwarder's namespace between two veth pairs.
pub struct Site {
    /// The forwarder's.
    pub namespace: Namespace,
    role: &'static str,
}

impl Site {
    /// Makes namespace and pairs, with routes and neighbours for the bench's packets, and polling
    /// by kernel threads.
    ///
    /// # Errors
    /// When `ip` or `ethtool` fails.
    pub fn new(ends: &Namespace, role: &'static str) -> Result<Self> {
        let this = Self {
            namespace: Namespace::new(role)?,
            role,
        };
        for (outer, inner) in this.outer_names().iter().zip(&this.inner_names()) {
            ends.connect(outer, &this.namespace, inner, MACS)?;
            // NAPI on both ends: without an XDP program veth has it only with GRO on.
            ends.shell(&format!(
                "ethtool -K {outer} gro on; echo 1 > /sys/class/net/{outer}/threaded"
            ))?;
            this.namespace.shell(&format!(
                "ethtool -K {inner} gro on; echo 1 > /sys/class/net/{inner}/threaded"
            ))?;
        }
        let [arriving, leaving] = this.inner_names();
        this.namespace.shell(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; \
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        )?;
        this.namespace
            .ip(&format!("addr add 192.0.2.1/24 dev {arriving}"))?;
        this.namespace.ip("route add 198.18.0.0/15 via 192.0.2.2")?;
        let mac = "02:00:00:00:00:01";
        this.namespace.ip(&format!(
            "neigh add 192.0.2.2 lladdr {mac} dev {arriving} nud permanent"
        ))?;
        this.namespace
            .ip(&format!("addr add {}/24 dev {leaving}", subject::NAT_SOURCES.0))?;
        this.namespace.ip(&format!(
            "addr add {}/64 dev {leaving} nodad",
            subject::NAT_SOURCES.1
        ))?;
        for address in (0..BACKENDS).flat_map(subject::backend) {
            this.namespace.ip(&format!(
                "neigh add {address} lladdr {mac} dev {leaving} nud permanent"
            ))?;
        }
        Ok(this)
    }

    /// Interfaces at the ends: the generator's and the receiver's. Unique on the machine, since
    /// kernel threads are told apart by them.
    pub fn outer_names(&self) -> [String; 2] {
        let initial = &self.role[..1];
        ["g", "r"].map(|end| format!("{initial}{end}{}", std::process::id()))
    }

    /// Interfaces of the forwarder: packets arrive by the first and leave by the second.
    pub fn inner_names(&self) -> [String; 2] {
        let initial = &self.role[..1];
        ["a", "l"].map(|end| format!("{initial}{end}{}", std::process::id()))
    }

    /// The kernel's own NAT: the same service, backends and translation, in the usual rules.
    ///
    /// # Errors
    /// When `nft` refuses them.
    pub fn translate(&self) -> Result<()> {
        let leaving = &self.inner_names()[1];
        let (vip, port) = (subject::VIPS[0].ip(), subject::VIPS[0].port());
        let backends: Vec<String> = (0..BACKENDS)
            .map(|index| format!("{index} : {}", subject::backend(index)[0]))
            .collect();
        let rules = format!(
            "table ip nat {{
               chain prerouting {{
                 type nat hook prerouting priority dstnat;
                 ip daddr {vip} udp dport {port} dnat to numgen inc mod {BACKENDS} map {{ {} }} : {}
               }}
               chain postrouting {{
                 type nat hook postrouting priority srcnat;
                 oifname {leaving} masquerade
               }}
             }}",
            backends.join(", "),
            subject::BACKEND_PORT,
        );
        self.namespace.shell(&format!("nft '{rules}'"))
    }

    /// Gives the kernel threads that poll this site's interfaces their CPUs, and returns the one
    /// that forwards.
    ///
    /// # Errors
    /// When there is no such thread.
    pub fn own_threads(&self, ends_cpu: usize, forwarder_cpu: usize) -> Result<Pid> {
        let [_, receiver] = self.outer_names();
        let receiver = napi_thread(&receiver)?;
        let forwarder = napi_thread(&self.inner_names()[0])?;
        for (thread, cpu) in [(receiver, ends_cpu), (forwarder, forwarder_cpu)] {
            network::pin(Some(thread), cpu)?;
            // The receiver shares its CPU with the generator. Run at once whenever something
            // arrives, it keeps up; in turns of milliseconds, veth's ring of 256 frames would
            // overflow. The forwarder is kept from sharing its CPU with whatever else runs here.
            let id = thread.as_raw_nonzero().to_string();
            shell::run(&mut shell::command("chrt", &["--fifo", "--pid", "1", &id]))?;
        }
        Ok(forwarder)
    }
}

/// The kernel thread that polls an interface; its name starts with `napi/INTERFACE-`.
fn napi_thread(interface: &str) -> Result<Pid> {
    // Names of kernel threads are cut off at 15 characters.
    let wanted: String = format!("napi/{interface}-").chars().take(15).collect();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with(&wanted) {
            let id = path
                .file_name()
                .and_then(|id| id.to_str())
                .and_then(|id| id.parse().ok());
            return id.and_then(Pid::from_raw).context("a process without a number");
        }
    }
    bail!("{interface} has no NAPI thread: does this kernel have threaded NAPI (5.12 or later)?")
}

/// Nanoseconds a thread has been on a CPU (Documentation/scheduler/sched-stats.rst).
///
/// # Errors
/// When the kernel doesn't say.
pub fn runtime(thread: Pid) -> Result<u64> {
    let path = format!("/proc/{}/schedstat", thread.as_raw_nonzero());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .context("schedstat without numbers")
}
