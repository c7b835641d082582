//! Random frames through the real program and the model, with control changes in between: they must agree
//! on the verdict, every byte, every checksum and every flow entry.

use super::{
    Bench,
    compare::{compare, compare_entry, hex, report},
    isolated,
    program::METADATA_FULL,
    scenario::{plan, pools},
    snapshot::{Plan, PlannedBackend},
};
use crate::model::{
    Decision, Model, Outcome,
    generate::{Generator, Input},
    random::Random,
};
use anyhow::{Context, Result, bail, ensure};
use proxy_common::{keys::FlowKey, verdict::DropReason};
use std::{
    collections::BTreeMap,
    fmt, thread,
    time::{Duration, Instant},
};

/// Frames between two rounds of ended flows.
const FRAMES_TO_EXPIRY: u64 = 384;

/// Frames between two changes of services or backends, after which the whole flow table is compared.
const FRAMES_TO_CHANGE: u64 = 4096;

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Frames over all threads.
    pub packets: u64,
    /// The first thread's seed; each next one adds 1.
    pub seed: u64,
    /// Threads, each with a namespace, a program and a model of its own.
    pub threads: u64,
}

/// What was reached.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Frames run.
    pub packets: u64,
    /// How often each verdict was reached; drops by reason.
    pub verdicts: BTreeMap<String, u64>,
    /// Changes applied.
    pub changes: u64,
    /// Flows ended.
    pub ended: u64,
    /// Time of the whole run.
    pub elapsed: Duration,
}

impl Tally {
    /// How often a drop reason was reached.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.verdicts
            .get(&label(Decision::Drop(reason)))
            .copied()
            .unwrap_or(0)
    }

    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.changes += other.changes;
        self.ended += other.ended;
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.packets as f64 / seconds;
        writeln!(
            f,
            "{} packets in {seconds:.1} s: {rate:.0} packets/s",
            self.packets
        )?;
        writeln!(f, "{} changes, {} flows ended", self.changes, self.ended)?;
        for (verdict, count) in &self.verdicts {
            writeln!(f, "{count:>12}  {verdict}")?;
        }
        Ok(())
    }
}

fn label(decision: Decision) -> String {
    match decision {
        Decision::Pass => "pass".to_owned(),
        Decision::HandOver(_) => "hand over".to_owned(),
        Decision::Transmit => "transmit".to_owned(),
        Decision::Redirect(_) => "redirect".to_owned(),
        Decision::Drop(reason) => format!("drop: {}", reason.label()),
    }
}

/// Runs frames until all are done or one differs.
///
/// # Errors
/// The difference, with the seed and the step; or what kept the program from running.
pub fn run(run: Run) -> Result<Tally> {
    let start = Instant::now();
    let share = run.packets.div_ceil(run.threads);
    let mut tally = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..run.threads)
            .map(|at| scope.spawn(move || isolated(move || one(share, run.seed + at))))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => tally.add(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    tally.elapsed = start.elapsed();
    Ok(tally)
}

fn one(packets: u64, seed: u64) -> Result<Tally> {
    let mut fuzz = Fuzz::new(seed)?;
    for step in 0..packets {
        fuzz.step(step)
            .with_context(|| format!("seed {seed}, step {step}"))?;
    }
    fuzz.compare_tables()
        .with_context(|| format!("seed {seed}, at the end"))?;
    Ok(fuzz.tally)
}

struct Fuzz {
    bench: Bench,
    model: Model,
    generator: Generator,
    random: Random,
    plan: Plan,
    /// Backends taken out of the plan, by the service they belong to.
    spare: Vec<(usize, PlannedBackend)>,
    drops: [u64; DropReason::COUNT],
    tally: Tally,
}

impl Fuzz {
    fn new(seed: u64) -> Result<Self> {
        let plan = plan()?;
        let bench = Bench::open(&plan)?;
        Ok(Self {
            model: bench.model()?,
            generator: Generator::new(pools(&plan, &bench)?, seed),
            random: Random::new(!seed),
            plan,
            spare: Vec::new(),
            bench,
            drops: [0; DropReason::COUNT],
            tally: Tally::default(),
        })
    }

    fn step(&mut self, step: u64) -> Result<()> {
        if step % FRAMES_TO_EXPIRY == FRAMES_TO_EXPIRY - 1 {
            self.end_flows()?;
        }
        if step % FRAMES_TO_CHANGE == FRAMES_TO_CHANGE - 1 {
            self.change()?;
        }
        let input = self.generator.next(&self.model);
        let expected = self.model.packet(input.ifindex, &input.frame, input.room);
        let metadata = if input.room { 0 } else { METADATA_FULL };
        let ran = self.bench.run(input.ifindex, &input.frame, metadata)?;
        if let Err(difference) = compare(&expected, &ran, metadata) {
            bail!("{}", report(&input, &expected, &ran, &difference.to_string()));
        }
        self.compare_state(&input, &expected)?;
        self.generator.learn(&expected.touched);
        self.tally.packets += 1;
        *self.tally.verdicts.entry(label(expected.decision)).or_default() += 1;
        Ok(())
    }

    /// The drop counter and the entries that the frame was about.
    fn compare_state(&mut self, input: &Input, expected: &Outcome) -> Result<()> {
        let describe = || format!("{expected:x?}\nin  {}", hex(&input.frame));
        if let Decision::Drop(reason) = expected.decision {
            let count = &mut self.drops[reason as usize];
            *count += 1;
            let counted = self.bench.maps().drops(reason)?;
            ensure!(
                counted == *count,
                "drop_counters[{}] is {counted}, not {count}\n{}",
                reason.label(),
                describe()
            );
        }
        for key in &expected.touched {
            let theirs = self.bench.maps().flow(key)?;
            compare_entry(key, self.model.flows.get(key), theirs.as_ref()).with_context(describe)?;
        }
        Ok(())
    }

    /// Ends some flows as the daemon does when they were idle: both entries.
    fn end_flows(&mut self) -> Result<()> {
        let mut keys: Vec<FlowKey> = self.model.flows.keys().copied().collect();
        // The order of a HashMap is random; the run must follow from the seed.
        keys.sort_unstable();
        let one_in = 2 + self.random.below(8);
        for key in keys {
            if !self.random.once_in(one_in) {
                continue;
            }
            let Some(value) = self.model.flows.remove(&key) else {
                continue;
            };
            self.bench.maps().remove_flow(&key)?;
            let peer = crate::model::flows::peer(&value);
            if self.model.flows.remove(&peer).is_some() {
                self.bench.maps().remove_flow(&peer)?;
            }
            self.tally.ended += 1;
        }
        Ok(())
    }

    /// Changes the plan, applies it, and compares everything.
    fn change(&mut self) -> Result<()> {
        self.compare_tables()?;
        for _ in 0..=self.random.below(3) {
            self.change_plan();
        }
        self.bench.apply(&self.plan)?;
        self.bench.update(&mut self.model)?;
        self.adopt_ended_flows()?;
        self.compare_tables()?;
        self.tally.changes += 1;
        Ok(())
    }

    fn change_plan(&mut self) {
        let random = &mut self.random;
        let at = random.below(self.plan.services.len());
        let backends = &mut self.plan.services[at].backends;
        let place = random.below(backends.len());
        match random.below(8) {
            // Set, not toggled: most backends are well at any time.
            0 | 1 => backends[place].dead = random.once_in(8),
            2 | 3 => backends[place].drain = random.once_in(6),
            4 | 5 => backends[place].weight = *random.pick(&[0, 1, 1, 2, 5]),
            6 if backends.len() > 1 => {
                let backend = backends.remove(place);
                self.spare.push((at, backend));
            }
            _ if !self.spare.is_empty() => {
                let place = random.below(self.spare.len());
                let (at, backend) = self.spare.swap_remove(place);
                self.plan.services[at].backends.push(backend);
            }
            _ => {}
        }
    }

    /// The daemon may end flows of dead and removed backends with a change, and no others.
    fn adopt_ended_flows(&mut self) -> Result<()> {
        let theirs = self.bench.maps().flows()?;
        let gone: Vec<FlowKey> = self
            .model
            .flows
            .keys()
            .filter(|key| !theirs.contains_key(*key))
            .copied()
            .collect();
        for key in gone {
            if let Some(value) = self.model.flows.remove(&key) {
                ensure!(
                    !self.model.has_live_backend(&value),
                    "a change ended a flow of a live backend: {key:?} {value:?}"
                );
            }
        }
        Ok(())
    }

    /// The whole flow table.
    fn compare_tables(&mut self) -> Result<()> {
        let theirs = self.bench.maps().flows()?;
        for (key, value) in &theirs {
            compare_entry(key, self.model.flows.get(key), Some(value))?;
        }
        for (key, value) in &self.model.flows {
            compare_entry(key, Some(value), theirs.get(key))?;
        }
        Ok(())
    }
}
