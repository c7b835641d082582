//! A real DNS server (dnsmasq) whose records change, that dies and comes back.

use super::*;
use crate::model::{Cluster, ClusterName, DnsEndpoint, l7::L7Settings};
use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A server on loopback, in a directory of its own; killed and removed at the end.
struct Server {
    child: Option<Child>,
    hosts: PathBuf,
    address: SocketAddr,
}

impl Server {
    fn start(records: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let hosts = std::env::temp_dir().join(format!("weir-hosts-{}-{number}", std::process::id()));
        let mut server = Self {
            child: None,
            hosts,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        server.set(records);
        // A port that was free a moment ago may be taken by now, for TCP too.
        loop {
            let free = UdpSocket::bind("127.0.0.1:0").unwrap();
            server.address = free.local_addr().unwrap();
            drop(free);
            if server.run() {
                return server;
            }
        }
    }

    /// Returns whether it came up, when it takes queries.
    fn run(&mut self) -> bool {
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--local-ttl=1",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--local=/test/",
                "--user=root",
                "--pid-file=",
            ])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--addn-hosts={}", self.hosts.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("dnsmasq is installed: cargo xtask setup");
        while !is_answering(self.address) {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
        }
        self.child = Some(child);
        true
    }

    /// Lines as in /etc/hosts; read at once by a server that runs.
    fn set(&self, records: &str) {
        fs::write(&self.hosts, records).unwrap();
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            let hangup = Command::new("kill").args(["-s", "HUP", &id]).status().unwrap();
            assert!(hangup.success());
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Whether a query comes back, with whatever answer.
fn is_answering(server: SocketAddr) -> bool {
    /// Which addresses has `test.`?
    const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x01\0\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket.send(QUERY).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        fs::remove_file(&self.hosts).unwrap();
    }
}

fn clusters(names: &[&str]) -> Clusters {
    let name = ClusterName("web".into());
    let dns = names.iter().map(|name| DnsEndpoint {
        name: (*name).into(),
        port: 80,
        weight: 1,
        drain: false,
    });
    let cluster = Cluster {
        name: name.clone(),
        endpoints: Vec::new(),
        dns: dns.collect(),
        health_check: None,
        l7: L7Settings::default(),
    };
    Clusters::from([(name, cluster.into())])
}

impl Answer {
    /// For tests: what a task would send.
    pub(crate) fn of(name: &str, outcome: Result<Vec<IpAddr>, String>) -> Self {
        Self {
            name: name.into(),
            outcome,
            task: 0,
        }
    }
}

fn found(texts: &[&str]) -> Result<Vec<IpAddr>, String> {
    Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// Waits for an outcome; others may come before it.
async fn until(discovery: &mut Discovery, name: &str, is_it: impl Fn(&Result<Vec<IpAddr>, String>) -> bool) {
    let waiting = async {
        loop {
            let answer = discovery.next().await;
            if &*answer.name == name && is_it(&answer.outcome) {
                return;
            }
        }
    };
    let most = Duration::from_secs(60);
    time::timeout(most, waiting)
        .await
        .unwrap_or_else(|_| panic!("{name}: never"));
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn addresses_follow_the_server() {
    run(async {
        let mut server =
            Server::start("192.0.2.2 a.test\n192.0.2.1 a.test\n2001:db8::1 a.test\n192.0.2.9 b.test\n");
        let mut discovery = Discovery::new(&[server.address]);
        discovery.follow(&clusters(&["a.test", "b.test", "none.test"]));
        let both = found(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        until(&mut discovery, "a.test", |outcome| *outcome == both).await;

        server.set("192.0.2.3 a.test\n192.0.2.9 b.test\n");
        until(&mut discovery, "a.test", |outcome| {
            *outcome == found(&["192.0.2.3"])
        })
        .await;

        // A name that is gone, and a server that is: an error each, which takes nothing away (control keeps what it had).
        server.set("192.0.2.9 b.test\n");
        until(&mut discovery, "a.test", Result::is_err).await;
        server.set("192.0.2.3 a.test\n192.0.2.4 a.test\n192.0.2.9 b.test\n");
        until(&mut discovery, "a.test", |outcome| {
            *outcome == found(&["192.0.2.3", "192.0.2.4"])
        })
        .await;
        server.kill();
        until(&mut discovery, "b.test", Result::is_err).await;
        assert!(server.run());
        until(&mut discovery, "b.test", |outcome| {
            *outcome == found(&["192.0.2.9"])
        })
        .await;

        // Names that no cluster has any more are forgotten, also with an answer on its way.
        discovery.follow(&clusters(&["none.test"]));
        assert_eq!(discovery.running.len(), 1);
        assert_eq!(
            discovery.try_next().filter(|answer| &*answer.name != "none.test"),
            None
        );
    });
}

#[test]
fn the_first_answers_are_waited_for_and_no_longer() {
    run(async {
        let server = Server::start("192.0.2.1 a.test\n");
        let mut discovery = Discovery::new(&[server.address]);
        discovery.follow(&clusters(&["a.test"]));
        let first = discovery.first(Duration::from_secs(30)).await;
        let outcomes: Vec<_> = first.into_iter().map(|answer| answer.outcome).collect();
        assert_eq!(outcomes, [found(&["192.0.2.1"])]);
        discovery.follow(&Clusters::new());
        assert_eq!(discovery.first(Duration::from_secs(30)).await, []);
        // Nobody answers at a port that is taken and silent.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut discovery = Discovery::new(&[silent.local_addr().unwrap()]);
        discovery.follow(&clusters(&["a.test"]));
        assert_eq!(discovery.first(Duration::from_millis(50)).await, []);
    });
}

#[test]
fn the_hosts_file_comes_first() {
    run(async {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut discovery = Discovery::new(&[silent.local_addr().unwrap()]);
        discovery.follow(&clusters(&["localhost"]));
        until(&mut discovery, "localhost", |outcome| {
            outcome
                .as_ref()
                .is_ok_and(|all| all.contains(&"127.0.0.1".parse().unwrap()))
        })
        .await;
    });
}

#[test]
fn pauses() {
    let seconds = Duration::from_secs;
    let table = [
        (Some(seconds(0)), 0, 1.0..=1.0),
        (Some(seconds(30)), 0, 30.0..=30.0),
        (Some(seconds(86_400)), 0, 3_600.0..=3_600.0),
        (None, 1, 1.0..=1.0),
        (None, 2, 1.5..=2.0),
        (None, 5, 12.0..=16.0),
        (None, 6, 22.5..=30.0),
        (None, u32::MAX, 22.5..=30.0),
        (Some(seconds(3_600)), 1, 1.0..=1.0),
    ];
    for (lifetime, failures, expected) in table {
        let pause = pause(lifetime, failures).as_secs_f64();
        assert!(
            expected.contains(&pause),
            "{lifetime:?} after {failures}: {pause} s"
        );
    }
}
