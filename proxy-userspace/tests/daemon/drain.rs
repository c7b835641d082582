//! The daemon's end in order: who asks whether it is ready is told no first, connections finish, then it is gone.

use super::support::{Daemon, Home, SOON, free_port, text, weir_on};
use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    net::TcpStream,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

struct Site {
    home: Home,
    port: u16,
    metrics: u16,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            home: Home::new(""),
            port: free_port(),
            metrics: free_port(),
        };
        site.home.write(&format!(
            "admin: {{ socket: {} }}\nmetrics: {{ address: 127.0.0.1:{} }}\ndrain: {{ notice: 1h, timeout: 1h }}\n\
             listeners:\n  - {{ name: web, address: 127.0.0.1:{}, routes: [{{ respond: {{ status: 200, body: ok }} }}] }}\n",
            site.home.socket().display(),
            site.metrics,
            site.port
        ));
        site
    }

    /// What a health check without the admin socket gets.
    fn probe(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.metrics);
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--max-time",
                "10",
                "--write-out",
                "%{http_code}",
                &url,
            ])
            .output()
            .expect("curl is installed");
        text(&curl.stdout)
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        weir_on(&self.home.socket(), arguments)
    }

    /// The exit code, and what was printed to both.
    fn said(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.weir(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    }
}

/// A connection that stays open.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    /// The head of the answer to one request more, in lower case.
    fn ask(&mut self) -> String {
        let request = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        let mut body = [0; 2];
        std::io::Read::read_exact(&mut self.0, &mut body).unwrap();
        head.to_lowercase()
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_drained_daemon_is_not_ready_first_then_lets_connections_finish_and_ends() {
    let site = Site::new();
    let daemon = Daemon::start(&site.home);
    assert_eq!(site.probe("/ready"), "ready\n200");
    assert_eq!(site.probe("/live"), "live\n200");
    assert_eq!(site.said(&["ready", "--here"]), (Some(0), "ready\n".into()));
    let mut kept = Kept::open(site.port);
    assert!(!kept.ask().contains("connection: close"));

    let (code, said) = site.said(&["drain", "--no-wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(site.probe("/ready"), "draining\n503");
    assert_eq!(site.probe("/live"), "live\n200");
    let (code, said) = site.said(&["ready"]);
    assert_eq!(
        (code, said.contains("it drains (notice)")),
        (Some(1), true),
        "{said}"
    );
    assert_eq!(site.said(&["ready", "--alive"]), (Some(0), "alive\n".into()));
    let (code, said) = site.said(&["status", "--check"]);
    assert_eq!(
        (code, said.contains("the daemon drains")),
        (Some(1), true),
        "{said}"
    );
    // Whoever hasn't noticed yet is served as before.
    assert!(Kept::open(site.port).ask().starts_with("http/1.1 200"));
    assert!(!kept.ask().contains("connection: close"));

    let waiting = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["drain", "--notice", "0s", "--socket"])
        .arg(site.home.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("closed listeners", || {
        TcpStream::connect(("127.0.0.1", site.port)).is_err()
    });
    let (code, status) = daemon.curl("GET", "/drain", None);
    assert_eq!((code, &status["state"]), (200, &"closing".into()), "{status}");
    assert_eq!(status["connections"], 1, "{status}");
    // What is to be changed now would be lost.
    assert_eq!(daemon.curl("POST", "/reload", None).0, 503);
    assert_eq!(daemon.curl("DELETE", "/drain", None).0, 503);
    assert!(kept.ask().contains("connection: close"));
    let waited = waiting.wait_with_output().unwrap();
    let said = text(&waited.stdout);
    assert!(
        waited.status.success() && said.ends_with("drained: the daemon has ended\n"),
        "{said}"
    );
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn a_drain_can_be_ended_and_refuses_what_it_does_not_understand() {
    let site = Site::new();
    let daemon = Daemon::start(&site.home);
    for (body, fault) in [
        (r#"{"notice": "soon"}"#, "notice: \"soon\" is not a duration"),
        (r#"{"timeout": "400h"}"#, "timeout: \"400h\" is out of bounds"),
        (r#"{"grace": "1s"}"#, "unknown field `grace`"),
        ("", "body: EOF"),
    ] {
        let (code, answer) = daemon.curl("POST", "/drain", Some(body));
        let error = answer["error"].as_str().unwrap();
        assert!(code == 400 && error.contains(fault), "{body}: {code} {answer}");
    }
    assert_eq!(site.probe("/ready"), "ready\n200");
    let (code, status) = daemon.curl("POST", "/drain", Some("{}"));
    assert_eq!((code, &status["state"]), (200, &"notice".into()), "{status}");
    // The next process would know nothing of it.
    let (code, said) = site.said(&["upgrade"]);
    assert!(code == Some(1) && said.contains("weir drain --cancel"), "{said}");
    assert_eq!(
        site.said(&["drain", "--cancel"]),
        (Some(0), "ready again\n".into())
    );
    assert_eq!(site.probe("/ready"), "ready\n200");
    assert_eq!(daemon.status()["drain"]["state"], "serving");
}

/// Two containers share the folder of the admin socket, and not the pid namespace.
#[test]
fn a_daemon_of_another_pid_namespace_is_not_this_containers() {
    let site = Site::new();
    let _daemon = Daemon::start(&site.home);
    let other = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args([
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ]);
        command.arg(env!("CARGO_BIN_EXE_weir")).args(arguments);
        command.arg("--socket").arg(site.home.socket());
        command
    };
    let said = other(&["ready", "--here"]).output().unwrap();
    let why = text(&said.stderr);
    assert!(
        !said.status.success() && why.contains("another container"),
        "{why}"
    );
    assert!(other(&["ready"]).status().unwrap().success());
    let mut hook = other(&["drain", "--here"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(hook.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(
        line.starts_with("another container's process is the daemon"),
        "{line}"
    );
    // It lasts as long as its container does, and has drained nobody.
    assert_eq!(hook.try_wait().unwrap(), None);
    hook.kill().unwrap();
    hook.wait().unwrap();
    assert_eq!(site.probe("/ready"), "ready\n200");
    assert!(fs::exists(site.home.socket()).unwrap());
}
