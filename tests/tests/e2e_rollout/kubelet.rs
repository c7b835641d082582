//! What kubelet and the DaemonSet's controller do on one node, in their order: start the new pod beside the old one, ask its probes, run the
//! hook of the old one, then SIGTERM, and SIGKILL after the grace period.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use weir_tests::lab::{Container, Finished, Image, Node, Process, until};

/// A pod that gets ready does so within this time on a busy machine.
const READY: Duration = Duration::from_secs(300);

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

    /// Ends a pod in order; returns all that it logged.
    ///
    /// # Errors
    /// It had to be killed when its grace period was over, or didn't end with success.
    pub fn delete(&self, pod: Container) -> Result<String> {
        self.delete_while(pod, |_, _| Ok(()))
    }

    /// The same, with something done while its hook, the second, runs.
    pub fn delete_while(
        &self,
        mut pod: Container,
        meanwhile: impl FnOnce(&Container, &Process) -> Result<()>,
    ) -> Result<String> {
        let grace = self.node.manifest.pod["terminationGracePeriodSeconds"].as_u64();
        let over = Instant::now() + Duration::from_secs(grace.context("a grace period")?);
        let words = self.node.manifest.words("/lifecycle/preStop/exec/command")?;
        let mut hook = pod.exec_beside(&words)?;
        meanwhile(&pod, &hook)?;
        let left = over.saturating_duration_since(Instant::now());
        until("the hook's end in the grace period", left, || hook.ended())?;
        // The hook ends with the container, or before it.
        if pod.ended().is_none() {
            // It may end between the look and the signal.
            let _gone = pod.signal(Signal::TERM);
        }
        let left = over.saturating_duration_since(Instant::now());
        let ended = until("the pod's end in its grace period", left, || pod.ended())?;
        ensure!(ended.success(), "it ended with {ended}: {}", pod.output());
        Ok(pod.output())
    }
}
