//! Runs packets through the real program by BPF_PROG_TEST_RUN, in a network namespace of its own.

pub mod classifier;
pub mod compare;
pub mod fuzz;
mod load;
mod maps;
pub mod program;
mod scenario;
pub mod schedules;
pub mod snapshot;
pub mod steering;
mod sweep;
pub mod tally;
pub mod topology;
pub mod tunnels;

use crate::model::{
    Model,
    generate::Input,
    network::{Route, Target},
};
use anyhow::{Context, Result, bail};
use classifier::Classifier;
use maps::Maps;
use program::{METADATA_FULL, Program, Ran};
use proxy_common::values::{FlowBudget, Settings};
use snapshot::Plan;
use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};
use topology::Topology;
use weir::{
    kernel::{EventReader, KernelPlane},
    model::{Role, Snapshot},
};

/// Where bpffs is mounted.
const BPFFS: &str = "/sys/fs/bpf";

/// How the pin directories of this package start; the process id and a number follow.
const PIN_PREFIX: &str = "weir-test-";

/// Runs `body` in a thread with a new network namespace, which ends with it.
///
/// # Errors
/// Those of `body`, and of making the namespace.
pub fn isolated<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: NEWNET alone; file descriptors stay shared with the other threads.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .context("make a network namespace (needs root)")?;
            body()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The real program, its maps, and its surroundings.
pub struct Bench {
    plane: Option<KernelPlane>,
    pins: PathBuf,
    program: Program,
    maps: Maps,
    /// Interfaces, routes and neighbours.
    pub topology: Topology,
    snapshot: Snapshot,
}

impl Bench {
    /// Makes the surroundings in this thread's network namespace, loads the programs and applies
    /// the plan. Call it inside [`isolated`].
    ///
    /// # Errors
    /// What is missing, in the words of the daemon.
    pub fn open(plan: &Plan) -> Result<Self> {
        remove_leftovers()?;
        let mut topology = Topology::create()?;
        for vip in &plan.decap_vips {
            topology.network.routes.push(Route {
                prefix: *vip,
                length: if vip.is_ipv4() { 32 } else { 128 },
                target: Target::Nowhere,
            });
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pins = Path::new(BPFFS).join(format!("{PIN_PREFIX}{}-{number}", std::process::id()));
        let snapshot = plan.snapshot(&pins)?;
        let mut plane = KernelPlane::open(&snapshot.settings)?;
        plane.apply(&snapshot)?;
        topology::close()?;
        let program = program_of(&pins, plan)?;
        let mut maps = Maps::from_pins(&pins)?;
        answer_always(&mut maps)?;
        Ok(Self {
            plane: Some(plane),
            pins,
            program,
            maps,
            topology,
            snapshot,
        })
    }

    /// Makes the maps equal to another plan, through the daemon's own code; returns how many map writes it took.
    ///
    /// # Errors
    /// The kernel plane refused it.
    pub fn apply(&mut self, plan: &Plan) -> Result<usize> {
        let mut snapshot = plan.snapshot(&self.pins)?;
        snapshot.generation = self.snapshot.generation + 1;
        let writes = self.plane()?.apply(&snapshot)?;
        self.snapshot = snapshot;
        Ok(writes)
    }

    /// Drops the kernel plane, as a kill of the daemon does, and opens another one over the same pins.
    ///
    /// # Errors
    /// The kernel plane refused to open, or the plan.
    pub fn restart(&mut self, plan: &Plan) -> Result<()> {
        let mut snapshot = plan.snapshot(&self.pins)?;
        snapshot.generation = self.snapshot.generation + 1;
        self.plane = None;
        let mut plane = KernelPlane::open(&snapshot.settings)?;
        plane.apply(&snapshot)?;
        topology::close()?;
        answer_always(&mut self.maps)?;
        self.program = program_of(&self.pins, plan)?;
        self.plane = Some(plane);
        self.snapshot = snapshot;
        Ok(())
    }

    /// The kernel plane under test.
    ///
    /// # Errors
    /// It was closed.
    pub fn plane(&mut self) -> Result<&mut KernelPlane> {
        self.plane.as_mut().context("the kernel plane is closed")
    }

    /// Runs one frame.
    ///
    /// # Errors
    /// The kernel refused to run it.
    pub fn run(&mut self, input: &Input) -> Result<Ran<'_>> {
        let metadata = metadata(input);
        self.program
            .run(input.ifindex, &input.frame, metadata, input.linear)
    }

    /// The program under test.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Has the kernel plane sweep flows, and does something again and again meanwhile.
    ///
    /// # Errors
    /// The kernel plane's, or of what is done.
    pub fn sweep_meanwhile(&mut self, mut work: impl FnMut(&mut Program) -> Result<()>) -> Result<()> {
        let plane = self.plane.as_mut().context("the kernel plane is closed")?;
        let program = &mut self.program;
        std::thread::scope(|scope| {
            let sweeping = scope.spawn(|| plane.expire_flows());
            while !sweeping.is_finished() {
                work(program)?;
            }
            match sweeping.join() {
                Ok(swept) => Ok(swept.map(drop)?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A program for packets that this host sends.
    ///
    /// # Errors
    /// It isn't pinned.
    pub fn egress(&self, name: &str) -> Result<Classifier> {
        Classifier::from_pin(&self.pins.join("programs").join(name))
    }

    /// Has the programs tell of one event in `sample`, as long as the reader lives.
    ///
    /// # Errors
    /// In the words of `weir monitor`.
    pub fn events(&self, sample: NonZeroU32) -> Result<EventReader> {
        Ok(EventReader::open(&self.pins, sample)?)
    }

    /// Has the host store no new flows, or as many as come; tells the model. By an empty bucket on every CPU that is never refilled.
    ///
    /// # Errors
    /// The kernel refused the write.
    pub fn limit_flows(&mut self, model: &mut Model, is_limited: bool) -> Result<()> {
        model.is_limited = is_limited;
        self.maps.set_flow_budget(FlowBudget {
            rate: u32::from(is_limited),
            tokens: 0,
            at: u64::MAX,
        })
    }

    /// The program's maps.
    pub fn maps(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// A model that knows what the daemon was told and chose, and no flows.
    ///
    /// # Errors
    /// The maps can't be read, or they don't say what the snapshot does.
    pub fn model(&self) -> Result<Model> {
        let network = self.topology.network.clone();
        let mut model = Model::new(
            network,
            self.maps.settings()?,
            self.maps.flow_entries_max(),
            self.snapshot.settings.max_tracked_flows as usize,
        );
        model.tracked = self.maps.tracked_flows()?;
        load::load(&mut model, &self.maps, &self.snapshot)?;
        Ok(model)
    }

    /// Brings a model up to date with the last snapshot; it keeps its flows, and the counts of what
    /// is still there.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub fn update(&self, model: &mut Model) -> Result<()> {
        let mut new = self.model()?;
        load::check_slots(model, &new)?;
        new.flows = std::mem::take(&mut model.flows);
        new.tracked = std::mem::take(&mut model.tracked);
        new.fragments = std::mem::take(&mut model.fragments);
        (new.followed, new.named) = (model.followed, model.named);
        new.tunnels.outcomes = std::mem::take(&mut model.tunnels.outcomes);
        new.left = std::mem::take(&mut model.left);
        new.is_limited = model.is_limited;
        new.affinities = std::mem::take(&mut model.affinities);
        new.counts = std::mem::take(&mut model.counts);
        // An index that is used anew counts from zero.
        for (key, service) in &new.services {
            if model.services.get(key) != Some(service) {
                new.counts.services.remove(&service.index);
            }
        }
        for (index, backend) in &new.backends {
            let old = model.backends.get(index).map(|old| old.incarnation);
            if old != Some(backend.incarnation) {
                new.counts.backends.remove(index);
            }
        }
        *model = new;
        Ok(())
    }
}

/// The XDP program of the plan's role.
fn program_of(pins: &Path, plan: &Plan) -> Result<Program> {
    let name = match plan.role {
        Role::Balancer => "xdp_balancer",
        Role::Backend => "xdp_decap",
    };
    Program::from_pin(&pins.join("programs").join(name))
}

/// What the program answers must follow from the packets alone, not from how fast they come.
fn answer_always(maps: &mut Maps) -> Result<()> {
    maps.set_settings(Settings {
        icmp_budget: u16::MAX,
        ..maps.settings()?
    })
}

/// The clock that stamps flows, without the offset of the settings: CLOCK_MONOTONIC_COARSE.
pub fn coarse_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Bytes of another program's metadata in front of a frame.
pub fn metadata(input: &Input) -> usize {
    if input.room { 0 } else { METADATA_FULL }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.plane = None;
        if let Err(error) = KernelPlane::unload(&self.pins) {
            eprintln!("{}: {error}", self.pins.display());
        }
    }
}

/// Removes pins of test processes that were killed.
fn remove_leftovers() -> Result<()> {
    let Ok(entries) = fs::read_dir(BPFFS) else {
        bail!("{BPFFS} is not there; mount it: mount -t bpf bpf {BPFFS}");
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PIN_PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|text| text.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // Those of another checkout, with other maps, are for its tests to remove.
            if let Err(error) = KernelPlane::unload(&entry.path()) {
                eprintln!("{}: {error}", entry.path().display());
            }
        }
    }
    Ok(())
}
