//! The bench's kernel programs, from userspace: loading them, setting them, running them.

use super::frames::{LENGTH, Shape};
use crate::build_ebpf;
use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, MapData, MapInfo, PerCpuArray, ProgramArray},
    programs::{ProgramFd, ProgramInfo, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use std::{path::Path, time::Duration};

/// Mirrors `Settings` in `proxy-ebpf/src/bench/frame.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Settings {
    frame: [u8; LENGTH],
    first: u32,
    count: u32,
    ifindex: u32,
    shape: u32,
}

// SAFETY: integers without padding.
unsafe impl Pod for Settings {}

/// Which packets a run makes.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Flow 0.
    pub frame: [u8; LENGTH],
    /// Its headers.
    pub shape: Shape,
    /// Number of the first flow.
    pub first: u32,
    /// Flows that take turns.
    pub flows: u32,
}

/// The balancer's maps that the bare program reads.
const SHARED: [&str; 5] = [
    "services",
    "slots",
    "backends",
    "service_counters",
    "backend_counters",
];

/// XDP's verdicts, as numbers of the kernel's ABI.
pub const XDP_PASS: u32 = 2;
/// Sent back by the interface it came from.
pub const XDP_TX: u32 = 3;

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
    subject: ProgramArray<MapData>,
}

impl Programs {
    /// Loads all of them, with maps of their own.
    ///
    /// # Errors
    /// When the object isn't built or the kernel refuses it.
    pub fn load() -> Result<Self> {
        Self::load_beside(None)
    }

    /// The same, with the balancer's maps for the bare program, from where they are pinned.
    ///
    /// # Errors
    /// As above.
    pub fn load_beside(pins: Option<&Path>) -> Result<Self> {
        let path = build_ebpf::folder().join("weir-bench.o");
        let mut loader = EbpfLoader::new();
        let pins = pins.map(|pins| SHARED.map(|name| (name, pins.join(name))));
        for (name, path) in pins.iter().flatten() {
            loader.map_pin_path(name, path.as_path());
            loader.map_max_entries(name, MapInfo::from_pin(path)?.max_entries());
        }
        let mut ebpf = loader
            .load_file(&path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        let subject = ebpf.take_map("BENCH_SUBJECT").context("no map BENCH_SUBJECT")?;
        let mut this = Self {
            ebpf,
            subject: subject.try_into()?,
        };
        for name in [
            "bench_stage",
            "bench_floor_tx",
            "bench_floor_rewrite",
            "bench_floor_forward",
            "bench_bare_ipip",
            "bench_generate",
            "bench_receive",
        ] {
            this.program(name)?
                .load()
                .with_context(|| format!("cannot load {name}"))?;
        }
        Ok(this)
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// A floor's handle, for [`Programs::time`].
    ///
    /// # Errors
    /// When there is no such program.
    pub fn floor(&mut self, name: &str) -> Result<ProgramFd> {
        Ok(self.program(name)?.fd()?.try_clone()?)
    }

    /// Sets what the next runs send, from its first flow on.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn send(&mut self, traffic: &Traffic, ifindex: u32) -> Result<()> {
        let settings = Settings {
            frame: traffic.frame,
            first: traffic.first,
            count: traffic.flows,
            ifindex,
            shape: traffic.shape as u32,
        };
        self.array("BENCH_SETTINGS")?.set(0, settings, 0)?;
        self.array("BENCH_TURN")?.set(0, 0_u32, 0)?;
        Ok(())
    }

    fn array<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        Ok(self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?
            .try_into()?)
    }

    /// Runs stage and subject `count` times on this CPU as if packets arrived on an interface.
    /// Returns the time one took, and checks the last one's verdict.
    ///
    /// # Errors
    /// When the kernel refuses, or the verdict is another one.
    pub fn time(&mut self, subject: &ProgramFd, ifindex: u32, count: u32, verdict: u32) -> Result<Duration> {
        self.subject
            .set(0, subject, 0)
            .context("cannot set the program under test")?;
        let context = arrival(ifindex);
        let options = TestRunOptions {
            data_in: Some(&[0; LENGTH]),
            ctx_in: Some(&context),
            repeat: count,
            ..TestRunOptions::new()
        };
        let result = self
            .program("bench_stage")?
            .test_run(options)
            .context("BPF_PROG_TEST_RUN")?;
        if result.return_value != verdict {
            bail!(
                "the program under test returned {} instead of {verdict}",
                result.return_value
            );
        }
        Ok(result.duration)
    }

    /// Sends `count` packets as fast as one CPU can, by the interface of [`Programs::send`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn generate(&self, count: u32) -> Result<()> {
        let options = TestRunOptions {
            data_in: Some(&[0; LENGTH]),
            repeat: count,
            // As many as veth's bulk queue and NAPI take at a time.
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        let program = self
            .ebpf
            .program("bench_generate")
            .context("no program bench_generate")?;
        let program: &Xdp = program.try_into()?;
        program.test_run(options).context("live frames")?;
        Ok(())
    }

    /// Attaches the receiver to an interface; it counts packets for this UDP port.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive(&mut self, interface: &str, port: u16) -> Result<()> {
        self.array("BENCH_PORT")?.set(0, u32::from(port), 0)?;
        self.program("bench_receive")?
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("cannot attach the receiver to {interface}"))?;
        Ok(())
    }

    /// Attaches the forwarding floor to an interface; it sends by another one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forward(&mut self, arriving: &str, leaving_ifindex: u32) -> Result<()> {
        self.array("BENCH_LEAVE")?.set(0, leaving_ifindex, 0)?;
        self.program("bench_floor_forward")?
            .attach(arriving, XdpMode::Driver)
            .with_context(|| format!("cannot attach the floor to {arriving}"))?;
        Ok(())
    }

    /// Packets received so far: as a backend should see them, and others.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn received(&self) -> Result<[u64; 2]> {
        let map = self.ebpf.map("BENCH_RECEIVED").context("no map BENCH_RECEIVED")?;
        let map: PerCpuArray<_, u64> = map.try_into()?;
        let sum = |index| Ok::<u64, aya::maps::MapError>(map.get(&index, 0)?.iter().sum());
        Ok([sum(0)?, sum(1)?])
    }
}

/// A pinned program's handle.
///
/// # Errors
/// When there is none.
pub fn pinned(path: &Path) -> Result<ProgramFd> {
    let program = ProgramInfo::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(program.fd()?)
}

/// `struct xdp_md` of the kernel's ABI: data, data_end, data_meta, ingress ifindex, queue, egress.
fn arrival(ifindex: u32) -> Vec<u8> {
    [0, LENGTH as u32, 0, ifindex, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}
