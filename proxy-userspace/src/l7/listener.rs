//! A worker's view of listeners and clusters: the generation that it serves, and the state that outlives generations.

use super::{
    balance::{Balancer, Seat},
    compile::{Compiled, CompiledCluster, CompiledListener},
    log,
    meters::{Downstream, Meter, Upstream},
    trace::Tracer,
    upstream::Pool,
};
use crate::model::{self, ClusterName, l7::PortRange};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};
use tokio::sync::Notify;

/// A cluster in one worker.
pub struct Cluster {
    /// Settings and TLS of the present generation.
    pub compiled: RefCell<Arc<CompiledCluster>>,
    /// Chooses endpoints, and holds their pools.
    pub balancer: RefCell<Balancer<Rc<Pool>>>,
    /// This worker's counters of it.
    pub meter: Meter<Upstream>,
    seat: Seat,
}

impl Cluster {
    fn new(compiled: &Arc<CompiledCluster>, seat: Seat) -> Rc<Self> {
        Rc::new(Self {
            compiled: RefCell::new(Arc::clone(compiled)),
            balancer: RefCell::new(Balancer::with_plan(
                &compiled.model,
                compiled.plan.clone(),
                seat,
                pool(compiled, seat),
            )),
            meter: Meter::new(&compiled.meters.cluster, seat.index),
            seat,
        })
    }

    fn update(&self, compiled: &Arc<CompiledCluster>) {
        if Arc::ptr_eq(&self.compiled.borrow(), compiled) {
            return;
        }
        self.compiled.replace(Arc::clone(compiled));
        let mut balancer = self.balancer.borrow_mut();
        balancer.update_with_plan(&compiled.model, compiled.plan.clone(), pool(compiled, self.seat));
        for endpoint in balancer.endpoints() {
            endpoint.pool.update(Arc::clone(compiled));
        }
    }

    /// Counts a request that no endpoint takes.
    pub fn no_endpoint(&self) {
        self.meter.traffic.requests.increase();
        self.meter.failures.increase();
    }

    /// Its name.
    pub fn name(&self) -> ClusterName {
        self.compiled.borrow().model.name.clone()
    }
}

fn pool(compiled: &Arc<CompiledCluster>, seat: Seat) -> impl FnMut(&model::Endpoint) -> Rc<Pool> + '_ {
    move |endpoint| {
        Pool::new(
            endpoint.address,
            endpoint.name.clone(),
            Arc::clone(compiled),
            seat.index,
        )
    }
}

/// What a listener serves at one generation.
pub struct Serving {
    /// Shared with the other workers.
    pub compiled: Arc<CompiledListener>,
    /// Its clusters, as its targets count them.
    pub clusters: Vec<Rc<Cluster>>,
    /// Writes its access log.
    pub log: Option<Rc<log::Logger>>,
    /// Whose counters its requests write.
    pub worker: usize,
    /// Traces its requests.
    pub tracer: Option<Rc<Tracer>>,
}

/// A listener in one worker: connections keep it, whatever it serves.
pub struct Listener {
    serving: RefCell<Rc<Serving>>,
    connections: Cell<u32>,
    room: Notify,
    /// This worker's counters of it.
    pub meter: Meter<Downstream>,
}

impl Listener {
    /// What it serves now.
    pub fn serving(&self) -> Rc<Serving> {
        Rc::clone(&self.serving.borrow())
    }

    /// Waits until this worker's share of its connections is not full.
    pub async fn wait_for_room(&self, workers: usize) {
        loop {
            let most = self.serving.borrow().compiled.model.max_connections;
            let share = most.div_ceil(u32::try_from(workers.max(1)).unwrap_or(u32::MAX));
            if self.connections.get() < share {
                return;
            }
            self.room.notified().await;
        }
    }

    /// One connection more until the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> Entered {
        self.connections.set(self.connections.get() + 1);
        self.meter.connections.increase();
        self.meter.accepted.increase();
        Entered(Rc::clone(self))
    }
}

/// A connection of a listener.
pub struct Entered(Rc<Listener>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.meter.connections.decrease();
        self.0.room.notify_one();
    }
}

/// All that a worker serves.
#[derive(Default)]
pub struct World {
    /// By name.
    pub listeners: HashMap<Arc<str>, Rc<Listener>>,
    clusters: HashMap<ClusterName, Rc<Cluster>>,
    /// Listeners by address and port, those that have one port.
    by_address: HashMap<SocketAddr, Rc<Listener>>,
    /// The others.
    by_range: Vec<(PortRange, Rc<Listener>)>,
    tracer: Option<Rc<Tracer>>,
}

impl World {
    /// The listener that a connection to this address belongs to: the most exact one.
    pub fn listener_at(&self, local: SocketAddr) -> Option<Rc<Listener>> {
        let any: IpAddr = match local {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let in_range = |address: IpAddr| {
            let found = (self.by_range.iter()).find(|(range, _)| {
                range.address == address && (range.first..=range.last).contains(&local.port())
            });
            found.map(|(_, listener)| listener)
        };
        let found = (self.by_address.get(&local))
            .or_else(|| in_range(local.ip()))
            .or_else(|| self.by_address.get(&SocketAddr::new(any, local.port())))
            .or_else(|| in_range(any))
            // `[::]` takes IPv4 too.
            .or_else(|| self.by_address.get(&(Ipv6Addr::UNSPECIFIED, local.port()).into()))
            .or_else(|| in_range(Ipv6Addr::UNSPECIFIED.into()));
        found.cloned()
    }

    fn index(&mut self) {
        self.by_address.clear();
        self.by_range.clear();
        for listener in self.listeners.values() {
            for range in &listener.serving.borrow().compiled.model.addresses {
                if range.first == range.last {
                    let address = SocketAddr::new(range.address, range.first);
                    self.by_address.insert(address, Rc::clone(listener));
                } else {
                    self.by_range.push((*range, Rc::clone(listener)));
                }
            }
        }
    }

    /// Goes over to another generation. What is gone stays with the connections that use it.
    pub fn follow(&mut self, compiled: &Compiled, seat: Seat) {
        let mut clusters = HashMap::new();
        for each in &compiled.clusters {
            let cluster = match self.clusters.remove(&each.model.name) {
                Some(cluster) => {
                    cluster.update(each);
                    cluster
                }
                None => Cluster::new(each, seat),
            };
            clusters.insert(each.model.name.clone(), cluster);
        }
        self.clusters = clusters;
        let tracer = self.trace(compiled);
        let mut listeners = HashMap::new();
        for each in &compiled.listeners {
            let named = each.clusters.iter();
            let serving = Rc::new(Serving {
                compiled: Arc::clone(each),
                // Validation saw to it that every name is there.
                clusters: named
                    .filter_map(|name| self.clusters.get(name).cloned())
                    .collect(),
                log: self.logger(each),
                worker: seat.index,
                tracer: tracer.clone(),
            });
            let listener = match self.listeners.remove(&each.model.name) {
                Some(listener) => {
                    listener.serving.replace(serving);
                    listener.room.notify_waiters();
                    listener
                }
                None => Rc::new(Listener {
                    serving: RefCell::new(serving),
                    connections: Cell::new(0),
                    room: Notify::new(),
                    meter: Meter::new(&each.meters.listener, seat.index),
                }),
            };
            listeners.insert(Arc::clone(&each.model.name), listener);
        }
        self.listeners = listeners;
        self.index();
    }

    fn trace(&mut self, compiled: &Compiled) -> Option<Rc<Tracer>> {
        self.tracer = match (&compiled.tracing, self.tracer.take()) {
            (None, _) => None,
            (Some(same), Some(tracer)) if Arc::ptr_eq(same, &tracer.tracing) => Some(tracer),
            (Some(other), _) => Some(Rc::new(Tracer::new(Arc::clone(other)))),
        };
        self.tracer.clone()
    }

    fn logger(&self, compiled: &Arc<CompiledListener>) -> Option<Rc<log::Logger>> {
        let (sink, format) = compiled.log.as_ref()?;
        if let Some(before) = self.listeners.get(&compiled.model.name) {
            let before = before.serving.borrow();
            if Arc::ptr_eq(&before.compiled, compiled) {
                return before.log.clone();
            }
        }
        let logger = log::Logger::new(Arc::clone(sink), Arc::clone(format));
        Some(Rc::new(logger))
    }

    /// Hands over what access logs have gathered.
    pub fn flush_logs(&self) {
        for listener in self.listeners.values() {
            if let Some(log) = &listener.serving.borrow().log {
                log.flush();
            }
        }
    }

    /// Every pool.
    pub fn pools(&self) -> Vec<Rc<Pool>> {
        let balancers = self.clusters.values().map(|cluster| cluster.balancer.borrow());
        balancers
            .flat_map(|balancer| {
                let pools = balancer.endpoints().iter().map(|each| Rc::clone(&each.pool));
                pools.collect::<Vec<_>>()
            })
            .collect()
    }
}
