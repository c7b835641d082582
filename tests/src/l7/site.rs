//! Where the L7 tests of one program run: a namespace, a folder, and the servers that all of them share.

use super::{Authority, Backend, HttpFiles};
use crate::lab::{Finished, Host, Lab, Process, tool};
use anyhow::{Context, Result, ensure};
use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// The first port given out; below the kernel's ephemeral ports, which clients have.
const FIRST_PORT: u16 = 10_000;

/// An interpreter with a cold cache takes seconds to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The namespace and the folder of this program's tests.
pub struct Site {
    host: Host,
    next_port: AtomicU16,
    authority: OnceLock<Authority>,
    backend: OnceLock<Backend>,
    files: OnceLock<HttpFiles>,
    grpc: OnceLock<Server>,
    websocket: OnceLock<Server>,
    keeper: mpsc::SyncSender<Job>,
    lab: Lab,
}

type Job = Box<dyn FnOnce() + Send>;

/// A server of one port, as long as this.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Held to keep it running.
    pub process: Process,
}

static SITE: OnceLock<Site> = OnceLock::new();

impl Site {
    /// This program's, made when first asked for.
    ///
    /// # Panics
    /// When it can't be made: no test can go on then.
    pub fn shared() -> &'static Self {
        SITE.get_or_init(|| Self::new().expect("make the site of the L7 tests"))
    }

    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let host = lab.host("l7")?;
        // Children die with the thread that starts them, and a test's thread ends with the test: what is shared is
        // started by a thread that lives as long as the program.
        let (keeper, jobs) = mpsc::sync_channel::<Job>(0);
        thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        // A static is never dropped, so the folder is removed on exit.
        // SAFETY: the handler is a plain function without arguments, as atexit wants it.
        unsafe { libc::atexit(remove_folder) };
        Ok(Self {
            host,
            next_port: AtomicU16::new(FIRST_PORT),
            authority: OnceLock::new(),
            backend: OnceLock::new(),
            files: OnceLock::new(),
            grpc: OnceLock::new(),
            websocket: OnceLock::new(),
            keeper,
            lab,
        })
    }

    /// The namespace.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A folder that is removed with the program.
    pub fn folder(&self) -> &Path {
        self.lab.directory()
    }

    /// A folder of one test's own in it.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder().join(format!("{name}-{}", self.port().port()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// An address on loopback that nobody has.
    pub fn port(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.next_port.fetch_add(1, Ordering::Relaxed)))
    }

    /// The authority that signs the certificates of this site.
    pub fn authority(&self) -> &Authority {
        self.authority
            .get_or_init(|| Authority::new(self.folder(), "ca").expect("make a certificate authority"))
    }

    /// The scripted HTTP backend.
    pub fn backend(&self) -> &Backend {
        self.backend
            .get_or_init(|| self.keep(|| Backend::start(self, "backend").expect("start the HTTP backend")))
    }

    /// nginx with big files.
    pub fn files(&self) -> &HttpFiles {
        self.files
            .get_or_init(|| self.keep(|| HttpFiles::start(self).expect("start nginx")))
    }

    /// The gRPC server.
    pub fn grpc(&self) -> &Server {
        self.grpc.get_or_init(|| self.python_server("grpc_server.py"))
    }

    /// The WebSocket server.
    pub fn websocket(&self) -> &Server {
        self.websocket.get_or_init(|| self.python_server("ws_server.py"))
    }

    fn python_server(&self, name: &str) -> Server {
        self.keep(|| {
            let address = self.port();
            let start = || -> Result<Server> {
                let mut command = python(self, name)?;
                let mut process = self.host.spawn(command.arg(address.port().to_string()))?;
                self.wait_for(address, &mut process)?;
                Ok(Server { address, process })
            };
            start().unwrap_or_else(|error| panic!("start {name}: {error:#}"))
        })
    }

    /// Runs this on a thread that lives as long as the program; processes started there do, too.
    pub fn keep<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let mut result = None;
        let (done, wait) = mpsc::sync_channel::<()>(0);
        {
            let result = &mut result;
            let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
                *result = Some(work());
                drop(done);
            });
            // SAFETY: this function doesn't return before the job has run or was dropped (`done` is gone then, with
            // all that the job borrows), so that nothing borrowed is used later than it lives.
            let job = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
            assert!(self.keeper.send(job).is_ok(), "the keeping thread is there");
            let _ = wait.recv();
        }
        result.expect("what was to be kept could be started: see the panic above")
    }

    /// Waits until a server accepts connections.
    pub fn wait_for(&self, address: SocketAddr, process: &mut Process) -> Result<()> {
        crate::lab::until(&format!("a server on {address}"), START, || {
            let connected = self.host.run(|| TcpStream::connect(address).is_ok());
            (connected || process.ended().is_some()).then_some(())
        })?;
        process.check()
    }

    /// Runs a shell command line to its end in the site's folder.
    pub fn shell(&self, line: &str) -> Result<Finished> {
        let mut command = self.host.command("bash")?;
        Finished::run(
            command
                .args(["-euo", "pipefail", "-c", line])
                .current_dir(self.folder()),
            "",
        )
    }
}

extern "C" fn remove_folder() {
    if let Some(site) = SITE.get()
        && env::var_os("WEIR_LAB_KEEP").is_none()
    {
        let _ = fs::remove_dir_all(site.folder());
    }
}

/// A file of tests/data/l7.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/l7").join(name)
}

/// A Python script of tests/data/l7, with the packages of tests/requirements.txt.
///
/// # Errors
/// They are not installed; the message says how to get them.
pub fn python(site: &Site, name: &str) -> Result<Command> {
    let mut command = site.host.command(&venv_program("python")?.to_string_lossy())?;
    command
        .arg(data(name))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    Ok(command)
}

/// A Node script of tests/data/l7.
///
/// # Errors
/// Node is not installed; the message says how to get it.
pub fn script(site: &Site, name: &str) -> Result<Command> {
    let mut command = site.host.command(&tool("node")?.to_string_lossy())?;
    // Where Debian puts Node's packages; its own node looks there anyway, others don't.
    command.arg(data(name)).env("NODE_PATH", "/usr/share/nodejs");
    Ok(command)
}

/// A program of the Python environment that `cargo xtask setup` makes.
///
/// # Errors
/// It isn't there.
pub fn venv_program(name: &str) -> Result<PathBuf> {
    let tools = match env::var_os("WEIR_TOOLS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
    };
    let path = tools.join("venv/bin").join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `cargo xtask setup`",
        path.display()
    );
    Ok(path)
}
