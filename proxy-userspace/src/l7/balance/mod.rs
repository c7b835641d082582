//! Chooses an endpoint for a request: a policy over weights, kept per worker.
//!
//! What is heavy to build (alias tables, rings, Maglev tables) is a [`Plan`], built on the control thread and shared; what
//! changes with requests is a [`Balancer`], one a worker and cluster, and nothing in it is shared.

mod endpoint;
mod key;
mod plan;
mod ring;
mod round_robin;
pub mod sticky;
mod weighted;

pub use endpoint::{Endpoint, InFlight};
pub use key::{Facts, key};
pub use plan::Plan;

use crate::model::{self, BackendAddr, Cluster, l7::Policy};
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};
use proxy_common::net::Address;
use round_robin::{Entry, RoundRobin};
use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Instant,
};

/// Which worker this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Below `count`.
    pub index: usize,
    /// All workers of the process.
    pub count: usize,
}

/// One worker's balancer of one cluster.
#[derive(Debug)]
pub struct Balancer<P> {
    policy: Policy,
    /// In the cluster's order, also those without weight.
    endpoints: Vec<Rc<Endpoint<P>>>,
    plan: Plan,
    round_robin: RoundRobin,
    salt: u64,
    random: RefCell<Rng>,
}

/// What makes an endpoint the same one across updates.
type Identity = (BackendAddr, Option<Arc<str>>);

impl<P> Balancer<P> {
    /// With a plan of its own; `make` makes what the caller keeps for an endpoint.
    pub fn new(cluster: &Cluster, seat: Seat, make: impl FnMut(&model::Endpoint) -> P) -> Self {
        Self::with_plan(cluster, Plan::new(cluster, None), seat, make)
    }

    /// With a plan of this cluster that all workers share.
    pub fn with_plan(
        cluster: &Cluster,
        plan: Plan,
        seat: Seat,
        make: impl FnMut(&model::Endpoint) -> P,
    ) -> Self {
        Self::salted(cluster, plan, seat, make, process_salt(), Rng::new())
    }

    fn salted(
        cluster: &Cluster,
        plan: Plan,
        seat: Seat,
        make: impl FnMut(&model::Endpoint) -> P,
        salt: u64,
        random: Rng,
    ) -> Self {
        let mut balancer = Self {
            policy: cluster.l7.policy,
            endpoints: Vec::new(),
            plan,
            round_robin: RoundRobin::new(seat, [].into_iter()),
            salt,
            random: RefCell::new(random),
        };
        balancer.update_with_plan(cluster, balancer.plan.clone(), make);
        balancer
    }

    /// Goes over to the cluster as it is now. Endpoints that stay, by address and name, keep their state, whatever changed of
    /// them; those that left live on as long as requests hold them.
    pub fn update(&mut self, cluster: &Cluster, make: impl FnMut(&model::Endpoint) -> P) {
        let plan = Plan::new(cluster, Some(&self.plan));
        self.update_with_plan(cluster, plan, make);
    }

    /// The same, with a plan of the cluster as it is now.
    pub fn update_with_plan(
        &mut self,
        cluster: &Cluster,
        plan: Plan,
        mut make: impl FnMut(&model::Endpoint) -> P,
    ) {
        let mut before: HashMap<Identity, Rc<Endpoint<P>>> = (self.endpoints.drain(..))
            .map(|endpoint| ((endpoint.address, endpoint.name.clone()), endpoint))
            .collect();
        self.endpoints = (cluster.endpoints.iter())
            .map(
                |wanted| match before.remove(&(wanted.address, wanted.name.clone())) {
                    Some(stays) => {
                        stays.follow(wanted);
                        stays
                    }
                    None => Endpoint::new(wanted, make(wanted)),
                },
            )
            .collect();
        before.values().for_each(|gone| gone.left.set(true));
        // A plan of something else would choose wrong endpoints.
        let plan = if plan.is_of(cluster) {
            plan
        } else {
            Plan::new(cluster, None)
        };
        let signer = |plan: &Plan| plan.cookies.as_ref().map(|it| it.signer.settings().clone());
        if signer(&plan) != signer(&self.plan) {
            self.endpoints.iter().for_each(|it| drop(it.cookie.take()));
        }
        self.policy = cluster.l7.policy;
        self.plan = plan;
        let salt = self.salt;
        self.round_robin
            .replace(self.endpoints.iter().map(|endpoint| Entry {
                weight: endpoint.weight.get(),
                phase: plan::phase(endpoint.address, salt),
            }));
    }

    /// In the cluster's order, also those that get nothing new.
    pub fn endpoints(&self) -> &[Rc<Endpoint<P>>] {
        &self.endpoints
    }

    /// Chooses an endpoint, with what [`key()`] made of the request. One that this request has `tried` is avoided
    /// while there is another; none when no endpoint has weight. No allocation; O(1), round_robin and ring_hash O(log n).
    pub fn pick(&self, key: Option<u64>, tried: &[BackendAddr]) -> Option<Rc<Endpoint<P>>> {
        /// Choices by policy, so that the next try goes where the policy wants it, before any other endpoint will do.
        const ATTEMPTS: u32 = 8;
        let mut chosen = self.choose(key, 0)?;
        if !tried.is_empty() {
            let is_tried = |index: usize| {
                let endpoint = self.endpoints.get(index);
                endpoint.is_none_or(|endpoint| tried.contains(&endpoint.address))
            };
            let mut attempt = 0;
            while is_tried(chosen) && attempt < ATTEMPTS {
                attempt += 1;
                chosen = self.choose(key, attempt)?;
            }
            if is_tried(chosen) {
                chosen = self.any_but(tried).unwrap_or(chosen);
            }
        }
        self.endpoints.get(chosen).cloned()
    }

    fn choose(&self, key: Option<u64>, attempt: u32) -> Option<usize> {
        match (self.policy, key) {
            (Policy::RoundRobin, _) => self.round_robin.next(),
            (Policy::LeastRequest, _) => self.better(|first, second| is_less_loaded(second, first)),
            (Policy::PeakEwma, _) => {
                let now = Instant::now();
                self.better(|first, second| is_cheaper(second, first, now))
            }
            (Policy::RingHash | Policy::Maglev, Some(key)) => self.plan.owner(key, attempt),
            (Policy::Random | Policy::RingHash | Policy::Maglev, _) => {
                self.plan.weighted.choose(&mut self.random.borrow_mut())
            }
        }
    }

    /// Of two by chance, by weight, the first, unless the second is better. Between idle ones the first always stays:
    /// at low rates, shares are by weight, where comparing loads would give the heaviest everything.
    fn better(&self, second_is_better: impl FnOnce(&Endpoint<P>, &Endpoint<P>) -> bool) -> Option<usize> {
        let two = self.plan.weighted.choose_two(&mut self.random.borrow_mut());
        let (first, second) = two?;
        let (one, other) = (self.endpoints.get(first)?, self.endpoints.get(second)?);
        Some(if second_is_better(one, other) {
            second
        } else {
            first
        })
    }

    /// Any endpoint with weight that wasn't tried, from a place by chance on.
    fn any_but(&self, tried: &[BackendAddr]) -> Option<usize> {
        let count = self.endpoints.len();
        let start = self.random.borrow_mut().usize(..count.max(1));
        let mut indices = (start..count).chain(0..start.min(count));
        indices.find(|&index| {
            let endpoint = &self.endpoints[index];
            endpoint.weight.get() > 0 && !tried.contains(&endpoint.address)
        })
    }

    /// The address of the other family that an endpoint's name and port have as well, if it gets requests. O(n).
    pub fn other_family(&self, endpoint: &Endpoint<P>) -> Option<Rc<Endpoint<P>>> {
        endpoint.name.as_ref()?;
        let BackendAddr(own) = endpoint.address;
        let is_other = |other: &&Rc<Endpoint<P>>| {
            let BackendAddr(address) = other.address;
            other.name == endpoint.name
                && address.port() == own.port()
                && address.is_ipv4() != own.is_ipv4()
                && other.weight.get() > 0
        };
        self.endpoints.iter().find(is_other).cloned()
    }

    /// The endpoint that a sticky cookie among these headers names, in O(1), whatever the policy. A draining one keeps
    /// its clients; one that is unhealthy or gone doesn't: none, as without a cookie.
    pub fn sticky(&self, headers: &HeaderMap) -> Option<Rc<Endpoint<P>>> {
        let cookies = self.plan.cookies.as_ref()?;
        self.by_hash(cookies.signer.read(headers)?)
    }

    /// The endpoint of this name, unless it is unhealthy or gone.
    pub fn by_hash(&self, hash: sticky::EndpointHash) -> Option<Rc<Endpoint<P>>> {
        let index = *self.plan.cookies.as_ref()?.by_hash.get(&hash)?;
        let endpoint = self.endpoints.get(index)?;
        endpoint.healthy.get().then(|| Rc::clone(endpoint))
    }

    /// Set-Cookie for a response of this endpoint; none when the cluster isn't sticky. To be sent where [`Self::sticky`]
    /// had not named it.
    pub fn set_cookie(&self, endpoint: &Endpoint<P>) -> Option<HeaderValue> {
        self.signer()?.set_cookie(endpoint)
    }

    /// Signs and reads the cluster's cookies, if it is sticky.
    pub fn signer(&self) -> Option<&sticky::Signer> {
        self.plan.cookies.as_ref().map(|cookies| &cookies.signer)
    }
}

/// Whether an endpoint has fewer requests in flight for its weight than another.
fn is_less_loaded<P>(this: &Endpoint<P>, that: &Endpoint<P>) -> bool {
    that.active.get() > 0 && this.load() < that.load()
}

/// Whether an endpoint's latency times load is less than another's. Within an eighth they count as equal: differences that
/// small are noise, and would undo weights.
fn is_cheaper<P>(this: &Endpoint<P>, that: &Endpoint<P>, now: Instant) -> bool {
    const NOISE: f64 = 0.875;
    /// Seconds: an endpoint that never answered gets one request to begin with, not many.
    const UNKNOWN: f64 = 1e3;
    let idle = this.active.get() == 0 && that.active.get() == 0;
    let cost = |endpoint: &Endpoint<P>| {
        let latency = endpoint.latency.value(now);
        match (endpoint.active.get(), latency) {
            (0, None) => 0.0,
            (_, latency) if idle => latency.unwrap_or_default(),
            (_, latency) => endpoint.load() * latency.unwrap_or(UNKNOWN),
        }
    };
    cost(this) < cost(that) * NOISE
}

/// The same for all workers, so that they share one schedule; another in every process, so that many nodes don't begin
/// with the same endpoint.
fn process_salt() -> u64 {
    static SALT: OnceLock<u64> = OnceLock::new();
    *SALT.get_or_init(|| RandomState::new().hash_one("schedule"))
}

/// An address (IPv4-mapped where IPv4) and port as three lanes to hash; the last has 48 bits to spare.
fn identity(BackendAddr(address): BackendAddr) -> [u64; 3] {
    let bytes = u128::from_be_bytes(Address::from(address.ip()).bytes);
    [(bytes >> 64) as u64, bytes as u64, u64::from(address.port())]
}

#[cfg(test)]
mod tests;
