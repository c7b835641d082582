//! A proxy under load: started on its own CPU with one worker, and what it used of CPU time and memory.

use super::{
    configs,
    job::{Job, Kind},
    peers::Peers,
};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use weir_tests::lab::{Process, until};

/// Until a proxy listens: 100,000 routes take one of them long.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The proxies, in the order of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Subject {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// The bare hyper proxy: a floor, no peer.
    Bare,
    /// Weir.
    Weir,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nginx, Self::Haproxy, Self::Envoy, Self::Bare, Self::Weir];

    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Bare => "bare hyper",
            Self::Weir => "Weir",
        }
    }

    /// Whether Weir is compared with it.
    pub fn is_peer(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy | Self::Envoy)
    }

    /// Whether it does such work at all.
    pub fn can(self, job: &Job) -> bool {
        self != Self::Bare || (job.kind != Kind::Tcp && job.routes.count == 0)
    }
}

/// A running proxy; killed when dropped.
pub struct Proxy {
    /// Which.
    pub subject: Subject,
    /// Where clients connect.
    pub address: SocketAddr,
    /// From its start until it listened.
    pub start: Duration,
    process: Process,
    folder: PathBuf,
}

/// Where proxies run, and with what.
pub struct Site<'a> {
    /// The programs.
    pub peers: &'a Peers,
    /// For configurations and logs; holds the certificate.
    pub folder: &'a Path,
    /// The proxy's CPU.
    pub cpu: usize,
}

impl Site<'_> {
    /// Starts a proxy and waits until it accepts connections.
    ///
    /// # Errors
    /// When it doesn't start; the message holds what it printed.
    pub fn start(&self, subject: Subject, job: &Job, number: usize) -> Result<Proxy> {
        let folder = self.folder.join(format!("{number}-{subject:?}").to_lowercase());
        fs::create_dir_all(&folder).context("cannot create a proxy's folder")?;
        for name in ["cert.pem", "key.pem", "both.pem"] {
            fs::copy(self.folder.join(name), folder.join(name))
                .with_context(|| format!("cannot copy {name}"))?;
        }
        let words = self.command(subject, job, &folder)?;
        // It dies with the thread that starts it, and has its CPU before its first thread.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", &self.cpu.to_string()])
            .args(&words)
            .current_dir(&folder);
        let begin = Instant::now();
        let mut process = Process::start(&mut command, &folder.join("log"))?;
        until(subject.name(), START_LIMIT, || {
            (process.ended().is_some() || TcpStream::connect(job.from).is_ok()).then_some(())
        })?;
        process.check()?;
        Ok(Proxy {
            subject,
            address: job.from,
            start: begin.elapsed(),
            process,
            folder,
        })
    }

    /// Writes the configuration, and returns the command line that runs it.
    fn command(&self, subject: Subject, job: &Job, folder: &Path) -> Result<Vec<String>> {
        let write = |name: &str, text: String| {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
        };
        let (program, words): (PathBuf, &str) = match subject {
            Subject::Nginx => {
                write("nginx.conf", configs::nginx(job, self.peers.nginx_stream))?;
                (self.peers.nginx.clone(), "-e stderr -c nginx.conf -p ./")
            }
            Subject::Haproxy => {
                write("haproxy.cfg", configs::haproxy(job))?;
                write(configs::MAP, configs::haproxy_map(job))?;
                (self.peers.haproxy.clone(), "-db -f haproxy.cfg")
            }
            Subject::Envoy => {
                write("envoy.json", configs::envoy(job, folder))?;
                let words = "-c envoy.json --concurrency 1 --disable-hot-restart -l error";
                (self.peers.envoy.clone(), words)
            }
            Subject::Bare => return bare(job),
            Subject::Weir => {
                write("weir.yaml", configs::weir(job, folder))?;
                let words = "run weir.yaml --no-kernel --workers 1";
                (
                    std::env::var_os("WEIR_BIN").map_or_else(|| shell::weir("release"), PathBuf::from),
                    words,
                )
            }
        };
        let mut command = vec![program.to_string_lossy().into_owned()];
        command.extend(words.split(' ').map(str::to_owned));
        Ok(command)
    }
}

/// Ourselves, as the bare proxy.
fn bare(job: &Job) -> Result<Vec<String>> {
    let program = std::env::current_exe().context("where are we?")?;
    let (from, to) = (job.from, job.to);
    let words = format!("bench bare-hyper --from {from} --to {to}");
    let more = match job.kind {
        Kind::Tls => " --tls .",
        Kind::H2c => " --http2-from --http2-to",
        Kind::Http1 => "",
        Kind::Tcp => bail!("the bare proxy speaks HTTP"),
    };
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(format!("{words}{more}").split(' ').map(str::to_owned));
    Ok(command)
}

impl Proxy {
    /// Where its configuration is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// CPU time of all its threads so far, of user and kernel, in seconds. From the scheduler's own count, which is in
    /// nanoseconds where `utime` and `stime` are in ticks of 10 ms.
    ///
    /// # Errors
    /// It has ended: the message holds what it printed.
    pub fn cpu_seconds(&mut self) -> Result<f64> {
        self.process.check()?;
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            // A thread that has just ended is no error.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().unwrap_or_default();
            nanoseconds += first.parse::<u64>().unwrap_or_default();
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Memory, in bytes: its share of what it maps (PSS).
    ///
    /// # Errors
    /// When the kernel doesn't say.
    pub fn memory_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let kib = text.lines().find_map(|line| {
            line.strip_prefix("Pss:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        Ok(kib.context("no Pss in smaps_rollup")? << 10)
    }
}
