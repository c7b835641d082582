//! The real daemon on a host, with pins, a socket and a config of its own.

use super::{Admin, DaemonConfig, Finished, Host, Process, pins, until};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Counts the daemons of this process, to keep their names apart.
static DAEMONS: AtomicU32 = AtomicU32::new(0);

/// Loading and verifying the programs takes about a second; a machine that builds at the same time takes many.
const START: Duration = Duration::from_secs(120);

/// The time for a small change to be in force.
const CHANGE: Duration = Duration::from_secs(5);

/// A running daemon. Dropped, it is killed and what it pinned is unloaded.
pub struct Daemon {
    host: Host,
    binary: PathBuf,
    config: PathBuf,
    pin_path: PathBuf,
    admin: Admin,
    process: Option<Process>,
    /// Those that others have taken over from.
    leaving: Vec<Process>,
}

impl Daemon {
    /// Starts `weir run` and waits until the kernel plane runs its first generation.
    ///
    /// # Errors
    /// It ended or has no kernel plane; the message holds what it printed.
    pub fn start(host: &Host, config: &DaemonConfig) -> Result<Self> {
        let mut daemon = Self::prepare(host, config)?;
        daemon.start_again()?;
        Ok(daemon)
    }

    /// All but the start: the config is written, and nothing is pinned.
    pub fn prepare(host: &Host, config: &DaemonConfig) -> Result<Self> {
        let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
        let directory = host.directory();
        let lab = directory.file_name().and_then(|name| name.to_str());
        let lab = lab.context("a lab's folder has a name")?;
        let daemon = Self {
            host: host.clone(),
            binary: weir_binary()?,
            config: directory.join(format!("weir-{number}.yaml")),
            pin_path: pins::pin_path(&format!("{lab}-{number}"))?,
            admin: Admin::new(&directory.join(format!("weir-{number}.sock"))),
            process: None,
            leaving: Vec::new(),
        };
        daemon.write(config)?;
        Ok(daemon)
    }

    /// Starts the daemon after [`Daemon::kill`] or [`Daemon::prepare`]; it should adopt what is pinned.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the daemon runs already");
        let mut command = self.host.command(&self.binary.to_string_lossy())?;
        command.arg("run").arg(&self.config).env("NO_COLOR", "1");
        let mut process = self.host.spawn(&mut command)?;
        let waited = until("the daemon's kernel plane", START, || {
            let status = self.admin.status().ok();
            // A socket left by a killed daemon answers nothing, so this is the new one's answer.
            let generation = status.and_then(|status| status["kernel"]["generation"].as_u64());
            (generation.is_some() || process.ended().is_some()).then_some(())
        });
        process.check()?;
        let absent = self
            .admin
            .status()
            .map(|status| status["kernel"]["absent"].clone());
        waited.with_context(|| format!("{absent:?}; it printed:\n{}", process.output()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts another process that takes over from the one that runs, and waits until it serves. The program is started by these words,
    /// if there are any: `unshare --pid --fork`.
    ///
    /// # Errors
    /// It ended; the message holds what it printed.
    pub fn take_over(&mut self, words: &[&str]) -> Result<()> {
        let binary = self.binary.to_string_lossy();
        let mut command = self.host.command(words.first().unwrap_or(&&*binary))?;
        if let Some((_, words)) = words.split_first() {
            command.args(words).arg(&*binary);
        }
        command
            .arg("run")
            .arg(&self.config)
            .arg("--take-over")
            .env("NO_COLOR", "1");
        let number = self.leaving.len() + 1;
        let log = self.config.with_extension(format!("{number}.log"));
        let heir = take_over(&mut command, &log)?;
        self.leaving.extend(self.process.replace(heir));
        Ok(())
    }

    /// Waits until all processes that were taken over from have ended, each with success.
    pub fn expect_left(&mut self) -> Result<()> {
        expect_left(&mut self.leaving)
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where it pins maps and links.
    pub fn pin_path(&self) -> &Path {
        &self.pin_path
    }

    /// Its program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A client of its admin API.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// Checks that it still runs.
    pub fn check(&mut self) -> Result<()> {
        self.process.as_mut().context("the daemon was killed")?.check()
    }

    /// Writes the config file; whole at once, as an editor does, since the daemon may be watching.
    pub fn write(&self, config: &DaemonConfig) -> Result<()> {
        self.write_bytes(config.text(&self.pin_path, self.admin.socket()).as_bytes())
    }

    /// Writes anything as the config file.
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<()> {
        let new = self.config.with_extension("new");
        fs::write(&new, bytes)?;
        fs::rename(&new, &self.config).with_context(|| format!("write {}", self.config.display()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process
            .as_ref()
            .context("the daemon was killed")?
            .signal(signal)
    }

    /// Has the daemon read its config again, through the API, and waits until it is in force.
    pub fn reload(&self, config: &DaemonConfig) -> Result<Value> {
        self.write(config)?;
        let answer = self.admin.expect_success("POST", "/reload", None)?;
        self.wait_in_force()?;
        Ok(answer)
    }

    /// Changes an endpoint's weight or drains it, and waits until that is in force.
    pub fn set_endpoint(&self, cluster: &str, address: SocketAddr, change: &Value) -> Result<()> {
        let path = format!("/clusters/{cluster}/endpoints/{address}");
        self.admin.expect_success("PATCH", &path, Some(change))?;
        self.wait_in_force()
    }

    /// Drains an endpoint.
    pub fn drain(&self, cluster: &str, address: SocketAddr) -> Result<()> {
        self.set_endpoint(cluster, address, &json!({"drain": true}))
    }

    /// The config's text for a daemon with another admin socket and the same pins.
    pub fn text_for(&self, config: &DaemonConfig, socket: &Path) -> String {
        config.text(&self.pin_path, socket)
    }

    /// Waits until the kernel plane runs the newest generation.
    pub fn wait_in_force(&self) -> Result<()> {
        until("the newest generation in the kernel", CHANGE, || {
            let status = self.admin.status().ok()?;
            let wanted = status["generation"].as_u64()?;
            (status["kernel"]["generation"].as_u64()? == wanted).then_some(())
        })
    }

    /// The daemon's status.
    pub fn status(&self) -> Result<Value> {
        self.admin.status()
    }

    /// One backend's part of the status.
    pub fn backend_status(&self, service: &str, address: SocketAddr) -> Result<Value> {
        let status = self.status()?;
        let services = status["services"].as_array().into_iter().flatten();
        let mut backends = services
            .filter(|one| one["name"] == service)
            .flat_map(|one| one["backends"].as_array().into_iter().flatten());
        let wanted = address.to_string();
        let found = backends.find(|backend| backend["address"] == wanted.as_str());
        found
            .cloned()
            .with_context(|| format!("no backend {address} of {service} in {status}"))
    }

    /// Packets dropped for a reason so far.
    pub fn drops(&self, reason: &str) -> Result<u64> {
        let status = self.status()?;
        let mut drops = status["kernel"]["drops"].as_array().into_iter().flatten();
        let found = drops.find(|drop| drop["reason"] == reason);
        found
            .and_then(|drop| drop["packets"].as_u64())
            .with_context(|| format!("no {reason} in {status}"))
    }

    /// Ends the daemon with SIGKILL; what it pinned stays and forwards.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends the daemon with SIGTERM and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.expect_end()
    }

    /// Waits for the daemon, which was told to end.
    pub fn expect_end(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the daemon was killed")?;
        let status = until("the daemon's end", CHANGE, || process.ended())?;
        ensure!(
            status.success(),
            "the daemon ended with {status}: {}",
            process.output()
        );
        Ok(())
    }

    /// Runs another verb of `weir` on the same host.
    pub fn weir(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.host.command(&self.binary.to_string_lossy())?;
        Finished::run(command.args(arguments).env("NO_COLOR", "1"), "")
    }

    /// `weir unload` for its pins.
    pub fn unload(&self) -> Result<String> {
        self.weir(&["unload", "--pin-path", &self.pin_path.to_string_lossy()])?
            .success()
    }

    /// A pinned object by its name.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.pin_path.join(name)
    }
}

/// Starts a process that takes over from another, and waits until it serves.
pub(crate) fn take_over(command: &mut Command, log: &Path) -> Result<Process> {
    let mut heir = Process::start(command, log)?;
    let waited = until("the process that takes over", START, || {
        (heir.output().contains(" ready: ") || heir.ended().is_some()).then_some(())
    });
    heir.check()?;
    waited.with_context(|| format!("it printed:\n{}", heir.output()))?;
    Ok(heir)
}

/// Waits until processes that were taken over from have ended, each with success.
pub(crate) fn expect_left(leaving: &mut Vec<Process>) -> Result<()> {
    for mut process in leaving.drain(..) {
        let status = until("the end of a process that was taken over from", START, || {
            process.ended()
        })?;
        ensure!(status.success(), "it ended with {status}: {}", process.output());
    }
    Ok(())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process = None;
        // Best effort: the lab removes the pins by hand when it goes.
        let _ = self.unload();
    }
}

/// The binary under test: WEIR_BIN, or the newest of those that cargo built beside this program.
pub fn weir_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("WEIR_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "WEIR_BIN is {}, which is no file", path.display());
        return Ok(path.canonicalize()?);
    }
    let program = env::current_exe().context("this program's own path")?;
    let candidates = program.ancestors().skip(1).take(3).flat_map(|folder| {
        [
            folder.join("weir"),
            folder.join("release/weir"),
            folder.join("debug/weir"),
        ]
    });
    let built = candidates.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)));
    match built.max() {
        Some((_, path)) => Ok(path),
        None => bail!(
            "there is no `weir` beside {}: run `cargo xtask build`",
            program.display()
        ),
    }
}
