//! One daemon, both planes: L4 services forwarded in the kernel, and L7 listeners steered to the workers.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};
use weir_tests::lab::{
    Daemon, DaemonConfig, Family, Host, Lab, Running, expect_any_backend, failures, until,
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Workers of the daemon, more than this machine may have cores.
const WORKERS: usize = 4;

/// Connections held open at a time.
const CONNECTIONS: usize = 1_000;

/// The most that one worker may have of them: 1.15 times its share.
const MOST: u64 = (CONNECTIONS * 115 / 100 / WORKERS) as u64;

/// Ports of the plain listener.
const PORTS: std::ops::RangeInclusive<u16> = 8_000..=8_010;

/// What the L7 listeners answer with.
const ANSWER: &str = "steered";

/// An L7 listener that answers by itself.
fn listener(name: &str, addresses: &[String], tls: bool) -> Value {
    let mut listener = json!({
        "name": name,
        "address": addresses,
        "routes": [{"respond": {"status": 200, "body": ANSWER}}],
    });
    if tls {
        // A thousand handshakes at once take long on a busy machine and in a build for debugging.
        listener["tls"] = json!({"self_signed": true, "handshake_timeout": "5m"});
        listener["timeouts"] = json!({"header_read": "5m"});
    }
    listener
}

/// Plain text on VIP 2, HTTPS on VIP 3 and on VIP 1, which L4 services have too; on no interface any of them.
fn with_l7(mut config: DaemonConfig) -> DaemonConfig {
    let at = |vip: u8, ports: &str| -> Vec<String> {
        Family::BOTH
            .map(|family| match family.vip(vip) {
                IpAddr::V4(address) => format!("{address}:{ports}"),
                IpAddr::V6(address) => format!("[{address}]:{ports}"),
            })
            .to_vec()
    };
    config.value["workers"] = json!(WORKERS);
    if let Some(listeners) = config.value["listeners"].as_array_mut() {
        let range = format!("{}-{}", PORTS.start(), PORTS.end());
        listeners.push(listener("plain", &at(2, &range), false));
        listeners.push(listener("https", &[at(1, "443"), at(3, "443")].concat(), true));
    }
    config
}

/// Every test holds more descriptors than some shells allow.
fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).context("raise the limit of open files")
}

/// A request on a connection that stays open.
fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(ANSWER.as_bytes()) {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
    Ok(())
}

/// Long connections from a host to the plain listener, both families and all ports in turn.
fn connections(host: &Host, count: usize) -> Result<Vec<TcpStream>> {
    host.run(|| {
        let connect = |n: usize| {
            let port = PORTS.start() + (n % PORTS.len()) as u16;
            let address = SocketAddr::new(Family::BOTH[n % 2].vip(2), port);
            let mut stream =
                TcpStream::connect_timeout(&address, LIMIT).with_context(|| address.to_string())?;
            ask(&mut stream)?;
            Ok(stream)
        };
        (0..count).map(connect).collect()
    })
}

/// A number of every worker.
fn of_workers(daemon: &Daemon, what: &str) -> Result<Vec<u64>> {
    let status = daemon.status()?;
    let workers = status["l7"]["workers"].as_array().into_iter().flatten();
    Ok(workers.filter_map(|worker| worker[what].as_u64()).collect())
}

/// Waits until the workers hold this many connections altogether; how many each.
fn held_by_workers(daemon: &Daemon, total: usize) -> Result<Vec<u64>> {
    let mut shares = Vec::new();
    let waited = until(&format!("{total} connections"), LIMIT, || {
        shares = of_workers(daemon, "connections").ok()?;
        (shares.iter().sum::<u64>() == total as u64).then_some(())
    });
    waited.with_context(|| format!("the workers have {shares:?}"))?;
    Ok(shares)
}

/// Waits until the workers hold all connections, and checks that none holds too many.
fn expect_even(daemon: &Daemon) -> Result<()> {
    let shares = held_by_workers(daemon, CONNECTIONS)?;
    ensure!(
        shares.len() == WORKERS && shares.iter().all(|share| *share <= MOST),
        "the workers have {shares:?}: more than {MOST}"
    );
    Ok(())
}

fn curl(host: &Host, url: &str) -> Result<String> {
    host.execute(&format!(
        "curl --silent --show-error --insecure --http2 --max-time 20 {url}"
    ))
}

fn steered(daemon: &Daemon, outcome: &str) -> Result<u64> {
    let status = daemon.status()?;
    let mut all = status["kernel"]["steering"].as_array().into_iter().flatten();
    let found = all.find(|one| one["outcome"] == outcome);
    found
        .and_then(|one| one["connections"].as_u64())
        .with_context(|| format!("no {outcome} in {status}"))
}

/// Connections that workers got, in whatever state the others were.
fn steered_to_workers(daemon: &Daemon) -> Result<u64> {
    [
        "least_loaded",
        "passed_over_busy",
        "passed_over_stalled",
        "all_stalled",
    ]
    .into_iter()
    .map(|outcome| steered(daemon, outcome))
    .sum()
}

#[test]
fn both_planes_serve_at_once_and_workers_share_evenly() -> Result<()> {
    allow_many_files()?;
    let running = Running::start_with(with_l7)?;
    let (client, daemon) = (&running.topology.client, &running.daemon);
    assert_eq!(daemon.status()?["l7"]["steering"], "sk_lookup");
    let long = running.long(Family::V4, 10)?;
    for vip in [1, 3] {
        for family in Family::BOTH {
            let url = format!("https://{}/", SocketAddr::new(family.vip(vip), 443));
            assert_eq!(curl(client, &url)?, ANSWER, "{url}");
        }
    }
    // L4 on VIP 1 goes on beside it, TCP and UDP.
    assert_eq!(failures(&running.ask(100)).len(), 0);
    for family in Family::BOTH {
        expect_any_backend(client, Running::vip(family), "x")?;
    }
    let mut held = connections(client, CONNECTIONS)?;
    expect_even(daemon)?;
    // Every other one ends, whosever it was; those that come make up for what that left uneven.
    let mut keep = false;
    held.retain(|_| {
        keep = !keep;
        keep
    });
    held_by_workers(daemon, held.len())?;
    held.extend(connections(client, CONNECTIONS - held.len())?);
    expect_even(daemon)?;
    drop(held);
    // HTTPS alone, a thousand connections at once.
    held_by_workers(daemon, 0)?;
    let before = of_workers(daemon, "accepted")?;
    let stalled = steered(daemon, "passed_over_stalled")?;
    let target = SocketAddr::new(Family::V4.vip(3), 443);
    let h2load =
        format!("h2load --requests {CONNECTIONS} --clients {CONNECTIONS} --threads 1 https://{target}/");
    let printed = client.execute(&h2load)?;
    ensure!(printed.contains(&format!("{CONNECTIONS} succeeded")), "{printed}");
    let after = of_workers(daemon, "accepted")?;
    let shares: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    ensure!(
        shares.iter().sum::<u64>() >= CONNECTIONS as u64,
        "of {CONNECTIONS} HTTPS connections the workers got {shares:?}"
    );
    // A worker that got no time from a busy machine is passed over, and the others have its share.
    let was_stalled = steered(daemon, "passed_over_stalled")? > stalled;
    ensure!(
        was_stalled || shares.iter().all(|share| *share <= MOST),
        "of {CONNECTIONS} HTTPS connections the workers got {shares:?}: more than {MOST}"
    );
    assert_eq!(steered(daemon, "no_worker")?, 0);
    long.wait_for_rounds(10, LIMIT)?;
    assert_eq!(long.lost().len(), 0, "{:?}", long.lost());
    Ok(())
}

/// With a SYN cookie there is no state between SYN and ACK: the ACK is steered anew, perhaps to another worker.
#[test]
fn syn_cookies_of_one_worker_are_good_at_the_others() -> Result<()> {
    let running = Running::start_with(with_l7)?;
    running.topology.balancer.sysctl("net.ipv4.tcp_syncookies", "2")?;
    let held = connections(&running.topology.client, 200)?;
    let shares = held_by_workers(&running.daemon, held.len())?;
    ensure!(shares.iter().all(|share| *share > 20), "{shares:?}");
    Ok(())
}

#[test]
fn a_killed_daemon_refuses_l7_connections_until_it_is_back() -> Result<()> {
    let mut running = Running::start_with(with_l7)?;
    let long = running.long(Family::V4, 10)?;
    let url = format!("https://{}/", SocketAddr::new(Family::V4.vip(3), 443));
    assert_eq!(curl(&running.topology.client, &url)?, ANSWER);
    let pins = running.daemon.pin_path().to_owned();
    let before = [
        running.ids("map", &pins)?,
        running.ids("link", &pins.join("links"))?,
    ];
    for _ in 0..2 {
        running.daemon.kill();
        let target = SocketAddr::new(Family::V4.vip(3), 443);
        let refused = running
            .topology
            .client
            .run(|| TcpStream::connect_timeout(&target, LIMIT));
        let kind = refused.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused));
        assert_eq!(failures(&running.ask(50)).len(), 0, "L4 needs no daemon");
        running.daemon.start_again()?;
        assert_eq!(curl(&running.topology.client, &url)?, ANSWER);
    }
    let after = [
        running.ids("map", &pins)?,
        running.ids("link", &pins.join("links"))?,
    ];
    assert_eq!(before, after, "maps and links were not adopted");
    long.wait_for_rounds(10, LIMIT)?;
    assert_eq!(long.lost().len(), 0, "{:?}", long.lost());
    Ok(())
}

#[test]
fn listeners_come_and_go_with_their_routes() -> Result<()> {
    let mut running = Running::start_with(with_l7)?;
    let routes = |running: &Running| -> Result<Vec<String>> {
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let line = format!("ip {family} route show table local proto 87");
            let shown = running.daemon.host().execute(&line)?;
            routes.extend(shown.lines().map(|line| line.trim().to_owned()));
        }
        Ok(routes)
    };
    let all = routes(&running)?;
    // Both families of VIP 1, 2 and 3.
    assert_eq!(all.len(), 6, "{all:?}");
    let client = running.topology.client.clone();
    let mut held = connections(&client, 4)?;
    let mut fewer = running.config.clone();
    fewer.value["listeners"]
        .as_array_mut()
        .context("listeners")?
        .retain(|listener| listener["name"] != "https");
    running.daemon.reload(&fewer)?;
    assert_eq!(routes(&running)?.len(), 2);
    let target = SocketAddr::new(Family::V4.vip(1), 443);
    let refused = client.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(1)));
    ensure!(refused.is_err(), "a listener that is gone accepted");
    // Connections of a listener that stays are untouched; so is L4 on an address that is L7's no more.
    held.iter_mut().try_for_each(ask)?;
    assert_eq!(failures(&running.ask(50)).len(), 0);
    running.daemon.reload(&running.config)?;
    assert_eq!(curl(&client, &format!("https://{target}/"))?, ANSWER);
    assert_eq!(routes(&running)?, all);
    running.daemon.kill();
    let printed = running.daemon.unload()?;
    ensure!(
        printed.contains(&format!("removed local route {}", Family::V4.vip(2))),
        "{printed}"
    );
    assert_eq!(routes(&running)?, Vec::<String>::new());
    running.daemon.start_again()?;
    assert_eq!(curl(&client, &format!("https://{target}/"))?, ANSWER);
    Ok(())
}

#[test]
fn l7_listeners_alone_need_no_interface() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let config = with_l7(DaemonConfig::new(&[]));
    let daemon = Daemon::start(&host, &config)?;
    connections(&host, 40)?;
    for family in Family::BOTH {
        let url = format!("https://{}/", SocketAddr::new(family.vip(3), 443));
        assert_eq!(curl(&host, &url)?, ANSWER, "{url}");
    }
    let links = host.execute(&format!("ls {}", daemon.pin("links").display()))?;
    assert_eq!(links.trim(), "netns-sk_steer");
    ensure!(steered_to_workers(&daemon)? >= 42);
    Ok(())
}
