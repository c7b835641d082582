//! QUIC connections, of a client and servers by aioquic, stay with their server while clients change their address, endpoints change and
//! the daemon is killed.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};
use weir_tests::{
    l7::venv_program,
    lab::{Daemon, DaemonConfig, DirectSite, Family, Host, Process, Topology, until},
};

/// Port of the service and of the servers.
const PORT: u16 = 443;
/// Connections of a client.
const CONNECTIONS: usize = 24;
/// Times that it changes its port.
const MOVES: usize = 3;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// What names a backend, by its number.
fn server_id(n: usize) -> String {
    format!("0a{:02x}", n + 1)
}

fn serve(host: &Host, n: usize, address: SocketAddr) -> Result<Process> {
    let mut command = host.command(&venv_program("python")?.to_string_lossy())?;
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(data("quic/server.py"))
        .args([address.ip().to_string(), PORT.to_string()])
        .args([host.name(), &server_id(n)])
        .args([data("certificates/web.pem"), data("certificates/web.key")]);
    let mut process = host.spawn(&mut command)?;
    until("the QUIC server", Duration::from_secs(90), || {
        let shown = host.execute(&format!("ss -Hlun sport = {PORT}"));
        (shown.is_ok_and(|shown| !shown.is_empty()) || process.ended().is_some()).then_some(())
    })?;
    process.check()?;
    Ok(process)
}

/// A client with many connections.
struct Clients {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Clients {
    fn start(host: &Host, vip: SocketAddr) -> Result<Self> {
        let mut command = host.command(&venv_program("python")?.to_string_lossy())?;
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(data("quic/client.py"))
            .args([vip.ip().to_string(), vip.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self {
            child,
            commands,
            answers,
        })
    }

    /// Has a command done; the servers' names in the order of the connections.
    fn have(&mut self, command: &str) -> Result<Vec<String>> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let names: Vec<Option<String>> =
            serde_json::from_str(&line).with_context(|| format!("{command}: {line:?}"))?;
        let names: Option<Vec<String>> = names.into_iter().collect();
        names.with_context(|| format!("{command}: a connection was not answered: {line}"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(mode: &str, family: Family, backends: usize) -> DaemonConfig {
    let endpoint = |n| (SocketAddr::new(family.backend(n), PORT), 1);
    let endpoints: Vec<_> = (0..backends).map(endpoint).collect();
    let vip = SocketAddr::new(family.vip(1), PORT);
    let mut config = DaemonConfig::standard().service("quic", "udp", vip, &endpoints);
    config.value["listeners"][0]["forward"]["mode"] = json!(mode);
    config.value["listeners"][0]["forward"]["quic"] = json!({"server_id_length": 2});
    for (n, endpoint) in (config.cluster("quic")["endpoints"]
        .as_array_mut()
        .into_iter()
        .flatten())
    .enumerate()
    {
        endpoint["server_id"] = json!(server_id(n));
    }
    config
}

fn connections_stay(topology: &Topology, mode: &str, family: Family) -> Result<()> {
    let mut daemon = Daemon::start(&topology.balancer, &config(mode, family, 2))?;
    let vip = SocketAddr::new(family.vip(1), PORT);
    let mut clients = Clients::start(&topology.client, vip)?;
    let servers = clients.have(&format!("open {CONNECTIONS}"))?;
    ensure!(
        servers.iter().any(|server| *server != servers[0]),
        "{mode}: all at {}",
        servers[0]
    );
    let stay = |clients: &mut Clients, after: &str| -> Result<()> {
        for _ in 0..MOVES {
            let now = clients.have("move")?;
            ensure!(now == servers, "{mode}, {after}: {servers:?}, and then {now:?}");
        }
        Ok(())
    };
    stay(&mut clients, "nothing else")?;
    tells(&daemon, family)?;
    // A third one takes a third of the slots.
    daemon.reload(&config(mode, family, 3))?;
    stay(&mut clients, "a backend added")?;
    daemon.kill();
    stay(&mut clients, "the daemon killed")?;
    daemon.start_again()?;
    stay(&mut clients, "the daemon started")?;
    let drained = 0;
    daemon.drain("quic", SocketAddr::new(family.backend(drained), PORT))?;
    daemon.wait_in_force()?;
    stay(&mut clients, "a backend drained")?;
    let name = topology.backends[drained].name();
    let new = clients.have(&format!("open {CONNECTIONS}"))?;
    ensure!(
        !new.iter().any(|server| server == name),
        "{mode}: {name} drains and got a new connection: {new:?}"
    );
    let status = daemon.backend_status("quic", SocketAddr::new(family.backend(drained), PORT))?;
    ensure!(status["state"] == "draining", "{status}");
    daemon.check()
}

/// `weir flow` knows connection IDs.
fn tells(daemon: &Daemon, family: Family) -> Result<()> {
    let (client, vip) = (
        SocketAddr::new(family.client(), 9).to_string(),
        SocketAddr::new(family.vip(1), PORT).to_string(),
    );
    let socket = daemon.admin().socket().to_string_lossy().into_owned();
    let ask = |arguments: &[&str]| {
        let flow = ["flow", "--udp", &client, &vip, "--socket", &socket];
        daemon.weir(&[flow.as_slice(), arguments].concat())
    };
    for n in 0..2 {
        let id = format!("1f{}c0ffee00", server_id(n));
        let told = ask(&["--connection-id", &id])?.success()?;
        let backend = SocketAddr::new(family.backend(n), PORT);
        ensure!(
            told.contains(&format!("goes to {backend}: its connection ID names it\n"))
                && told.contains(&format!("\nnamed  {backend} (live)\n")),
            "{told}"
        );
    }
    let nobody = ask(&["--connection-id", "1fffffc0ffee00"])?.success()?;
    ensure!(
        nobody.contains("its connection ID names nobody that lives; "),
        "{nobody}"
    );
    let wrong = ask(&["--connection-id", "1f0"])?;
    ensure!(
        !wrong.status.success() && wrong.stderr.contains("hexadecimal"),
        "{wrong:?}"
    );
    Ok(())
}

#[test]
fn connections_stay_with_nat() -> Result<()> {
    let topology = Topology::new()?;
    let mut servers = Vec::new();
    for (n, host) in topology.backends.iter().enumerate() {
        servers.push(serve(host, n, SocketAddr::new(Family::V4.backend(n), PORT))?);
    }
    connections_stay(&topology, "nat", Family::V4)
}

fn connections_stay_without_nat(mode: &str, family: Family) -> Result<()> {
    let site = DirectSite::new()?;
    let mut servers = Vec::new();
    for (n, host) in site.topology.backends.iter().enumerate() {
        servers.push(serve(host, n, SocketAddr::new(family.vip(1), PORT))?);
    }
    connections_stay(&site.topology, mode, family)
}

#[test]
fn connections_stay_through_ipip() -> Result<()> {
    connections_stay_without_nat("ipip", Family::V4)
}

#[test]
fn connections_stay_through_gue() -> Result<()> {
    connections_stay_without_nat("gue", Family::V6)
}

/// Connection IDs say nothing to a service that isn't told how they are read: as ever, a client's new port is a new flow.
#[test]
fn without_quic_a_new_port_is_a_new_flow() -> Result<()> {
    let site = DirectSite::new()?;
    let topology = &site.topology;
    let mut servers = Vec::new();
    for (n, host) in topology.backends.iter().enumerate() {
        servers.push(serve(host, n, SocketAddr::new(Family::V4.vip(1), PORT))?);
    }
    let mut config = config("ipip", Family::V4, 3);
    let forward = config.value["listeners"][0]["forward"].as_object_mut();
    forward.context("forward")?.remove("quic");
    let daemon = Daemon::start(&topology.balancer, &config)?;
    let mut clients = Clients::start(&topology.client, SocketAddr::new(Family::V4.vip(1), PORT))?;
    clients.have(&format!("open {CONNECTIONS}"))?;
    let moved = clients.have("move");
    ensure!(moved.is_err(), "nobody moved: {moved:?}");
    drop(daemon);
    Ok(())
}
