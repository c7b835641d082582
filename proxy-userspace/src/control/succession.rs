//! Another process becomes the daemon: what control gives away, and takes back if that process fails.

use super::{Core, Refusal, RefusalKind, report::counted};
use std::{io, net::SocketAddr, os::fd::OwnedFd};
use tokio::sync::oneshot;
use tracing::{error, info};

/// The workers' sockets: with an address those that listen on one, without those that the kernel steers connections to.
pub type HandedOver = Vec<(Option<SocketAddr>, OwnedFd)>;

/// What the thread for upgrades asks of control, in this order.
pub enum Step {
    /// Let go of the maps, and say what the workers accept from. They go on accepting.
    HandOver(oneshot::Sender<Result<HandedOver, String>>),
    /// The other process failed: take the maps again. Those who wait for that are told after the first word, and that they were is the
    /// second one.
    TakeBack(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// The other process is the daemon: leave.
    Leave(oneshot::Sender<()>),
}

impl Core {
    /// Lets go of the maps: from now on another process writes them. Health, DNS and the L7 plane go on as they were; nothing that
    /// anybody wishes is granted.
    ///
    /// # Errors
    /// No file descriptors are left, or it drains; nothing has changed.
    pub(super) fn hand_over(&mut self) -> io::Result<HandedOver> {
        if self.draining.is_some() {
            return Err(io::Error::other(
                "weir drains; `weir drain --cancel` has it go on",
            ));
        }
        let sockets = self.plane.sockets()?;
        self.plane.release_kernel();
        self.is_handing_over = true;
        Ok(sockets)
    }

    /// Takes the maps again and makes them right, whatever the other process did to them.
    pub(super) fn take_back(&mut self) {
        self.is_handing_over = false;
        if self.had_kernel
            && let Err(error) = self.plane.take_kernel_back(&self.snapshot.settings)
        {
            error!("the kernel plane can't be taken back: {error}; it forwards as the other process left it");
        }
        self.stale = true;
        self.settle();
        info!("generation {} goes on", self.snapshot.generation);
    }

    /// Nothing is this process's any more but connections that run.
    pub(super) fn leave(&mut self) {
        self.plane.release_kernel();
        self.plane.forget_sockets();
        let connections = self
            .plane
            .l7()
            .counters()
            .map(|worker| worker.connections.value());
        info!(
            "another process is the daemon now; {} left here to finish",
            counted(connections.sum::<u64>() as usize, "connection")
        );
    }

    /// Why a wish can't be granted now.
    pub(super) fn busy(&self) -> Option<Refusal> {
        if let Some(closing) = self.closing() {
            return Some(closing);
        }
        self.is_handing_over.then(|| {
            Refusal::new(
                RefusalKind::Stopping,
                "an upgrade is under way",
                "ask again in a moment: the new process answers then, or this one if that fails",
            )
        })
    }
}
