//! Random changes of a service's endpoints while connections run, come and go.

use super::{SERVICE, config, counter, endpoint, expect_unbroken, short_or_long, vip};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use weir_tests::{
    lab::{Crowd, Daemon, DaemonConfig, DirectSite, Host},
    model::random::Random,
};

/// From the begin of one change to that of the next.
const PACE: Duration = Duration::from_millis(200);

/// So many endpoints take new connections at any time, at least.
const LEAST_ACTIVE: usize = 3;

/// At most so many drain at a time: they get empty sooner.
const MOST_DRAINING: usize = 2;

/// Connections that end with every change, as many as begin.
const CHURN: usize = 25;

/// Short, so that a run sees slots that moved settle; and yet many times what a connection is ever silent.
const IDLE_TIMEOUT: &str = "10s";

/// What is done to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Add,
    Drain,
    Undrain,
    Remove,
    Weigh,
}

/// An endpoint that is in the config.
struct Present {
    is_draining: bool,
    /// The crowd's connections that it has, by number.
    connections: Vec<u64>,
}

/// A site, its balancer and its crowd, and what was done so far.
pub struct Changes {
    daemon: Daemon,
    config: DaemonConfig,
    crowd: Crowd,
    random: Random,
    present: BTreeMap<SocketAddr, Present>,
    absent: Vec<SocketAddr>,
    next: Instant,
    done: BTreeMap<Kind, usize>,
    /// The greatest number of flows that were stored.
    most_tracked: u64,
    /// Whose address each endpoint has.
    hosts: BTreeMap<SocketAddr, String>,
}

impl Changes {
    /// A balancer with half of the endpoints, and a crowd of so many connections.
    pub fn start(site: &DirectSite, connections: usize) -> Result<Self> {
        let (mut all, mut hosts) = (Vec::new(), BTreeMap::new());
        for (number, host) in site.topology.backends.iter().enumerate() {
            for alias in 0..DirectSite::ALIASES {
                let endpoint = endpoint(number, alias);
                all.push(endpoint);
                hosts.insert(endpoint, host.name().to_owned());
            }
        }
        let absent = all.split_off(all.len() / 2);
        let mut config = config(site, "ipip", &all);
        if let Some(listener) = config.value["listeners"]
            .as_array_mut()
            .and_then(|all| all.last_mut())
        {
            listener["forward"]["idle_timeouts"] = json!({"tcp": IDLE_TIMEOUT, "tcp_closing": "1s"});
        }
        let daemon = Daemon::start(&site.topology.balancer, &config)?;
        use_ports_anew(&site.topology.client, connections)?;
        let pace = short_or_long(Duration::from_millis(300), Duration::from_secs(1));
        let present = |address| {
            let present = Present {
                is_draining: false,
                connections: Vec::new(),
            };
            (address, present)
        };
        let mut changes = Self {
            crowd: Crowd::start(&site.topology.client, vip(), connections, pace)?,
            daemon,
            config,
            random: Random::new(1),
            present: all.into_iter().map(present).collect(),
            absent,
            next: Instant::now(),
            done: BTreeMap::new(),
            most_tracked: 0,
            hosts,
        };
        changes.open(connections)?;
        changes.next = Instant::now();
        Ok(changes)
    }

    /// One change, and clients that go and come.
    pub fn step(&mut self) -> Result<()> {
        // The pace of the changes; nothing waits for it.
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next = Instant::now() + PACE;
        let possible = self.possible();
        // What was never done comes first: a run is too short to leave it to chance.
        let fresh: Vec<_> = possible
            .iter()
            .filter(|(kind, _)| !self.done.contains_key(kind))
            .copied()
            .collect();
        let choices = if fresh.is_empty() { &possible } else { &fresh };
        let (kind, address) = *self.random.pick(choices);
        let what = format!("{kind:?} {address}");
        self.change(kind, address).context(what.clone())?;
        *self.done.entry(kind).or_default() += 1;
        let leaving = self.leaving();
        self.crowd.end(&leaving)?;
        self.open(leaving.len()).context(what.clone())?;
        let lost = self.crowd.lost();
        ensure!(lost.is_empty(), "{what}: {} broke: {:?}", lost.len(), lost[0]);
        let status = self.daemon.status()?;
        let tracked = status["kernel"]["tracked_flows"].as_u64().unwrap_or(0);
        self.most_tracked = self.most_tracked.max(tracked);
        Ok(())
    }

    /// What may be done now: of every kind one endpoint that it may be done to.
    fn possible(&mut self) -> Vec<(Kind, SocketAddr)> {
        let of = |wanted: &dyn Fn(&Present) -> bool| -> Vec<SocketAddr> {
            let found = self.present.iter().filter(|(_, present)| wanted(present));
            found.map(|(address, _)| *address).collect()
        };
        let active = of(&|present| !present.is_draining);
        let draining = of(&|present| present.is_draining);
        let empty = of(&|present| present.is_draining && present.connections.is_empty());
        let mut choices = vec![(Kind::Weigh, active.clone())];
        choices.push((Kind::Add, self.absent.clone()));
        if active.len() > LEAST_ACTIVE && draining.len() < MOST_DRAINING {
            choices.push((Kind::Drain, active));
        }
        // At once the first time, then rarely and not before one was removed: or none would ever get empty.
        if !self.done.contains_key(&Kind::Undrain)
            || self.done.contains_key(&Kind::Remove) && self.random.once_in(4)
        {
            choices.push((Kind::Undrain, draining));
        }
        choices.push((Kind::Remove, empty));
        choices.retain(|(_, addresses)| !addresses.is_empty());
        choices
            .iter()
            .map(|(kind, addresses)| (*kind, *self.random.pick(addresses)))
            .collect()
    }

    fn change(&mut self, kind: Kind, address: SocketAddr) -> Result<()> {
        let patch = match kind {
            Kind::Weigh => json!({"weight": 1 + self.random.below(5)}),
            Kind::Drain | Kind::Undrain => {
                let is_draining = kind == Kind::Drain;
                if let Some(present) = self.present.get_mut(&address) {
                    present.is_draining = is_draining;
                }
                json!({"drain": is_draining})
            }
            Kind::Add => {
                self.absent.retain(|absent| *absent != address);
                let present = Present {
                    is_draining: false,
                    connections: Vec::new(),
                };
                self.present.insert(address, present);
                self.endpoints()?.push(json!({"address": address}));
                return self.daemon.reload(&self.config).map(drop);
            }
            Kind::Remove => {
                self.present.remove(&address);
                self.absent.push(address);
                let address = address.to_string();
                self.endpoints()?
                    .retain(|endpoint| endpoint["address"] != address.as_str());
                return self.daemon.reload(&self.config).map(drop);
            }
        };
        self.daemon.set_endpoint(SERVICE, address, &patch)
    }

    fn endpoints(&mut self) -> Result<&mut Vec<serde_json::Value>> {
        let endpoints = self.config.cluster(SERVICE)["endpoints"].as_array_mut();
        endpoints.context("the cluster's endpoints")
    }

    /// Connections that end now: those of draining endpoints, then any.
    fn leaving(&mut self) -> Vec<u64> {
        let mut leaving = Vec::new();
        let draining = self.present.values_mut().filter(|present| present.is_draining);
        for connections in draining.map(|present| &mut present.connections) {
            let count = connections.len().min(CHURN - leaving.len());
            leaving.extend(connections.drain(..count));
        }
        let mut others: Vec<_> = self.present.values_mut().collect();
        for _ in leaving.len()..CHURN {
            let index = self.random.below(others.len());
            let connections = &mut others[index].connections;
            if !connections.is_empty() {
                let index = self.random.below(connections.len());
                leaving.push(connections.swap_remove(index));
            }
        }
        leaving
    }

    /// Opens connections and notes which endpoint each has: nothing changes meanwhile, so it is its slot's.
    fn open(&mut self, count: usize) -> Result<()> {
        for (number, member) in self.crowd.open(count)? {
            let path = format!("/flows/tcp/{}/{}", member.client, vip());
            let answer = self.daemon.admin().expect_success("GET", &path, None)?;
            let slot = &answer["slot"]["backend"]["address"];
            let address: SocketAddr = slot.as_str().context("a slot's backend")?.parse()?;
            let present = self.present.get_mut(&address);
            let present = present.with_context(|| format!("{address} is not in the config"))?;
            ensure!(!present.is_draining, "{address} drains, and got {member:?}");
            let host = self.hosts.get(&address);
            ensure!(
                host == Some(&member.server),
                "{address} is {host:?}'s: {member:?}"
            );
            present.connections.push(number);
        }
        Ok(())
    }

    /// Looks at what came of it all.
    pub fn finish(self) -> Result<()> {
        self.crowd.wait_for_rounds(2)?;
        let open: usize = self
            .present
            .values()
            .map(|present| present.connections.len())
            .sum();
        println!(
            "{:?}; {open} connections at the end, {} flows stored at most",
            self.done, self.most_tracked
        );
        for kind in [Kind::Add, Kind::Drain, Kind::Undrain, Kind::Remove, Kind::Weigh] {
            ensure!(
                self.done.contains_key(&kind),
                "{kind:?} was never done: {:?}",
                self.done
            );
        }
        ensure!(self.most_tracked > 0, "no connection had to be remembered");
        expect_unbroken(self.crowd)?;
        assert_eq!(counter(&self.daemon, SERVICE, "drops")?, 0);
        Ok(())
    }
}

/// Has new connections get the ports of those that ended a moment ago, whose flows may still be stored.
fn use_ports_anew(client: &Host, connections: usize) -> Result<()> {
    const FIRST: usize = 32_768;
    let last = FIRST + connections * 3 / 2;
    client.sysctl("net.ipv4.ip_local_port_range", &format!("{FIRST} {last}"))?;
    // Nobody waits for late packets: there are none in a lab.
    client.sysctl("net.ipv4.tcp_max_tw_buckets", "0")
}
