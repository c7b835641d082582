//! One XDP program under BPF_PROG_TEST_RUN.

use anyhow::{Context, Result};
use aya::{TestRun, TestRunOptions, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use std::path::Path;

/// XDP_DROP.
pub const DROP: u32 = 1;
/// XDP_PASS.
pub const PASS: u32 = 2;
/// XDP_TX.
pub const TX: u32 = 3;
/// XDP_REDIRECT.
pub const REDIRECT: u32 = 4;

/// Most metadata that leaves no room for more: of the 256 bytes of headroom the kernel keeps 40
/// for itself (`struct xdp_frame`).
pub const METADATA_FULL: usize = 216;

/// `struct xdp_md` of the kernel's UAPI.
#[derive(Clone, Copy, Default)]
struct Md {
    data: u32,
    data_end: u32,
    ingress_ifindex: u32,
}

/// Bytes of `struct xdp_md`.
const CONTEXT_LENGTH: usize = 24;

impl Md {
    /// Fields in order: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    fn bytes(self) -> [u8; CONTEXT_LENGTH] {
        let mut bytes = [0; CONTEXT_LENGTH];
        bytes[0..4].copy_from_slice(&self.data.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.data_end.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.ingress_ifindex.to_ne_bytes());
        bytes
    }
}

/// What a run left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran<'a> {
    /// The XDP action.
    pub action: u32,
    /// Metadata in front of the frame.
    pub metadata: &'a [u8],
    /// The frame.
    pub frame: &'a [u8],
}

/// A loaded program and the buffers for its runs.
pub struct Program {
    xdp: Xdp,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Program {
    /// Opens a pinned program.
    ///
    /// # Errors
    /// No such pin.
    pub fn from_pin(path: &Path) -> Result<Self> {
        let xdp = Xdp::from_pin(path, XdpAttachType::Interface)
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            xdp,
            input: Vec::new(),
            output: vec![0; 4096],
        })
    }

    /// Runs one frame that arrives at an interface, behind `metadata` zero bytes. All but its first
    /// `linear` bytes are in fragments of memory.
    ///
    /// # Errors
    /// The kernel refused to run it.
    pub fn run(&mut self, ifindex: u32, frame: &[u8], metadata: usize, linear: usize) -> Result<Ran<'_>> {
        self.input.clear();
        self.input.resize(metadata, 0);
        self.input.extend_from_slice(frame);
        let context = Md {
            data: metadata as u32,
            data_end: (metadata + linear) as u32,
            ingress_ifindex: ifindex,
        };
        let mut context_out = [0; CONTEXT_LENGTH];
        let result = self
            .xdp
            .test_run(TestRunOptions {
                data_in: Some(&self.input),
                data_out: Some(&mut self.output),
                ctx_in: Some(&context.bytes()),
                ctx_out: Some(&mut context_out),
                ..TestRunOptions::new()
            })
            .with_context(|| format!("BPF_PROG_TEST_RUN of {} bytes", self.input.len()))?;
        let length = result.data_size_out as usize;
        let [a, b, c, d, ..] = context_out;
        let start = u32::from_ne_bytes([a, b, c, d]) as usize;
        Ok(Ran {
            action: result.return_value,
            metadata: &self.output[..start],
            frame: &self.output[start..length],
        })
    }
}
