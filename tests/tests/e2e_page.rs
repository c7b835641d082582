//! The admin page in headless Chromium: what it shows of both planes, what is changed from it, and who may. With WEIR_BLESS=1 it also
//! makes its pictures in docs/pictures.
//!
//! WEIR_BLESS=1 cargo test -p weir-tests --test e2e_page

use anyhow::{Context, Result, bail, ensure};
use proxy_common::values::backend_flags;
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};
use weir_tests::{
    l7::venv_program,
    lab::{Family, Finished, LongConnections, NewConnections, Nginx, Process, Running, shares, until},
};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the page is, on the balancer.
const PAGE: &str = "http://127.0.0.1:9900/";

/// Tokens and their SHA-256.
const OPERATOR: (&str, &str) = (
    "operator-token-of-the-page",
    "36dbea35c842bcb2d170e7e9222f54838c74b1619a7ea19335fec68ebd849b53",
);
const READER: (&str, &str) = (
    "reader-token-of-the-page-test",
    "ab8d99a3b98b108be56abeb720a99d1547e47ee5fea15b9d0b5580386854d3a4",
);

/// `backend_flags::DRAINING`.
const DRAINING: u64 = backend_flags::DRAINING as u64;

/// Endpoints of `fleet`: more than are shown one by one.
const FLEET: usize = 120;

/// Both planes with traffic on both.
struct Site {
    running: Running,
    shops: Vec<Nginx>,
    _long: LongConnections,
    _short: NewConnections,
    _requests: Process,
}

impl Site {
    fn start() -> Result<Self> {
        let running = Running::start_with(|mut config| {
            let vip = Family::V4.vip(1);
            config = config.health_check("tcp4", "200ms");
            let fleet: Vec<(SocketAddr, u32)> = (0..FLEET)
                .map(|n| (SocketAddr::from(([203, 0, 113, 100 + n as u8], 53)), 1))
                .collect();
            config = config.service("fleet", "udp", SocketAddr::new(Family::V4.vip(2), 53), &fleet);
            for endpoint in [3, 40, 77] {
                config.cluster("fleet")["endpoints"][endpoint]["drain"] = json!(true);
            }
            let shops: Vec<_> = (0..3).map(|n| json!(shop(n))).collect();
            push(
                &mut config.value["clusters"],
                json!({"name": "shop", "endpoints": shops,
                       "health_check": {"http": {"path": "/"}, "interval": "200ms", "timeout": "200ms"}}),
            );
            push(
                &mut config.value["listeners"],
                json!({"name": "web", "address": format!("{vip}:8080"), "routes": [
                    {"match": {"path": "/health"}, "respond": {"status": 200, "body": "ok\n"}},
                    {"cluster": "shop"}]}),
            );
            push(
                &mut config.value["listeners"],
                json!({"name": "secure", "address": format!("{vip}:8443"), "tls": {"self_signed": true},
                       "routes": [{"cluster": "shop"}]}),
            );
            config.value["workers"] = json!(2);
            config.value["admin"] = json!({"address": "127.0.0.1:9900", "tokens": [
                {"name": "operator", "sha256": OPERATOR.1},
                {"name": "reader", "sha256": READER.1, "read_only": true}]});
            config
        })?;
        let start = |n: usize| Nginx::start(&running.topology.backends[n], &[shop(n)]);
        let shops = [start(0)?, start(1)?, start(2)?].into();
        let mut traffic = running
            .topology
            .client
            .command(&venv_program("python")?.to_string_lossy())?;
        traffic
            .arg(data("traffic.py"))
            .args([&Family::V4.vip(1).to_string(), "8080"]);
        Ok(Self {
            shops,
            _long: running.long(Family::V4, 8)?,
            _short: running.new_connections(Family::V4),
            _requests: running.topology.client.spawn(&mut traffic)?,
            running,
        })
    }

    /// Whether an endpoint is what it should be, as the API says.
    fn wait_for(&self, cluster: &str, address: SocketAddr, what: impl Fn(&Value) -> bool) -> Result<()> {
        let path = format!("/clusters/{cluster}/endpoints/{address}");
        until(&format!("{address} of {cluster}"), LIMIT, || {
            let seen = self
                .running
                .daemon
                .admin()
                .expect_success("GET", &path, None)
                .ok()?;
            what(&seen).then_some(())
        })
    }

    fn page(&self, scenario: &str) -> Result<Browser> {
        let web = [
            "address 198.18.0.1",
            "listener l7 http web",
            "cluster shop",
            "endpoints shop",
        ];
        let tcp4 = [
            "address 198.18.0.1",
            "listener l4 tcp tcp4",
            "cluster tcp4",
            "endpoints tcp4",
        ];
        let udp6 = [
            "address 2001:db8:18::1",
            "listener l4 udp udp6",
            "cluster tcp6",
            "endpoints tcp6",
        ];
        let mut options = json!({
            "url": PAGE, "token": OPERATOR.0, "reader": READER.0, "ways": [web, tcp4, udp6],
            "endpoint": Running::backend(1), "other": Running::backend(0), "web": shop(2),
        });
        if env::var_os("WEIR_BLESS").is_some() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
            options["pictures"] = json!(folder);
        }
        let mut command = self
            .running
            .daemon
            .host()
            .command(&venv_program("python")?.to_string_lossy())?;
        command
            .arg(data("drive.py"))
            .args([scenario, &options.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Ok(Browser(command.spawn().context("start the page's driver")?))
    }

    /// What the kernel has of a backend, by bpftool: an entry a service.
    fn in_the_map(&self, address: SocketAddr) -> Result<Vec<Value>> {
        let path = self.running.daemon.pin("backends");
        let dump = self
            .running
            .bpftool(&format!("map dump pinned {}", path.display()))?;
        let SocketAddr::V4(address) = address else {
            bail!("{address} is not of IPv4")
        };
        let bytes = json!({"bytes": address.ip().to_ipv6_mapped().octets()});
        let entries = dump.as_array().context("a list of entries")?;
        let values = entries.iter().map(|entry| &entry["formatted"]["value"]);
        Ok(values
            .filter(|value| value["address"] == bytes && value["port"] == address.port())
            .cloned()
            .collect())
    }
}

/// An endpoint of `shop`.
fn shop(n: usize) -> SocketAddr {
    SocketAddr::new(Family::V4.backend(n), 8080)
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/page").join(name)
}

fn push(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

/// The page's driver. It ends its browser when its input ends.
struct Browser(Child);

impl Browser {
    /// Lets it go on to its end, and does what it asks for at each step.
    fn run(mut self, mut step: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let output = BufReader::new(self.0.stdout.take().context("its output")?);
        for line in output.lines() {
            let line = line?;
            let name = line
                .strip_prefix("step ")
                .with_context(|| format!("it says {line}"))?;
            step(name).with_context(|| format!("at {name:?}"))?;
            writeln!(self.0.stdin.as_mut().context("its input")?)?;
        }
        let status = self.0.wait()?;
        ensure!(
            status.success(),
            "the page's driver ended with {status}: see above"
        );
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = until("the browser's end", LIMIT, || self.0.try_wait().ok().flatten());
        if ended.is_err() {
            // Best effort: it isn't waited for any longer.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[test]
fn both_planes_are_seen_and_what_is_drained_from_the_page_drains_in_the_kernel() -> Result<()> {
    let mut site = Site::start()?;
    let (drained, weighted) = (Running::backend(1), Running::backend(0));
    for n in 0..3 {
        site.wait_for("shop", shop(n), |it| it["health"] == "healthy")?;
        site.wait_for("tcp4", Running::backend(n), |it| it["health"] == "healthy")?;
    }
    site.page("operate")?.run(|step| match step {
        "one endpoint away" => {
            site.running.servers[2].stop();
            site.shops[2].kill();
            site.wait_for("shop", shop(2), |it| it["health"] == "unhealthy")?;
            site.wait_for("tcp4", Running::backend(2), |it| it["health"] == "unhealthy")?;
            site.shops[2] = Nginx::start(&site.running.topology.backends[2], &[shop(2)])?;
            site.wait_for("shop", shop(2), |it| it["health"] == "healthy")
        }
        "drained" => {
            let found = site.in_the_map(drained)?;
            ensure!(found.len() == 2, "one of TCP and one of UDP: {found:?}");
            for backend in &found {
                let flags = backend["flags"].as_u64().context("flags")?;
                ensure!(flags & DRAINING != 0 && backend["weight"] == 0, "{backend}");
            }
            ensure!(!shares(&site.running.ask(60)).contains_key("backend-2"));
            Ok(())
        }
        "weighted" => {
            site.wait_for("tcp4", weighted, |it| it["weight"] == 7 && it["durable"] == true)?;
            for backend in site.in_the_map(weighted)? {
                ensure!(backend["weight"] == 7, "{backend}");
            }
            Ok(())
        }
        other => bail!("no such step: {other}"),
    })?;
    if env::var_os("WEIR_BLESS").is_some() {
        for name in ["page", "page-dark", "page-endpoint"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/pictures/{name}.png"));
            let bytes = fs::metadata(&path)?.len();
            ensure!(bytes < 160 << 10, "{} has {bytes} bytes", path.display());
        }
    }
    Ok(())
}

const RELOAD: &str = "http://127.0.0.1:9900/reload";

/// Whether it goes over TCP, where to, what a browser or a script says, and what the answer is.
const REQUESTS: [(bool, &str, &[&str], &str); 10] = [
    (false, "http://weir/reload", &[], "200"),
    (true, RELOAD, &[], "200"),
    (
        false,
        "http://localhost/reload",
        &[
            "-H",
            "Origin: http://localhost",
            "-H",
            "Sec-Fetch-Site: same-origin",
        ],
        "200",
    ),
    (true, RELOAD, &["-H", "Origin: http://127.0.0.1:9900"], "200"),
    (
        false,
        "http://localhost/reload",
        &["-H", "Origin: http://evil.example"],
        "403",
    ),
    (
        false,
        "http://localhost/reload",
        &["-H", "Sec-Fetch-Site: cross-site"],
        "403",
    ),
    (
        false,
        "http://evil.example/reload",
        &["-H", "Origin: http://evil.example"],
        "403",
    ),
    (true, RELOAD, &["-H", "Sec-Fetch-Site: same-site"], "403"),
    (true, RELOAD, &["-H", "Origin: null"], "403"),
    (
        true,
        RELOAD,
        &[
            "-H",
            "Host: evil.example:9900",
            "-H",
            "Sec-Fetch-Site: same-origin",
        ],
        "403",
    ),
];

#[test]
fn the_page_says_who_may_and_no_other_site_may() -> Result<()> {
    let site = Site::start()?;
    site.page("access")?.run(|step| bail!("no such step: {step}"))?;
    let socket = site
        .running
        .daemon
        .admin()
        .socket()
        .to_string_lossy()
        .into_owned();
    let curl = |arguments: &[&str]| -> Result<(String, String)> {
        let mut command = site.running.daemon.host().command("curl")?;
        command.args(["-sS", "-X", "POST", "-w", "\n%{http_code}"]);
        let text = Finished::run(command.args(arguments), "")?.success()?;
        let (body, code) = text.rsplit_once('\n').context("a code")?;
        Ok((code.to_owned(), body.to_owned()))
    };
    let local = ["--unix-socket", &socket];
    let authorization = format!("Authorization: Bearer {}", OPERATOR.0);
    let remote = ["-H", &authorization];
    for (is_remote, url, more, expected) in REQUESTS {
        let way: &[&str] = if is_remote { &remote } else { &local };
        let (code, body) = curl(&[way, more, &[url]].concat())?;
        ensure!(code == expected, "{url} {more:?} is answered with {code}: {body}");
        if code == "403" {
            let answer: Value = serde_json::from_str(&body)?;
            ensure!(
                answer["error"].is_string() && answer["remedy"].is_string(),
                "{answer}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_page_outlives_the_daemon() -> Result<()> {
    let mut site = Site::start()?;
    site.page("absence")?.run(|step| match step {
        "stop" => site.running.daemon.stop(),
        "start" => site.running.daemon.start_again(),
        other => bail!("no such step: {other}"),
    })
}
