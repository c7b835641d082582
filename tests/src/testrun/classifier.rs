//! One TC program under BPF_PROG_TEST_RUN.

use anyhow::{Context, Result};
use aya::{TestRun, TestRunOptions, programs::SchedClassifier};
use std::path::Path;

/// TC_ACT_PIPE: on to the next program.
pub const PASS: u32 = 3;
/// TC_ACT_SHOT.
pub const SHOT: u32 = 2;
/// TC_ACT_REDIRECT.
pub const REDIRECT: u32 = 7;

/// Bytes of `struct __sk_buff`.
const CONTEXT_LENGTH: usize = 192;

/// Offsets of the fields that a test sets: where the packet came in (0: this host sends it), and the
/// interface it is at.
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;

/// A loaded program.
pub struct Classifier(SchedClassifier);

impl Classifier {
    /// Opens a pinned program.
    ///
    /// # Errors
    /// No such pin.
    pub fn from_pin(path: &Path) -> Result<Self> {
        let program = SchedClassifier::from_pin(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self(program))
    }

    /// Runs one frame at an interface; `came_in_by` is 0 if this host sends it. Returns the action
    /// and the frame.
    ///
    /// # Errors
    /// The kernel refused to run it.
    pub fn run(&self, ifindex: u32, came_in_by: u32, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut context = [0; CONTEXT_LENGTH];
        context[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&came_in_by.to_ne_bytes());
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let mut output = vec![0; 4096];
        let result = self
            .0
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                ctx_in: Some(&context),
                ..TestRunOptions::new()
            })
            .with_context(|| format!("BPF_PROG_TEST_RUN of {} bytes", frame.len()))?;
        output.truncate(result.data_size_out as usize);
        Ok((result.return_value, output))
    }
}
