//! The lab itself: its topology routes, its servers serve and its clients count, without Weir.

use anyhow::{Result, ensure};
use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use weir_tests::lab::{
    EchoServer, Family, Lab, LongConnections, NewConnections, Nginx, Protocol, Topology, Wire, ask_many,
    shares, tool, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn the_standard_topology_routes_both_families() -> Result<()> {
    let topology = Topology::new()?;
    for family in Family::BOTH {
        for n in 0..topology.backends.len() {
            topology
                .client
                .execute(&format!("ping -c 1 -W 5 {}", family.backend(n)))?;
        }
        topology
            .balancer
            .execute(&format!("ping -c 1 -W 5 {}", family.client()))?;
        let lost = topology
            .client
            .try_execute(&format!("ping -c 1 -W 1 {}", family.vip(1)))?;
        ensure!(!lost.status.success(), "a VIP answers although no one has it");
    }
    Ok(())
}

#[test]
fn nginx_answers_curl_with_its_name_and_its_files() -> Result<()> {
    let topology = Topology::new()?;
    let addresses = Family::BOTH.map(|family| SocketAddr::new(family.backend(0), 8080));
    let nginx = Nginx::start(&topology.backends[0], &addresses)?;
    nginx.serve("million", &vec![b'x'; 1_000_000])?;
    for address in addresses {
        let name = topology
            .client
            .execute(&format!("curl -sS -m 10 http://{address}/"))?;
        assert_eq!(name, "backend-1\n");
        let file = topology
            .client
            .execute(&format!("curl -sS -m 10 http://{address}/files/million"))?;
        assert_eq!(file.len(), 1_000_000);
    }
    Ok(())
}

#[test]
fn clients_count_who_answers_and_notice_a_lost_connection() -> Result<()> {
    let topology = Topology::new()?;
    let target = SocketAddr::new(Family::V6.backend(1), 7);
    let mut servers = topology.echo_servers(7)?;
    let attempts = ask_many(&topology.client, Protocol::Echo, target, 50, 4);
    assert_eq!(shares(&attempts).get("backend-2"), Some(&50), "{attempts:?}");
    let pace = Duration::from_millis(1);
    let long = LongConnections::open(&topology.client, Protocol::Echo, target, 4, pace)?;
    let new = NewConnections::start(&topology.client, Protocol::Echo, target, 1, pace);
    long.wait_for_rounds(5, LIMIT)?;
    new.wait_for(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    servers[1].stop();
    until("a refused connection", LIMIT, || {
        new.attempts()
            .iter()
            .any(|attempt| attempt.answer.is_err())
            .then_some(())
    })?;
    until("4 lost connections", LIMIT, || {
        (long.lost().len() == 4).then_some(())
    })?;
    assert!(long.finish().iter().all(|outcome| outcome.server == "backend-2"));
    Ok(())
}

#[test]
fn a_wire_tags_frames_and_takes_the_tags_off() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = [lab.host("a")?, lab.host("b")?];
    // Two wires that face each other: what one tags the other must untag.
    let tags = vec![(0x88a8, 100), (0x8100, 200)];
    let middle = lab.host("middle")?;
    let near = Wire::connect(&a, "eth0", &middle, "a", &tags)?;
    let far = Wire::connect(&b, "eth0", &middle, "b", &tags)?;
    middle.ip("link add br0 type bridge mcast_snooping 0
        link set dev br0 up
        link set dev a master br0
        link set dev b master br0")?;
    a.ip("address add 192.0.2.1/24 dev eth0")?;
    b.ip("address add 192.0.2.2/24 dev eth0")?;
    let server = EchoServer::start(&b, "b", &["192.0.2.2:7".parse()?])?;
    let attempts = ask_many(&a, Protocol::Echo, "192.0.2.2:7".parse()?, 3, 1);
    assert_eq!(shares(&attempts).get("b"), Some(&3), "{attempts:?}");
    assert_eq!(server.accepted(), 3);
    assert!(near.tagged() > 0 && far.tagged() > 0);
    Ok(())
}

#[test]
fn closures_run_inside_a_host_and_panics_come_out() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("host")?;
    let listener = host.run(|| TcpListener::bind("127.0.0.1:1234"))?;
    let connected = host.run(|| TcpStream::connect("127.0.0.1:1234"))?;
    drop(listener.accept()?.0);
    assert_eq!((&connected).read(&mut [0])?, 0);
    assert!(
        TcpStream::connect("127.0.0.1:1234").is_err(),
        "the port is open outside of the host"
    );
    let panicked = std::panic::catch_unwind(|| host.run(|| panic!("inside")));
    assert!(panicked.is_err());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.directory().to_owned();
    let host = lab.host("host")?;
    let process = host.spawn(host.command("sleep")?.arg("1000"))?;
    let running = PathBuf::from(format!("/proc/{}", process.id()));
    assert!(folder.exists() && running.exists());
    drop((process, host, lab));
    assert!(!folder.exists() && !running.exists());
    Ok(())
}

/// Set for the child of the next test: what it does instead of testing.
const TO_BE_KILLED: &str = "WEIR_LAB_TO_BE_KILLED";

#[test]
fn a_killed_process_leaves_nothing() -> Result<()> {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        let lab = Lab::new()?;
        let host = lab.host("host")?;
        let process = host.spawn(host.command("sleep")?.arg("1000"))?;
        fs::write(lab.directory().join("sleeping"), process.id().to_string())?;
        return until("the parent to kill this process", LIMIT, || None);
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_killed_process_leaves_nothing"])
        .env(TO_BE_KILLED, "yes")
        .stdout(Stdio::null())
        .spawn()?;
    let folder = std::env::temp_dir().join(format!("weir-lab-{}-0", child.id()));
    let sleeping = until("the child's lab", LIMIT, || {
        let text = fs::read_to_string(folder.join("sleeping")).ok()?;
        text.parse::<u32>().ok()
    });
    child.kill()?;
    child.wait()?;
    let process = PathBuf::from(format!("/proc/{}", sleeping?));
    until("the end of the child's child", LIMIT, || {
        (!process.exists()).then_some(())
    })?;
    // Namespaces went with the processes; the folder goes when the next lab is made.
    drop(Lab::new()?);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn a_missing_tool_is_named_with_the_remedy() {
    let error = tool("no-such-tool").expect_err("there is none").to_string();
    assert!(
        error.contains("`no-such-tool`") && error.contains("cargo xtask setup"),
        "{error}"
    );
}
