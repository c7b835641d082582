//! The daemon without its kernel plane, as a newcomer starts it.

use super::Site;
use crate::lab::{Admin, Process, expect_left, take_over, until, weir_binary};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// More than starting or changing a config takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A running daemon; killed when dropped.
pub struct Weir {
    process: Process,
    /// Those that others have taken over from.
    leaving: Vec<Process>,
    admin: Admin,
    config: PathBuf,
    folder: PathBuf,
}

impl Weir {
    /// Starts `weir run FILE --no-kernel --workers 2` with this YAML, and waits until every TCP listener in it accepts.
    ///
    /// # Errors
    /// It ended, or doesn't listen; the message holds what it printed.
    pub fn start(site: &Site, config: &str) -> Result<Self> {
        Self::start_in(site, site.subfolder("weir")?, config)
    }

    /// As [`Weir::start`], with a folder that holds what the config names. A file `hosts` in it is the daemon's
    /// /etc/hosts.
    pub fn start_in(site: &Site, folder: PathBuf, config: &str) -> Result<Self> {
        let path = folder.join("weir.yaml");
        let admin = Admin::new(&folder.join("weir.sock"));
        let addresses = listen_addresses(config)?;
        let binary = weir_binary()?;
        let mut command = if folder.join("hosts").is_file() {
            let mut command = site.host().command("unshare")?;
            let script = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";
            command.args(["--mount", "sh", "-c", script]).arg(&binary);
            command
        } else {
            site.host().command(&binary.to_string_lossy())?
        };
        command
            .arg("run")
            .arg(&path)
            .args(["--no-kernel", "--workers", "2"])
            .current_dir(&folder)
            .env("NO_COLOR", "1");
        write(&path, &with_admin(config, admin.socket()))?;
        let process = Process::start(&mut command, &folder.join("weir.log"))?;
        let mut weir = Self {
            process,
            leaving: Vec::new(),
            admin,
            config: path,
            folder,
        };
        for address in addresses {
            let waited = until(&format!("the daemon on {address}"), LIMIT, || {
                let connected = site.host().run(|| TcpStream::connect(address).is_ok());
                (connected || weir.process.ended().is_some()).then_some(())
            });
            weir.process.check()?;
            waited.with_context(|| format!("it printed:\n{}", weir.output()))?;
        }
        Ok(weir)
    }

    /// Starts another process that takes over from the one that runs, and waits until it serves.
    ///
    /// # Errors
    /// It ended; the message holds what it printed.
    pub fn take_over(&mut self, site: &Site) -> Result<()> {
        let mut command = site.host().command(&weir_binary()?.to_string_lossy())?;
        command
            .arg("run")
            .arg(&self.config)
            .args(["--no-kernel", "--workers", "2", "--take-over"])
            .current_dir(&self.folder)
            .env("NO_COLOR", "1");
        let log = self.folder.join(format!("weir-{}.log", self.leaving.len() + 1));
        let heir = take_over(&mut command, &log)?;
        self.leaving.push(std::mem::replace(&mut self.process, heir));
        Ok(())
    }

    /// Waits until all processes that were taken over from have ended, each with success.
    pub fn expect_left(&mut self) -> Result<()> {
        expect_left(&mut self.leaving)
    }

    /// Puts another config in force.
    pub fn reload(&self, config: &str) -> Result<Value> {
        write(&self.config, &with_admin(config, self.admin.socket()))?;
        self.admin.expect_success("POST", "/reload", None)
    }

    /// A client of its admin API.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The folder of its config.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Most bytes of memory it had at a time (VmHWM of proc_pid_status(5)).
    pub fn peak_memory(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Bytes of memory it has (VmRSS).
    pub fn memory(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// Sets the peak back to what it has now (proc_pid_clear_refs(5)).
    pub fn forget_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").context("set VmHWM back")
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .with_context(|| format!("no {field} in kB"))?;
        Ok(kibibytes.trim().parse::<u64>()? * 1024)
    }
}

/// Whole at once, as an editor does, since the daemon may be watching.
fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path).with_context(|| format!("write {}", path.display()))
}

fn with_admin(config: &str, socket: &Path) -> String {
    format!("{config}\nadmin: {{ socket: {} }}\n", socket.display())
}

/// Where its listeners can be connected to.
fn listen_addresses(config: &str) -> Result<Vec<SocketAddr>> {
    let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(config).context("the test's config is YAML")?;
    let listeners = value["listeners"].as_sequence().into_iter().flatten();
    let addresses: Vec<SocketAddr> = listeners
        .filter_map(|listener| listener["address"].as_str()?.parse().ok())
        .collect();
    ensure!(!addresses.is_empty(), "the test's config has no listener");
    Ok(addresses)
}
