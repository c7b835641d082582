//! A daemon without a kernel plane in a directory of its own, and curl as its client.

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What happens at once or after a debounce has happened by then.
pub const SOON: Duration = Duration::from_secs(60);

/// A directory with a config and a socket; removed at the end.
pub struct Home(PathBuf);

impl Home {
    /// With a config for one TCP listener and these clusters' text.
    pub fn new(clusters: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "weir-daemon-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let home = Self(std::env::temp_dir().join(name));
        fs::create_dir(&home.0).unwrap();
        home.write(&home.config_with(clusters, ""));
        home
    }

    /// The config's text with these clusters, and more at its end.
    pub fn config_with(&self, clusters: &str, more: &str) -> String {
        let socket = self.socket();
        format!(
            "admin: {{ socket: {} }}\n\
             listeners:\n  - {{ name: web, address: \"192.0.2.10:80\", forward: {{ cluster: web }} }}\n\
             clusters:\n{clusters}{more}",
            socket.display()
        )
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("weir.yaml")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// As editors do: beside it, then renamed over.
    pub fn write(&self, text: &str) {
        let new = self.0.join("weir.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config()).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A running `weir run --no-kernel`; killed at the end.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Started, and ready.
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    /// The same, with these in its environment.
    pub fn start_with(home: &Home, environment: &[(&str, &str)]) -> Self {
        let mut command = weir(&[]);
        command.envs(environment.iter().copied());
        Self::spawn(home, command)
    }

    /// The same, by another program that becomes it: `prlimit --nofile=256`.
    pub fn start_by(home: &Home, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_weir"));
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        Self::spawn(home, command)
    }

    /// The same, with the program in another place.
    pub fn start_as(home: &Home, program: &Path) -> Self {
        let mut command = Command::new(program);
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        Self::spawn(home, command)
    }

    fn spawn(home: &Home, mut command: Command) -> Self {
        command.args(["run", "--no-kernel"]).arg(home.config());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while !said.contains("ready: ") {
            said = lines
                .next()
                .expect("the daemon ended before it was ready")
                .unwrap();
            eprintln!("{said}");
        }
        // Somebody has to read on, or the daemon would wait; and a failed test shows it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Self {
            child,
            socket: home.socket(),
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end and returns its exit code, if it had one.
    pub fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// A request by curl: the status code and the JSON that came.
    pub fn curl(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--globoff", "--max-time", "10"]);
        command.args(["--write-out", "\n%{http_code}", "--request", method]);
        command
            .arg("--unix-socket")
            .arg(&self.socket)
            .arg(format!("http://weir{path}"));
        if let Some(body) = body {
            command.args(["--data-binary", body]);
        }
        let output = command.output().expect("curl is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (
            code.parse().unwrap(),
            serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {body}")),
        )
    }

    /// Has it read its config again, of which this is the one change; no change if its own watch has read it already.
    pub fn reload(&self, change: &str) {
        let (code, answer) = self.curl("POST", "/reload", None);
        assert_eq!(code, 200, "{answer}");
        let changes = &answer["changes"];
        assert!(*changes == json!([change]) || *changes == json!([]), "{answer}");
    }

    pub fn status(&self) -> Value {
        let (code, status) = self.curl("GET", "/status", None);
        assert_eq!(code, 200);
        status
    }

    /// Waits for a status of which this is true.
    pub fn status_when(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(
                begin.elapsed() < SOON,
                "never: {what}; the last status is {status:#}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ended = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// The command line under test.
pub fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs the command line on a daemon's socket.
pub fn weir_on(socket: &Path, arguments: &[&str]) -> Output {
    weir(arguments).arg("--socket").arg(socket).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A port as [`backend`] has, with nobody on it.
pub fn free_port() -> u16 {
    backend().1.port()
}

/// A listener on a port of the loopback interface that nobody takes even when it is gone: the kernel gives out higher ones,
/// other tests of this process have others, and other processes begin at others.
pub fn backend() -> (TcpListener, SocketAddr) {
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let bind = |_| {
        let number = process::id() * 10 + COUNT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], (FIRST + number % PORTS) as u16));
        Some((TcpListener::bind(address).ok()?, address))
    };
    (0..PORTS).find_map(bind).expect("a port is free")
}
