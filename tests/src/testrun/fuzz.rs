//! Random frames through the real program and the model, with control changes in between: they must agree
//! on the verdict, every byte, every checksum and every flow entry.

use super::{
    Bench, coarse_now,
    compare::{
        compare, compare_affinities, compare_entry, compare_fragments, compare_outcomes, compare_tracked,
        compare_tracked_flows, hex, report,
    },
    isolated, metadata,
    scenario::{plan, pools},
    snapshot::{Plan, PlannedBackend, PlannedService},
    sweep,
    tally::{Tally, label},
};
use crate::model::{Decision, Model, Outcome, flows::peer, fragments, generate::Generator, random::Random};
use anyhow::{Context, Result, bail, ensure};
use proxy_common::{
    fragments::FRAGMENTS, keys::FlowKey, limits::LAST_SEEN_GRAIN_NS, net::Protocol, verdict::DropReason,
};
use std::{collections::HashMap, net::SocketAddr, ops::RangeInclusive, thread, time::Instant};

/// Frames between two rounds of ended flows.
const FRAMES_TO_EXPIRY: u64 = 384;

/// Frames between two changes, after which whole tables are compared. Few: a change waits for the kernel's RCU, tens of milliseconds.
const FRAMES_TO_CHANGE: u64 = 2048;

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

/// Runs frames until all are done or one differs.
///
/// # Errors
/// The difference, with the seed and the step; or what kept the program from running.
pub fn run(run: Run) -> Result<Tally> {
    in_threads(run, one)
}

/// Runs a share of the frames in each thread, in a namespace of its own.
pub(super) fn in_threads(run: Run, one: fn(u64, u64) -> Result<Tally>) -> Result<Tally> {
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
    (fuzz.tally.followed, fuzz.tally.named) = (fuzz.model.followed, fuzz.model.named);
    fuzz.tally.count_outcomes(&fuzz.model.tunnels.outcomes);
    Ok(fuzz.tally)
}

struct Fuzz {
    bench: Bench,
    model: Model,
    generator: Generator,
    random: Random,
    plan: Plan,
    /// Backends taken out of the plan, by the service they belong to.
    spare: Vec<(SocketAddr, Protocol, PlannedBackend)>,
    /// Services taken out of the plan.
    spare_services: Vec<PlannedService>,
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
            spare_services: Vec::new(),
            bench,
            drops: [0; DropReason::COUNT],
            tally: Tally::default(),
        })
    }

    fn step(&mut self, step: u64) -> Result<()> {
        if step % FRAMES_TO_EXPIRY == FRAMES_TO_EXPIRY - 1 {
            if self.random.once_in(2) {
                self.end_some()?;
            } else {
                self.expire()?;
            }
            self.forget_fragments()?;
        }
        if step % FRAMES_TO_CHANGE == FRAMES_TO_CHANGE - 1 {
            self.change()?;
        }
        let input = self.generator.next(&self.model);
        self.model.now = self.now();
        let expected = self.model.packet(input.ifindex, &input.frame, input.room);
        let before = self.now();
        let ran = self.bench.run(&input)?;
        if let Err(difference) = compare(&expected, &ran, metadata(&input)) {
            bail!("{}", report(&input, &expected, &ran, &difference.to_string()));
        }
        self.compare_state(&expected, before..=self.now())
            .with_context(|| format!("{expected:x?}\nin  {}", hex(&input.frame)))?;
        self.generator.learn(&expected.touched);
        self.tally.packets += 1;
        *self.tally.verdicts.entry(label(expected.decision)).or_default() += 1;
        Ok(())
    }

    /// The drop counter and the entries that the frame was about, which ran at `time`.
    fn compare_state(&mut self, expected: &Outcome, time: RangeInclusive<u64>) -> Result<()> {
        let dropped = match expected.decision {
            Decision::Drop(reason) => Some(reason),
            _ => expected.answered,
        };
        if let Some(reason) = dropped {
            let count = &mut self.drops[reason as usize];
            *count += 1;
            let counted = self.bench.maps().drops(reason)?;
            let label = reason.label();
            ensure!(
                counted == *count,
                "drop_counters[{label}] is {counted}, not {count}"
            );
        }
        for key in &expected.tracked {
            let theirs = self.bench.maps().tracked_flow(key)?;
            let ours = self.model.tracked.get_mut(key);
            compare_tracked(key, ours.as_deref(), theirs.as_ref())?;
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                let seen = theirs.last_seen;
                // An entry that didn't win stays as it was where there is no backend to store in its place.
                let is_left = dropped == Some(DropReason::NoBackend) && seen == ours.last_seen;
                ensure!(
                    is_left || (time.start() - LAST_SEEN_GRAIN_NS..=*time.end()).contains(&seen),
                    "the tracked {key:?} was last seen at {seen}, not within {time:?}"
                );
                ours.last_seen = seen;
            }
        }
        for key in &expected.touched {
            let theirs = self.bench.maps().flow(key)?;
            let ours = self.model.flows.get_mut(key);
            compare_entry(key, ours.as_deref(), theirs.as_ref())?;
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                let stamps = if ours.last_seen == 0 {
                    time.clone()
                } else if expected.stamped == Some(*key) {
                    time.start() - LAST_SEEN_GRAIN_NS..=*time.end()
                } else {
                    ours.last_seen..=ours.last_seen
                };
                let seen = theirs.last_seen;
                ensure!(
                    stamps.contains(&seen),
                    "the entry of {key:?} was last seen at {seen}, not within {stamps:?}"
                );
                ours.last_seen = seen;
            }
        }
        Ok(())
    }

    /// The clock of `last_seen`.
    fn now(&self) -> u64 {
        coarse_now().wrapping_add(self.model.settings.clock_offset_ns)
    }

    /// Ends some flows: both entries, and seldom one, as when a program and the daemon race.
    fn end_some(&mut self) -> Result<()> {
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
            if !self.random.once_in(64) && self.model.flows.remove(&peer(&value)).is_some() {
                self.bench.maps().remove_flow(&peer(&value))?;
            }
            self.tally.ended += 1;
        }
        Ok(())
    }

    /// Lets time pass, and the daemon end flows: all that are idle or whose backend is gone.
    fn expire(&mut self) -> Result<()> {
        let seconds = *self.random.pick(&[0, 1, 30, 59, 61, 119, 121, 9_001]);
        self.model.settings.clock_offset_ns += seconds * 1_000_000_000;
        self.bench.maps().set_settings(self.model.settings)?;
        let before = self.now();
        let (ended, left) = self.bench.plane()?.expire_flows()?;
        let after = self.now();
        let (tracked_ended, tracked_left) = sweep::adopt(&self.bench, &mut self.model, before..=after)?;
        let (ended, left) = (ended - tracked_ended, left - tracked_left);
        let theirs = self.bench.maps().flows()?;
        let mut kept = HashMap::new();
        for (key, value) in &self.model.flows {
            let is_there = theirs.contains_key(key);
            // An entry whose other half was lost may point at another flow's: either is right then.
            let other = self.model.flows.get(&peer(value));
            let is_whole = other.is_some_and(|other| peer(other) == *key);
            ensure!(
                !is_whole || !is_there || !self.model.is_ended(value, before),
                "idle, or without a backend, and not ended: {key:?} {value:?} at {before}"
            );
            ensure!(
                !is_whole || is_there || self.model.is_ended(value, after),
                "ended, and not idle: {key:?} {value:?} at {after}"
            );
            if is_there {
                kept.insert(*key, *value);
            }
        }
        let gone = self.model.flows.len() - kept.len();
        ensure!(
            (ended, left) == (gone.div_ceil(2), kept.len().div_ceil(2)),
            "the daemon says {ended} ended, {left} left; {} entries went, {} are left",
            gone,
            kept.len()
        );
        self.model.flows = kept;
        self.tally.ended += ended as u64;
        Ok(())
    }

    /// Changes the plan, applies it, and compares everything.
    fn change(&mut self) -> Result<()> {
        self.compare_tables()?;
        let is_limited = self.random.once_in(8);
        self.bench.limit_flows(&mut self.model, is_limited)?;
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
        let services = &mut self.plan.services;
        let at = random.below(services.len());
        let service = &mut services[at];
        let place = random.below(service.backends.len());
        let backends = &mut service.backends;
        // A service whose only backend is down answers nothing, which is soon seen enough.
        let one = if backends.len() == 1 && random.once_in(2) {
            7
        } else {
            0
        };
        match random.below(12 - one) + one {
            // Set, not toggled: most backends are well at any time.
            0..3 => backends[place].dead = random.once_in(8),
            3..5 => backends[place].drain = random.once_in(3),
            5..7 => backends[place].weight = *random.pick(&[0, 1, 1, 2, 5]),
            7 if backends.len() > 1 => {
                let backend = backends.remove(place);
                self.spare.push((service.address, service.protocol, backend));
            }
            8 | 9 if !self.spare.is_empty() => {
                let place = random.below(self.spare.len());
                let (address, protocol, backend) = self.spare.swap_remove(place);
                let home = services
                    .iter_mut()
                    .chain(&mut self.spare_services)
                    .find(|service| service.address == address && service.protocol == protocol);
                if let Some(home) = home {
                    home.backends.push(backend);
                }
            }
            10 if services.len() > 12 => self.spare_services.push(services.remove(at)),
            11 if !self.spare_services.is_empty() => {
                let place = random.below(self.spare_services.len());
                services.insert(at, self.spare_services.swap_remove(place));
            }
            _ => {}
        }
    }

    /// Takes away entries of `fragments` that are about to be good for nothing, or have just become so, and all of them before the
    /// map is so full that it makes room: what is left follows from the packets alone.
    fn forget_fragments(&mut self) -> Result<()> {
        const DOUBT: u64 = 10_000_000_000;
        let valid = fragments::VALID.as_nanos() as u64;
        let now = self.now();
        let are_many = self.model.fragments.len() > FRAGMENTS as usize / 4;
        let mut gone = Vec::new();
        self.model.fragments.retain(|key, value| {
            let is_doubtful = (now - value.stamp).abs_diff(valid) < DOUBT;
            if is_doubtful || are_many {
                gone.push(*key);
            }
            !is_doubtful && !are_many
        });
        for key in gone {
            self.bench.maps().remove_fragment(&key)?;
        }
        Ok(())
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

    /// Counters of every service and backend that is there.
    fn compare_counters(&mut self) -> Result<()> {
        for service in self.model.services.values() {
            let theirs = self.bench.maps().service_counters(service.index)?;
            let ours = self.model.counts.services.get(&service.index);
            let ours = ours.copied().unwrap_or_default();
            ensure!(
                ours == theirs,
                "service {service:?}: {ours:?} in the model, {theirs:?}"
            );
        }
        for (index, backend) in &self.model.backends {
            let theirs = self.bench.maps().backend_counters(*index)?;
            let ours = self.model.counts.backends.get(index).copied().unwrap_or_default();
            ensure!(
                ours == theirs,
                "backend {index} {backend:?}: {ours:?} in the model, {theirs:?}"
            );
        }
        Ok(())
    }

    /// The whole flow table.
    fn compare_tables(&mut self) -> Result<()> {
        self.compare_counters()?;
        let theirs = self.bench.maps().flows()?;
        for (key, value) in &theirs {
            compare_entry(key, self.model.flows.get(key), Some(value))?;
        }
        for (key, value) in &self.model.flows {
            compare_entry(key, Some(value), theirs.get(key))?;
        }
        compare_outcomes(&self.model.tunnels.outcomes, self.bench.maps())?;
        compare_fragments(&self.model.fragments, &self.bench.maps().fragments()?)?;
        compare_tracked_flows(&self.model.tracked, &self.bench.maps().tracked_flows()?)?;
        compare_affinities(&self.model, &self.bench.maps().affinities()?)
    }
}
