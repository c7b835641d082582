//! The only builder of Snapshots: events in, one Snapshot out, applied all or nothing.
//!
//! One thread owns everything here. [`Handle`] is how the rest of the process talks to it.

mod build;
mod chores;
mod core;
mod descriptors;
mod desired;
mod draining;
mod host;
mod loader;
mod memory;
mod overrides;
mod plane;
mod report;
mod report_config;
mod report_flow;
mod report_l7;
mod report_metrics;
mod report_metrics_l7;
mod report_topology;
mod report_upstream;
mod report_weights;
mod resolved;
mod saved;
pub mod service;
mod succession;
mod turns;
mod verdicts;
mod watch;
mod wishes;

#[cfg(test)]
mod tests;

pub use self::core::{Companions, Core};
pub use descriptors::raise_limit;
pub use draining::DrainWish;
pub use plane::{Plane, PlaneError};
pub use report_metrics::MOST_ENDPOINTS;
pub use succession::{HandedOver, Step};
pub use turns::{End, Inputs, Signals, Stay, drain, run};
pub use watch::{ConfigWatch, ReferencedFiles};

use crate::{
    admin::{
        Caller, Origin,
        drain::{DrainOrder, DrainStatus},
        flow::FlowAnswer,
        metrics::Format,
        status::{ChangeAnswer, EndpointPatch, Status},
    },
    discovery, health,
    model::{BackendAddr, ClusterName, ConnectionId, EndpointId},
};
use bytes::Bytes;
use proxy_common::net::Protocol;
use std::{fmt, net::SocketAddr};
use tokio::sync::{mpsc, oneshot};

/// Something that may lead to another Snapshot, or asks about the present one.
pub enum Event {
    /// A health check has something new to say: a fact, never refused.
    Health(health::Report),
    /// A name has other addresses, or none are to be had: a fact too.
    Resolved(discovery::Answer),
    /// Somebody wants a change, which may be refused.
    Wish(Wish),
    /// Somebody wants the daemon to drain, or to go on.
    Drain(DrainWish),
    /// What is the state of things?
    Status(oneshot::Sender<Status>),
    /// All metrics, in this format.
    Metrics(Format, oneshot::Sender<Bytes>),
    /// Where does a flow go?
    Flow(FlowQuestion, oneshot::Sender<Result<FlowAnswer, Refusal>>),
    /// Another question, which is answered in a moment.
    Look(Box<dyn FnOnce(&Core) + Send>),
}

/// A flow as it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowQuestion {
    /// Its protocol.
    pub protocol: Protocol,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The VIP and port it is sent to.
    pub vip: SocketAddr,
    /// The destination connection ID of a QUIC packet.
    pub connection_id: Option<ConnectionId>,
}

/// A wanted change and who waits for its outcome.
pub struct Wish {
    what: Want,
    origin: Origin,
    outcome: Option<oneshot::Sender<Result<ChangeAnswer, Refusal>>>,
}

/// What is wanted.
enum Want {
    Reload(Trigger),
    SetEndpoint(EndpointId, EndpointPatch),
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload(_) => f.write_str("reload"),
            Self::SetEndpoint(id, patch) => {
                write!(f, "{id}:")?;
                if let Some(weight) = patch.weight {
                    write!(f, " weight {weight}")?;
                }
                match patch.drain {
                    Some(true) => f.write_str(" drain")?,
                    Some(false) => f.write_str(" no drain")?,
                    None => {}
                }
                f.write_str(if patch.durable { ", durable" } else { "" })
            }
        }
    }
}

/// What asked for a reload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// The files changed.
    Files,
    /// SIGHUP.
    Hangup,
    /// `POST /reload`.
    Api,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "its files changed",
            Self::Hangup => "SIGHUP",
            Self::Api => "POST /reload",
        })
    }
}

/// Why a change was refused; whatever was running goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: RefusalKind,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// The caller named something that is not there.
    NotFound,
    /// The caller gave an impossible value.
    Invalid,
    /// The config has mistakes.
    Config,
    /// The kernel plane could not take it.
    Kernel,
    /// What is to outlive the daemon could not be written.
    Disk,
    /// The daemon is stopping.
    Stopping,
}

impl Refusal {
    fn new(kind: RefusalKind, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
            remedy: remedy.into(),
        }
    }

    fn stopping() -> Self {
        Self::new(
            RefusalKind::Stopping,
            "weir is stopping",
            "ask again when it has been started",
        )
    }
}

/// A way to send events to control, for any number of tasks.
#[derive(Clone)]
pub struct Handle {
    events: mpsc::Sender<Event>,
}

/// Events that wait while control is busy; senders beyond wait themselves.
const WAITING_EVENTS: usize = 256;

impl Handle {
    /// A handle, and the end that [`run`] reads.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(WAITING_EVENTS);
        (Self { events }, receiver)
    }

    /// The state of things.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn status(&self) -> Result<Status, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.events
            .send(Event::Status(sender))
            .await
            .map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())
    }

    /// All metrics, written down.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn metrics(&self, format: Format) -> Result<Bytes, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.events
            .send(Event::Metrics(format, sender))
            .await
            .map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())
    }

    /// Where a flow goes, and why.
    ///
    /// # Errors
    /// There is no such service, or no kernel plane.
    pub async fn flow(&self, question: FlowQuestion) -> Result<FlowAnswer, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.events
            .send(Event::Flow(question, sender))
            .await
            .map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())?
    }

    /// What this says of control's state. It runs on the control thread: it must not wait.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let look = move |core: &Core| {
            let _gone = sender.send(question(core));
        };
        self.events
            .send(Event::Look(Box::new(look)))
            .await
            .map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())
    }

    /// Reads the config again and applies it.
    ///
    /// # Errors
    /// It has mistakes, or the kernel plane could not take it: nothing changed.
    pub async fn reload(&self, trigger: Trigger, origin: Origin) -> Result<ChangeAnswer, Refusal> {
        self.wish(Want::Reload(trigger), origin).await
    }

    /// Overrides an endpoint's weight or drain, until the next start or durably.
    ///
    /// # Errors
    /// No such endpoint, or the kernel plane or the disk could not take it: nothing changed.
    pub async fn set_endpoint(
        &self,
        cluster: &str,
        address: BackendAddr,
        patch: EndpointPatch,
        origin: Origin,
    ) -> Result<ChangeAnswer, Refusal> {
        let cluster = ClusterName(cluster.into());
        self.wish(Want::SetEndpoint(EndpointId { cluster, address }, patch), origin)
            .await
    }

    /// Drains the daemon, or with no order ends the drain that is under way.
    ///
    /// # Errors
    /// An impossible time, listeners that are closed already, or an upgrade that is under way.
    pub async fn drain(&self, order: Option<DrainOrder>, origin: Origin) -> Result<DrainStatus, Refusal> {
        let (asker, answer) = oneshot::channel();
        let wish = DrainWish { order, origin, asker };
        (self.events.send(Event::Drain(wish)).await).map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())?
    }

    async fn wish(&self, what: Want, origin: Origin) -> Result<ChangeAnswer, Refusal> {
        let (sender, outcome) = oneshot::channel();
        let wish = Wish {
            what,
            origin,
            outcome: Some(sender),
        };
        self.events
            .send(Event::Wish(wish))
            .await
            .map_err(|_| Refusal::stopping())?;
        outcome.await.map_err(|_| Refusal::stopping())?
    }
}

impl Wish {
    /// A reload on SIGHUP, that nobody waits for.
    fn hangup() -> Self {
        Self {
            what: Want::Reload(Trigger::Hangup),
            origin: Caller::Hangup.into(),
            outcome: None,
        }
    }
}
