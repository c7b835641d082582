//! A worker that panics: what its connections see, what others see, and what control makes of it.

use super::{Companions, Core, Plane};
use crate::{
    admin::metrics::Format,
    config,
    l7::{L7Plane, panics},
};
use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process, thread,
    time::{Duration, Instant},
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Enough that the kernel gives each worker some: all but one time in 2^30.
const CONNECTIONS: usize = 32;

/// A core with two workers and one listener; its folder goes with it.
struct Subject {
    core: Core,
    address: SocketAddr,
    folder: PathBuf,
}

impl Subject {
    fn start(name: &str) -> Self {
        panics::watch();
        let folder = env::temp_dir().join(format!("weir-control-{name}-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = folder.join("weir.yaml");
        let text = format!(
            "admin: {{ socket: {folder}/weir.sock }}\nstate_directory: {folder}\n\
             listeners:\n  - {{ name: web, address: \"{address}\", routes: [{{ respond: {{ status: 200, body: here }} }}] }}\n",
            folder = folder.display()
        );
        fs::write(&path, text).unwrap();
        let config = config::load(&path).unwrap();
        let plane = Plane::absent("a test", L7Plane::start(2, false, None).unwrap());
        let core = Core::start(path, config, Vec::new(), plane, Companions::default()).unwrap();
        Self {
            core,
            address,
            folder,
        }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Client(stream)
    }

    /// How many connections each worker has.
    fn connections(&self) -> Vec<u64> {
        let workers = self.core.status().l7.workers;
        workers.iter().map(|worker| worker.connections).collect()
    }

    /// Has a worker panic, and waits until its thread is gone.
    fn panic(&self, worker: usize) {
        self.core.plane.l7().panic(worker);
        until("the worker is gone", || {
            self.core.plane.l7().missing() == [worker]
        });
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// A connection that is kept.
struct Client(TcpStream);

impl Client {
    /// Whether a request with this further line is answered.
    fn ask(&mut self, line: &str) -> bool {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n");
        let mut answer = Vec::new();
        let mut buffer = [0; 1_024];
        if self.0.write_all(request.as_bytes()).is_err() {
            return false;
        }
        while !answer.ends_with(b"\r\n\r\nhere") {
            match self.0.read(&mut buffer) {
                Ok(count) if count > 0 => answer.extend_from_slice(&buffer[..count]),
                _ => return false,
            }
        }
        true
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_worker_that_panics_is_replaced_and_the_others_go_on() {
    let mut subject = Subject::start("worker");
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| subject.client()).collect();
    assert!(clients.iter_mut().all(|client| client.ask("")));
    let before = subject.connections();
    assert!(before.iter().all(|count| *count > 0), "{before:?}");

    subject.panic(0);
    assert!(subject.core.status().l7.workers[0].missing);
    let kept = clients
        .iter_mut()
        .filter_map(|client| client.ask("").then_some(()))
        .count();
    assert_eq!(kept as u64, before[1], "those of the other worker, and no others");
    // Some of these wait at the socket of the worker that is gone.
    let mut waiting: Vec<Client> = (0..CONNECTIONS).map(|_| subject.client()).collect();

    subject.core.plane.replace_workers();
    assert!(waiting.iter_mut().all(|client| client.ask("")));
    let status = subject.core.status().l7.workers;
    let of = |number: usize| {
        let worker = &status[number];
        (worker.panics, worker.replaced, worker.missing, worker.generation)
    };
    assert_eq!((of(0), of(1)), ((1, 1, false, 1), (0, 0, false, 1)));
    assert_eq!(
        status[0].connections + status[1].connections,
        before[1] + CONNECTIONS as u64
    );
    let metrics = subject.core.metrics(Format::Text);
    let metrics = String::from_utf8_lossy(&metrics);
    for line in [
        "weir_worker_panics_total{worker=\"0\"} 1\n",
        "weir_worker_replacements_total{worker=\"0\"} 1\n",
        "weir_worker_panics_total{worker=\"1\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn one_that_panics_again_and_again_waits_and_its_clients_with_it() {
    let mut subject = Subject::start("again");
    for _ in 0..3 {
        subject.panic(1);
        subject.core.plane.replace_workers();
        assert!(subject.core.plane.l7().missing().is_empty());
    }
    subject.panic(1);
    subject.core.plane.replace_workers();
    assert!(subject.core.status().l7.workers[1].missing);
    // Of so many some are the other worker's, who goes on.
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| subject.client()).collect();
    let own = Duration::from_millis(100);
    clients
        .iter()
        .for_each(|client| client.0.set_read_timeout(Some(own)).unwrap());
    assert!(clients.iter_mut().any(|client| client.ask("")));
}

#[test]
fn a_panic_for_one_request_ends_its_connection_alone() {
    let subject = Subject::start("request");
    let mut clients: Vec<Client> = (0..8).map(|_| subject.client()).collect();
    assert!(clients.iter_mut().all(|client| client.ask("")));
    let mut victim = subject.client();
    assert!(!victim.ask("x-panic: 1\r\n"));
    assert!(clients.iter_mut().all(|client| client.ask("")));
    until("its connection is counted off", || {
        subject.connections().iter().sum::<u64>() == 8
    });
    let workers = subject.core.status().l7.workers;
    assert_eq!(workers.iter().map(|worker| worker.panics).sum::<u64>(), 1);
    assert!(
        workers
            .iter()
            .all(|worker| worker.replaced == 0 && !worker.missing)
    );
}
