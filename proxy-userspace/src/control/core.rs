//! Control's state and its one turn: take in every event that waits, build one Snapshot, apply it.

use super::{
    Event, Plane, PlaneError, ReferencedFiles,
    build::build,
    descriptors::shortage,
    desired::{Desired, Touched},
    draining::Draining,
    loader::Loader,
    memory::Memory,
    overrides::Overrides,
    report::{counted, unix_seconds},
    saved::Saved,
    verdicts::{Verdicts, prune, verdicts_of_dead},
    wishes::forget_gone,
};
use crate::{
    admin::{
        Access, Audit,
        status::{ChangeAnswer, ErrorStatus, MemoryStatus},
    },
    config::Loaded,
    discovery, health,
    kernel::News,
    model::{Change, Clusters, Snapshot, diff},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};
use tracing::{debug, error, info, warn};

/// Everything control owns, without sockets, tasks or timers.
///
/// Wishes (reloads, overrides) are granted or refused; facts (verdicts) are never refused: what the
/// kernel plane could not take of them is tried again with every sweep.
pub struct Core {
    pub(super) path: PathBuf,
    pub(super) desired: Desired,
    pub(super) verdicts: Verdicts,
    pub(super) snapshot: Snapshot,
    pub(super) warnings: Vec<String>,
    pub(super) plane: Plane,
    pub(super) refused_config: Option<ErrorStatus>,
    pub(super) kernel_trouble: Option<ErrorStatus>,
    pub(super) started: SystemTime,
    pub(super) referenced: ReferencedFiles,
    /// A fact is not in the snapshot yet, or not in the planes.
    pub(super) stale: bool,
    /// A change that ends flows was made since the last sweep.
    sweep_due: bool,
    pub(super) saved: Saved,
    /// What was wrong with what an earlier daemon kept.
    pub(super) saved_trouble: Vec<String>,
    pub(super) companions: Companions,
    /// Another process has the maps, and may become the daemon.
    pub(super) is_handing_over: bool,
    /// The kernel plane is this process's, unless it is handing over.
    pub(super) had_kernel: bool,
    /// What it may take, and takes.
    pub(super) memory: Memory,
    /// The daemon is about to end, in order.
    pub(super) draining: Option<Draining>,
    pub(super) loader: Loader,
}

/// What the admin API and control share.
#[derive(Default)]
pub struct Companions {
    /// Where changes are written down.
    pub audit: Arc<Audit>,
    /// Who may come in over TCP.
    pub access: Arc<Access>,
}

impl Core {
    /// Builds the first Snapshot, with what names resolved to so far, and applies it. Backends that an earlier daemon left marked dead
    /// stay so until they pass their checks: a restart must not give flows to them again.
    ///
    /// # Errors
    /// A plane could not take it.
    pub fn start(
        path: PathBuf,
        config: Loaded,
        resolved: Vec<discovery::Answer>,
        mut plane: Plane,
        companions: Companions,
    ) -> Result<Self, PlaneError> {
        // It was read a moment ago; files that changed since then are read again.
        let referenced = ReferencedFiles::new(&config.referenced_files, config.read_since);
        let (mut saved, trouble) = Saved::open(&config.settings.admin.state_directory);
        let mut desired = Desired::new(config, Overrides::of_durable(saved.kept().clone()));
        desired.resolve(resolved);
        let saved_trouble = trouble
            .into_iter()
            .chain(forget_gone(&mut desired, &mut saved))
            .collect();
        let verdicts = verdicts_of_dead(&plane.dead_backends(), &desired.config);
        let (snapshot, warnings) = build(1, &desired, &verdicts, None);
        let had_kernel = plane.absence().is_none();
        let writes = plane.apply(&snapshot)?;
        debug!(writes, "generation 1 applied");
        warnings
            .iter()
            .chain(&saved_trouble)
            .for_each(|warning| warn!("{warning}"));
        if let Some(shortage) = shortage(&snapshot.listeners) {
            warn!("{shortage}");
        }
        desired.touched = Touched::nothing();
        Ok(Self {
            path,
            desired,
            verdicts,
            snapshot,
            warnings,
            plane,
            refused_config: None,
            kernel_trouble: None,
            started: SystemTime::now(),
            referenced,
            stale: false,
            sweep_due: true,
            saved,
            saved_trouble,
            companions,
            is_handing_over: false,
            memory: Memory::open(),
            had_kernel,
            draining: None,
            loader: Loader::default(),
        })
    }

    /// What is to be checked and resolved.
    pub fn clusters(&self) -> &Clusters {
        &self.snapshot.clusters
    }

    /// The ways that probes of backends without NAT are to go.
    pub fn ways(&self) -> health::Ways {
        self.plane.ways(&self.snapshot)
    }

    /// The files that the last config named, for the watch.
    pub fn referenced_files(&self) -> ReferencedFiles {
        self.referenced.clone()
    }

    /// Takes in all events, then builds and applies at most one Snapshot, unless several wishes are
    /// refused together: then each is tried alone. Returns whether there may be other endpoints to
    /// check, or names to resolve, than before.
    pub fn turn(&mut self, events: Vec<Event>) -> bool {
        let mut wishes = Vec::new();
        let mut askers = Vec::new();
        let mut answers = Vec::new();
        let mut questions = Vec::new();
        let mut looks = Vec::new();
        let mut scrapers = Vec::new();
        for event in events {
            match event {
                Event::Health(report) => self.record(report),
                Event::Resolved(answer) => answers.push(answer),
                Event::Wish(wish) => wishes.push(wish),
                Event::Drain(wish) => self.wish_drain(wish),
                Event::Status(asker) => askers.push(asker),
                Event::Metrics(format, scraper) => scrapers.push((format, scraper)),
                Event::Flow(question, asker) => questions.push((question, asker)),
                Event::Look(look) => looks.push(look),
            }
        }
        let resolved = self.desired.resolve(answers);
        self.stale |= resolved;
        let reloads = wishes.iter().any(|wish| wish.trigger().is_some());
        let granted = self.grant(wishes);
        if !granted {
            self.settle();
        }
        for asker in askers {
            let _gone = asker.send(self.status());
        }
        for (format, scraper) in scrapers {
            let _gone = scraper.send(self.metrics(format));
        }
        for (question, asker) in questions {
            let _gone = asker.send(self.flow(&question));
        }
        looks.into_iter().for_each(|look| look(self));
        granted && reloads || resolved
    }

    /// The turn of the timer: looks at the host, whatever the news were, tries again what could not be applied, ends idle flows.
    pub fn sweep(&mut self) {
        self.attend(&News::default());
        self.plane.replace_workers();
        self.memory.look_at_group();
        self.free_unused();
        self.expire_flows();
    }

    /// Has memory freed of generations that no connection uses any longer, where that doesn't delay requests.
    pub(super) fn free_unused(&mut self) {
        let unused = self.plane.l7_mut().take_unused();
        if !unused.is_empty() {
            self.loader.free(unused);
        }
    }

    /// Whether [`Core::look_at_memory`] is of use.
    pub(super) fn guards_memory(&self) -> bool {
        self.memory.is_guarded(self.snapshot.settings.memory_limit)
    }

    /// Tells the workers how short memory is.
    pub(super) fn look_at_memory(&mut self) {
        if let Some(shortage) = self.memory.look(self.snapshot.settings.memory_limit) {
            self.plane.l7().set_shortage(shortage);
        }
    }

    pub(super) fn memory_status(&self) -> MemoryStatus {
        self.memory.status(self.snapshot.settings.memory_limit)
    }

    /// Makes this the wanted state and the planes equal to it.
    pub(super) fn install(&mut self, mut desired: Desired) -> Result<ChangeAnswer, PlaneError> {
        let has_other_endpoints = desired.touched.is_all();
        if has_other_endpoints {
            for gone in desired.overrides.reconcile(&desired.clusters) {
                info!("{gone}: its override is forgotten with it");
            }
        }
        let (mut next, warnings) = build(
            self.snapshot.generation + 1,
            &desired,
            &self.verdicts,
            Some((&self.snapshot, &self.warnings)),
        );
        let changes = self.advance_to(&mut next);
        if !changes.is_empty() || self.plane.is_torn() {
            self.apply(&next)?;
        }
        if has_other_endpoints {
            prune(&mut self.verdicts, &desired.clusters);
        }
        self.desired = desired;
        self.adopt(next, &changes);
        if has_other_endpoints {
            let durable = self.desired.overrides.durable();
            self.keep(&durable);
        }
        let remote = self.snapshot.settings.admin.remote.as_ref();
        self.companions.access.follow(remote);
        warnings
            .iter()
            .filter(|warning| !self.warnings.contains(warning))
            .for_each(|new| warn!("{new}"));
        self.warnings.clone_from(&warnings);
        self.sweep_if_due();
        Ok(ChangeAnswer {
            generation: self.snapshot.generation,
            changes: changes.iter().map(ToString::to_string).collect(),
            warnings,
        })
    }

    /// Brings new facts, and what a refused wish left half done, into the planes.
    pub(super) fn settle(&mut self) {
        if !self.stale && !self.plane.is_torn() {
            return;
        }
        let (mut next, _) = build(
            self.snapshot.generation + 1,
            &self.desired,
            &self.verdicts,
            Some((&self.snapshot, &self.warnings)),
        );
        let changes = self.advance_to(&mut next);
        let outcome = self.apply(&next);
        self.adopt(next, &changes);
        match outcome {
            Ok(()) => self.sweep_if_due(),
            Err(error) => self.note_kernel_trouble(&error),
        }
    }

    /// The changes from the present snapshot. Without any, the generation stays too.
    fn advance_to(&self, next: &mut Snapshot) -> Vec<Change> {
        let changes = diff(&self.snapshot, next);
        if changes.is_empty() {
            next.generation = self.snapshot.generation;
        }
        changes
    }

    fn apply(&mut self, snapshot: &Snapshot) -> Result<(), PlaneError> {
        let begin = Instant::now();
        let writes = self.plane.apply(snapshot)?;
        debug!(writes, took = ?begin.elapsed(), "generation {} applied", snapshot.generation);
        self.kernel_trouble = None;
        Ok(())
    }

    fn adopt(&mut self, next: Snapshot, changes: &[Change]) {
        log_changes(next.generation, changes);
        self.sweep_due |= changes.iter().any(Change::ends_flows);
        self.snapshot = next;
        self.desired.touched = Touched::nothing();
        self.stale = false;
    }

    /// Flows of what has just died end now, not with the next sweep.
    fn sweep_if_due(&mut self) {
        if self.sweep_due {
            self.expire_flows();
        }
    }

    fn expire_flows(&mut self) {
        match self.plane.expire_flows() {
            Ok((ended, left)) => {
                self.sweep_due = false;
                if !self.plane.is_torn() {
                    self.kernel_trouble = None;
                }
                debug!(ended, left, "flows swept");
            }
            Err(error) => self.note_kernel_trouble(&error.into()),
        }
    }

    /// Logged when it is another than before: the timer meets the same trouble again and again.
    fn note_kernel_trouble(&mut self, error: &PlaneError) {
        let text = error.to_string();
        if self
            .kernel_trouble
            .as_ref()
            .is_none_or(|known| known.error != text)
        {
            error!("kernel plane: {text}; trying again");
            self.kernel_trouble = Some(error_now(text));
        }
    }
}

/// Lines of one snapshot that go to the log before it says how many more there are.
const LOGGED_CHANGES: usize = 20;

fn log_changes(generation: u64, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    info!("generation {generation}: {}", counted(changes.len(), "change"));
    // Verdicts have their own line already.
    let lines = changes
        .iter()
        .filter(|change| !matches!(change, Change::HealthChanged(..)));
    lines
        .clone()
        .take(LOGGED_CHANGES)
        .for_each(|change| info!("generation {generation}: {change}"));
    match lines.count().saturating_sub(LOGGED_CHANGES) {
        0 => {}
        more => info!("generation {generation}: and {more} more"),
    }
}

pub(super) fn error_now(error: String) -> ErrorStatus {
    ErrorStatus {
        error,
        at_unix_seconds: unix_seconds(SystemTime::now()),
    }
}
