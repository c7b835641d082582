//! `cargo xtask demo`: the balancer at work before your eyes, in network namespaces.
//!
//! A client, a router, the balancer, and three nginx with the weights 1, 2 and 3. While short
//! connections come all the time and long ones carry requests, HTTPS is served beside them, a backend is
//! drained, a weight is changed, the daemon is killed, and at last a backend.

mod checks;
mod https;
mod screen;

use anyhow::{Result, bail, ensure};
use checks::{Checks, percent};
use screen::Screen;
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use weir_tests::lab::{
    Attempt, Daemon, DaemonConfig, Family, LongConnections, NewConnections, Nginx, Protocol, Topology,
    catch_interrupts, interrupted, shares, until,
};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// One round with at least 10,000 connections; fails unless every assertion holds.
    #[arg(long)]
    once: bool,
}

/// The listener's and the cluster's name.
const NAME: &str = "web";

/// The weights at the start of a round, of backend-1 to backend-3.
const WEIGHTS: [u32; 3] = [1, 2, 3];

/// What backend-1's weight becomes.
const NEW_WEIGHT: u32 = 4;

/// Connections that stay open, with a request on each every `LONG_PACE`.
const LONG: usize = 60;

const LONG_PACE: Duration = Duration::from_millis(20);

/// Threads that make new connections; more than this machine's cores, as each mostly waits.
const THREADS: usize = 4;

/// How far from its weight a backend's share may be, as a fraction of all connections.
const SHARE_LIMIT: f64 = 0.03;

/// From the death of a backend until no new connection fails any more.
const RECOVERY_LIMIT: Duration = Duration::from_secs(2);

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the demo.
///
/// # Errors
/// It can't be set up, or with `--once` an assertion does not hold.
pub fn run(arguments: DemoArgs) -> Result<()> {
    catch_interrupts();
    println!("Setting up a client, a router, a balancer and three backends in network namespaces …");
    let mut demo = Demo::new(arguments.once)?;
    loop {
        let checks = demo.round()?;
        if interrupted() {
            println!("Interrupted: cleaning up.");
            return if arguments.once {
                bail!("interrupted")
            } else {
                Ok(())
            };
        }
        println!("{checks}");
        if arguments.once {
            ensure!(checks.all_hold(), "not every assertion holds");
            return Ok(());
        }
        demo.restore()?;
    }
}

struct Demo {
    /// At full speed, with many connections; else at a pace to watch.
    once: bool,
    screen: Screen,
    daemon: Daemon,
    servers: Vec<Nginx>,
    topology: Topology,
}

/// What happens in a part of a round, shown above the table.
struct Part {
    title: &'static str,
    /// Connections to make in it, at least.
    connections: usize,
    /// How long it takes, at least.
    time: Duration,
}

fn vip() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(1), 80)
}

fn backend(n: usize) -> SocketAddr {
    SocketAddr::new(Family::V4.backend(n), 8080)
}

fn name(n: usize) -> String {
    format!("backend-{}", n + 1)
}

impl Demo {
    fn new(once: bool) -> Result<Self> {
        let topology = Topology::new()?;
        let start = |n| Nginx::start(&topology.backends[n], &[backend(n)]);
        let servers = (0..WEIGHTS.len()).map(start).collect::<Result<_>>()?;
        let endpoints: Vec<_> = (0..).map(backend).zip(WEIGHTS).collect();
        let config = DaemonConfig::standard()
            .service(NAME, "tcp", vip(), &endpoints)
            .health_check(NAME, "250ms");
        let daemon = Daemon::start(&topology.balancer, &https::configure(config))?;
        Ok(Self {
            once,
            screen: Screen::new(),
            daemon,
            servers,
            topology,
        })
    }

    /// Everything once; ends early when interrupted.
    fn round(&mut self) -> Result<Checks> {
        let mut checks = Checks::default();
        let client = &self.topology.client;
        let long = LongConnections::open(client, Protocol::Http, vip(), LONG, LONG_PACE)?;
        self.balance(&mut checks, &long)?;
        https::serve(self, &mut checks, &long)?;
        self.change_weight(&mut checks, &long)?;
        self.drain(&mut checks, &long)?;
        self.kill_daemon(&mut checks, &long)?;
        self.kill_backend(&mut checks, &long)?;
        long.finish();
        Ok(checks)
    }

    fn balance(&mut self, checks: &mut Checks, long: &LongConnections) -> Result<()> {
        let part = Part {
            title: "Weights 1, 2 and 3.",
            connections: 10_000,
            time: Duration::from_secs(5),
        };
        let attempts = self.run_part(&part, long, |_| Ok(()))?;
        checks.shares("shares follow the weights", &attempts, &WEIGHTS);
        Ok(())
    }

    fn change_weight(&mut self, checks: &mut Checks, long: &LongConnections) -> Result<()> {
        self.daemon
            .set_endpoint(NAME, backend(0), &json!({"weight": NEW_WEIGHT}))?;
        let part = Part {
            title: "backend-1's weight has become 4.",
            connections: 5_000,
            time: Duration::from_secs(4),
        };
        let attempts = self.run_part(&part, long, |_| Ok(()))?;
        checks.shares(
            "shares follow a new weight",
            &attempts,
            &[NEW_WEIGHT, WEIGHTS[1], WEIGHTS[2]],
        );
        checks.none_lost("no running connection broken by a new weight", long, None);
        Ok(())
    }

    fn drain(&mut self, checks: &mut Checks, long: &LongConnections) -> Result<()> {
        self.daemon.drain(NAME, backend(1))?;
        let part = Part {
            title: "backend-2 drains: it keeps its connections and gets no new ones.",
            connections: 2_000,
            time: Duration::from_secs(4),
        };
        let attempts = self.run_part(&part, long, |_| Ok(()))?;
        if interrupted() {
            return Ok(());
        }
        long.wait_for_rounds(1, LIMIT)?;
        checks.none_lost("no running connection broken by the drain", long, None);
        let reached = shares(&attempts).get(&name(1)).copied().unwrap_or(0);
        let failed = attempts.iter().filter(|attempt| attempt.answer.is_err()).count();
        checks.add(
            "a drained backend gets no new connections",
            reached == 0 && failed == 0,
            format!("{reached} of {} went to it, {failed} failed", attempts.len()),
        );
        Ok(())
    }

    fn kill_daemon(&mut self, checks: &mut Checks, long: &LongConnections) -> Result<()> {
        let part = Part {
            title: "The daemon is killed with SIGKILL, and later started again: the config's weights hold.",
            connections: 2_000,
            time: Duration::from_secs(4),
        };
        let attempts = self.run_part(&part, long, |demo| {
            demo.daemon.kill();
            demo.pause(Duration::from_secs(2));
            demo.daemon.start_again()
        })?;
        let failed = attempts.iter().filter(|attempt| attempt.answer.is_err()).count();
        let lost = long.lost().len();
        checks.add(
            "nothing is lost when the daemon is killed and starts again",
            failed == 0 && lost == 0,
            format!(
                "{failed} of {} new connections failed, {lost} of {LONG} running broke",
                attempts.len()
            ),
        );
        Ok(())
    }

    fn kill_backend(&mut self, checks: &mut Checks, long: &LongConnections) -> Result<()> {
        let part = Part {
            title: "backend-3 is killed with SIGKILL.",
            connections: 2_000,
            time: Duration::from_secs(4),
        };
        let mut killed = Instant::now();
        let attempts = self.run_part(&part, long, |demo| {
            demo.pause(Duration::from_millis(500));
            killed = Instant::now();
            demo.servers[2].kill();
            Ok(())
        })?;
        if interrupted() {
            return Ok(());
        }
        let failed = || attempts.iter().filter(|attempt| attempt.answer.is_err());
        let end = failed()
            .map(|attempt| attempt.started + attempt.took)
            .max()
            .unwrap_or(killed);
        let recovery = end.saturating_duration_since(killed);
        let after = attempts.iter().filter(|attempt| attempt.started > end).count();
        checks.add(
            "recovery from the killed backend",
            recovery < RECOVERY_LIMIT && after > 0,
            format!(
                "{:.2} s (limit {:.0} s): {} new connections failed, then {after} in a row did not",
                recovery.as_secs_f64(),
                RECOVERY_LIMIT.as_secs_f64(),
                failed().count()
            ),
        );
        long.wait_for_rounds(1, LIMIT)?;
        checks.none_lost("no running connection to the others broken", long, Some(&name(2)));
        Ok(())
    }

    /// Makes new connections, shows the table, and lets something happen meanwhile.
    fn run_part(
        &mut self,
        part: &Part,
        long: &LongConnections,
        event: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Vec<Attempt>> {
        let pace = if self.once {
            Duration::ZERO
        } else {
            Duration::from_millis(4)
        };
        let new = NewConnections::start(&self.topology.client, Protocol::Http, vip(), THREADS, pace);
        let began = Instant::now();
        if !interrupted() {
            event(self)?;
        }
        let goal = if self.once { part.connections } else { 0 };
        while !interrupted() && (new.count() < goal || began.elapsed() < part.time) {
            self.show(part, &new, long)?;
            self.pause(Duration::from_millis(250));
        }
        let attempts = new.finish();
        self.screen.keep();
        Ok(attempts)
    }

    /// The pace of what is shown; nothing waits for it.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !interrupted() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn show(&mut self, part: &Part, new: &NewConnections, long: &LongConnections) -> Result<()> {
        let attempts = new.attempts();
        let seen = shares(&attempts);
        let status = self.daemon.status()?;
        let mut running = BTreeMap::<String, (usize, usize)>::new();
        for outcome in long.outcomes() {
            let counts = running.entry(outcome.server).or_default();
            counts.0 += usize::from(outcome.lost.is_none());
            counts.1 += 1;
        }
        let backends = status["services"][0]["backends"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let row = |(n, backend): (usize, &serde_json::Value)| {
            let name = name(n);
            let (open, opened) = running.get(&name).copied().unwrap_or_default();
            let count = seen.get(&name).copied().unwrap_or(0);
            [
                name,
                backend["state"].as_str().unwrap_or("?").to_owned(),
                backend["effective_weight"].to_string(),
                percent(backend["share_percent"].as_f64().unwrap_or(0.0) / 100.0),
                percent(count as f64 / attempts.len().max(1) as f64),
                count.to_string(),
                backend["counters"]["flows"].to_string(),
                format!("{open} of {opened}"),
            ]
        };
        let rows: Vec<_> = backends.iter().enumerate().map(row).collect();
        let failed = seen.get("").copied().unwrap_or(0);
        let foot = format!("{} connections, {failed} failed", attempts.len());
        self.screen.draw(part.title, &rows, &foot);
        Ok(())
    }

    /// Back to where a round starts.
    fn restore(&mut self) -> Result<()> {
        self.servers[2] = Nginx::start(&self.topology.backends[2], &[backend(2)])?;
        self.daemon
            .set_endpoint(NAME, backend(0), &json!({"weight": WEIGHTS[0]}))?;
        self.daemon
            .set_endpoint(NAME, backend(1), &json!({"drain": false}))?;
        until("backend-3 to be healthy again", LIMIT, || {
            let status = self.daemon.backend_status(NAME, backend(2)).ok()?;
            (status["state"] == "healthy").then_some(())
        })
    }
}
