//! The planes as control sees them: the kernel's perhaps absent, either perhaps not yet where it should be.

use crate::{
    health,
    kernel::{FlowFacts, KernelCounters, KernelError, KernelPlane, News},
    l7::{L7Error, L7Plane},
    model::{BackendAddr, DaemonSettings, ListenAddr, ServerId, Service, Snapshot},
};
use proxy_common::{keys::FlowKey, net::Protocol};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};
use tracing::{error, warn};

/// Both planes; the kernel's, or why there is none.
pub struct Plane {
    kind: Kind,
    l7: L7Plane,
    /// The generation that was last applied in full.
    generation: Option<u64>,
    /// An apply failed half-way: the maps hold parts of two generations.
    torn: bool,
    /// What the kernel steers connections to: duplicates of the workers' sockets, which another process may be handed.
    sockets: Vec<TcpListener>,
    /// The maps don't have these sockets yet.
    unregistered: bool,
    /// The workers don't have them yet.
    ungiven: bool,
}

/// What a plane could not take.
#[derive(thiserror::Error, Debug)]
pub enum PlaneError {
    /// The kernel plane.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The L7 plane.
    #[error(transparent)]
    L7(#[from] L7Error),
}

enum Kind {
    Kernel(Box<KernelPlane>),
    Absent(String),
}

impl Plane {
    /// Forwards in the kernel, which steers connections to the workers' sockets.
    pub fn kernel(plane: KernelPlane, l7: L7Plane, sockets: Vec<TcpListener>) -> Self {
        Self {
            kind: Kind::Kernel(Box::new(plane)),
            l7,
            generation: None,
            torn: false,
            sockets,
            unregistered: true,
            ungiven: true,
        }
    }

    /// Forwards nothing in the kernel, for this reason.
    pub fn absent(reason: impl Into<String>, l7: L7Plane) -> Self {
        Self {
            kind: Kind::Absent(reason.into()),
            l7,
            generation: None,
            torn: false,
            sockets: Vec::new(),
            unregistered: false,
            ungiven: false,
        }
    }

    /// Why there is no kernel plane.
    pub fn absence(&self) -> Option<&str> {
        match &self.kind {
            Kind::Kernel(_) => None,
            Kind::Absent(reason) => Some(reason),
        }
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// What an earlier daemon left marked dead.
    pub(super) fn dead_backends(&self) -> Vec<(ListenAddr, Protocol, BackendAddr)> {
        match &self.kind {
            Kind::Kernel(plane) => plane.dead_backends(),
            Kind::Absent(_) => Vec::new(),
        }
    }

    pub(super) fn l7(&self) -> &L7Plane {
        &self.l7
    }

    pub(super) fn l7_mut(&mut self) -> &mut L7Plane {
        &mut self.l7
    }

    /// What the workers accept from: sockets that connections are steered to, and those of addresses.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub(super) fn sockets(&self) -> io::Result<Vec<(Option<SocketAddr>, OwnedFd)>> {
        let steered = self.sockets.iter().map(|socket| (None, socket));
        let listening = (self.l7.listening()).map(|(address, socket)| (Some(address), socket));
        (steered.chain(listening))
            .map(|(address, socket)| Ok((address, socket.try_clone()?.into())))
            .collect()
    }

    /// Closes what only waits to be handed on.
    pub(super) fn forget_sockets(&mut self) {
        self.sockets.clear();
    }

    /// Lets go of maps and links, for another process to take them: nothing is detached, and forwarding goes on.
    pub(super) fn release_kernel(&mut self) {
        if matches!(self.kind, Kind::Kernel(_)) {
            self.kind = Kind::Absent("an upgrade is under way".into());
            self.generation = None;
        }
    }

    /// Takes them again, after [`Plane::release_kernel`]; an apply is due.
    pub(super) fn take_kernel_back(&mut self, settings: &DaemonSettings) -> Result<(), KernelError> {
        let plane = KernelPlane::open(settings)?;
        self.kind = Kind::Kernel(Box::new(plane));
        self.unregistered = true;
        self.torn = true;
        Ok(())
    }

    /// Makes both planes equal to the snapshot; returns the number of map writes. The L7 plane comes first: it takes
    /// all or nothing, and refuses more often.
    pub(super) fn apply(&mut self, snapshot: &Snapshot) -> Result<usize, PlaneError> {
        self.l7.apply(snapshot)?;
        let Kind::Kernel(plane) = &mut self.kind else {
            return Ok(0);
        };
        if self.unregistered {
            for (worker, socket) in self.sockets.iter().enumerate() {
                plane.steering().register(worker, socket.as_fd())?;
            }
            plane.steering().forget_from(self.sockets.len());
            self.unregistered = false;
        }
        if self.ungiven {
            let sockets = self.sockets.iter().map(TcpListener::try_clone);
            let sockets = sockets.collect::<io::Result<_>>().map_err(L7Error::Sockets)?;
            self.l7.give_steered(sockets);
            self.ungiven = false;
        }
        self.torn = true;
        let writes = plane.apply(snapshot)?;
        self.torn = false;
        self.generation = Some(snapshot.generation);
        Ok(writes)
    }

    /// Puts workers in the place of those that are gone; says what is worth a line.
    pub(super) fn replace_workers(&mut self) {
        for worker in self.l7.missing() {
            match self.replace_worker(worker) {
                Ok(true) => warn!("worker {worker} ended and was replaced; its connections are lost"),
                Ok(false) => {}
                Err(error) => error!("worker {worker} ended and can't be replaced: {error}; trying again"),
            }
        }
    }

    fn replace_worker(&mut self, worker: usize) -> Result<bool, L7Error> {
        let given = if self.ungiven { 0 } else { self.sockets.len() };
        let its = self.sockets[..given].iter().skip(worker);
        let its = its.step_by(self.l7.workers().max(1)).map(TcpListener::try_clone);
        let its = its.collect::<io::Result<_>>().map_err(L7Error::Sockets)?;
        self.l7.replace(worker, its)
    }

    /// Attaches to interfaces that have appeared; whether an apply is due for them.
    pub(super) fn attend(&mut self, news: &News) -> bool {
        match &mut self.kind {
            Kind::Kernel(plane) => plane.attend(news),
            Kind::Absent(_) => false,
        }
    }

    /// Ends idle flows and those of dead or removed backends: how many ended, how many are left.
    pub(super) fn expire_flows(&mut self) -> Result<(usize, usize), KernelError> {
        match &mut self.kind {
            Kind::Kernel(plane) => plane.expire_flows(),
            Kind::Absent(_) => Ok((0, 0)),
        }
    }

    /// The ways of probes to backends without NAT; none without a kernel plane.
    pub(super) fn ways(&self, snapshot: &Snapshot) -> health::Ways {
        match &self.kind {
            Kind::Kernel(plane) => plane.ways(snapshot),
            Kind::Absent(_) => health::Ways::new(),
        }
    }

    /// What the maps say of a flow; none where there is no such service.
    pub(super) fn flow(
        &self,
        service: &Service,
        key: &FlowKey,
        server_id: Option<ServerId>,
    ) -> Result<Option<FlowFacts>, KernelError> {
        match &self.kind {
            Kind::Kernel(plane) => plane.flow(service, key, server_id),
            Kind::Absent(_) => Ok(None),
        }
    }

    pub(super) fn counters(&self) -> Result<Option<KernelCounters>, KernelError> {
        match &self.kind {
            Kind::Kernel(plane) => plane.counters().map(Some),
            Kind::Absent(_) => Ok(None),
        }
    }
}
