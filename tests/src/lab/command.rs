//! Programs run in hosts: to their end with their output, or in the background until dropped.

use anyhow::{Context, Result, bail};
use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// Finds a program in PATH or the system's sbin folders.
///
/// # Errors
/// It is not installed: the message names it and how to get it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("`{name}` is not installed: run `cargo xtask setup`"))
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Runs a command to its end, with `input` on its standard input.
    pub fn run(command: &mut Command, input: &str) -> Result<Self> {
        let line = command_line(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {line}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading its input is no error here: its status tells.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child
            .wait_with_output()
            .with_context(|| format!("wait for {line}"))?;
        Ok(Self {
            command: line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The standard output.
    ///
    /// # Errors
    /// The program failed: the message holds its command line and output.
    pub fn success(self) -> Result<String> {
        if !self.status.success() {
            bail!(
                "{} failed with {}: {}{}",
                self.command,
                self.status,
                self.stdout.trim_end(),
                self.stderr.trim_end()
            );
        }
        Ok(self.stdout)
    }
}

/// A program in the background; killed when dropped.
pub struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output goes to the end of the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let line = command_line(command);
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()
            .with_context(|| format!("start {line}"))?;
        Ok(Self {
            child,
            line,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended: the message holds its command line and output.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.line, self.output().trim_end());
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let id = id.context("a process id fits in 31 bits")?;
        rustix::process::kill_process(id, signal).with_context(|| format!("signal {}", self.line))
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and wait returns at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command as a shell would show it.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
