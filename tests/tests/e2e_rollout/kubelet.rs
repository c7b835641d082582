//! What kubelet and the DaemonSet's controller do on one node, in their order: start the new pod beside the old one, ask its probes, run the
//! hook of the old one, then SIGTERM, and SIGKILL after the grace period.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::{
    thread,
    time::{Duration, Instant},
};
use weir_tests::lab::{Container, Finished, Image, Node, until};

/// A pod that gets ready does so within this time on a busy machine.
const READY: Duration = Duration::from_secs(300);

/// How a pod went.
#[derive(Debug)]
pub struct Deleted {
    /// What its hook printed.
    pub said: String,
    /// All that it logged.
    pub log: String,
}

/// On one node.
pub struct Kubelet {
    /// The machine.
    pub node: Node,
}

impl Kubelet {
    /// Starts a pod and waits until it is ready.
    pub fn start(&self, image: &Image) -> Result<Container> {
        let mut pod = self.node.start(image)?;
        self.wait_ready(&mut pod)?;
        Ok(pod)
    }

    /// Until the startup probe and the readiness probe succeed.
    pub fn wait_ready(&self, pod: &mut Container) -> Result<()> {
        let mut said = String::new();
        for probe in ["startupProbe", "readinessProbe"] {
            let waited = until(probe, READY, || {
                let probed = self.probe(pod, probe).ok()?;
                said = format!("{probed:?}");
                (probed.status.success() || pod.ended().is_some()).then_some(())
            });
            pod.check()?;
            waited.with_context(|| format!("{said}\n{}", pod.output()))?;
        }
        Ok(())
    }

    /// Asks a probe once.
    pub fn probe(&self, pod: &Container, name: &str) -> Result<Finished> {
        pod.exec(&self.node.manifest.words(&format!("/{name}/exec/command"))?)
    }

    /// Ends a pod in order.
    ///
    /// # Errors
    /// It had to be killed when its grace period was over, or didn't end with success.
    pub fn delete(&self, pod: Container) -> Result<Deleted> {
        self.delete_while(pod, |_| Ok(()))
    }

    /// The same, with something done while its hook runs.
    pub fn delete_while(
        &self,
        mut pod: Container,
        meanwhile: impl FnOnce(&Container) -> Result<()>,
    ) -> Result<Deleted> {
        let grace = self.node.manifest.pod["terminationGracePeriodSeconds"].as_u64();
        let over = Instant::now() + Duration::from_secs(grace.context("a grace period")?);
        let words = self.node.manifest.words("/lifecycle/preStop/exec/command")?;
        let hook = thread::scope(|scope| -> Result<Finished> {
            let hook = scope.spawn(|| pod.exec(&words));
            meanwhile(&pod)?;
            hook.join()
                .unwrap_or_else(|_| bail!("the hook's thread panicked"))
        })?;
        // The hook ends with the container, or before it.
        if pod.ended().is_none() {
            // It may end between the look and the signal.
            let _gone = pod.signal(Signal::TERM);
        }
        let left = over.saturating_duration_since(Instant::now());
        let ended = until("the pod's end in its grace period", left, || pod.ended())?;
        ensure!(ended.success(), "it ended with {ended}: {}", pod.output());
        Ok(Deleted {
            said: hook.stdout,
            log: pod.output(),
        })
    }
}
