//! One round: services whose schedules run side by side.

use super::{
    SERVICES,
    account::MARGIN,
    life::{Life, TUPLES},
    tally::Tally,
};
use crate::{
    model::{Model, random::Random},
    testrun::{Bench, coarse_now, compare::compare_tracked_flows, snapshot::Plan, sweep},
};
use anyhow::{Context, Result};
use proxy_common::{
    net::Protocol,
    values::{SlotValue, slot_state},
    verdict::DropReason,
};
use std::{fmt::Write as _, time::Duration};

/// Turns of a round: in each all services have some packets, then something happens to all.
const TURNS: usize = 18;

/// Packets of a service in a turn, at most.
const PACKETS: usize = 7;

/// Rounds to a restart of the daemon: loading the programs costs as much as the rest of a round.
const ROUNDS_TO_RESTART: usize = 3;

/// A round under way.
pub(super) struct Round<'a> {
    pub(super) bench: &'a mut Bench,
    pub(super) model: Model,
    pub(super) random: Random,
    /// What the daemon is told when no service under test is there.
    empty: Plan,
    pub(super) lives: Vec<Life>,
    /// Nanoseconds on the programs' clock, which stands still between steps.
    pub(super) clock: u64,
    /// When the daemon was last restarted; zero before that.
    pub(super) restarted: u64,
    pub(super) drops: [u64; DropReason::COUNT],
    /// Steps done, with the number of the service they are about, if it is one.
    pub(super) steps: Vec<(Option<usize>, String)>,
    /// The service that a packet went wrong of.
    pub(super) failed: Option<usize>,
    pub(super) tally: &'a mut Tally,
}

impl<'a> Round<'a> {
    /// Services of all kinds.
    pub(super) fn new(bench: &'a mut Bench, empty: Plan, seed: u64, tally: &'a mut Tally) -> Result<Self> {
        let mut random = Random::new(seed);
        // Silences differ by orders of magnitude: rounds of one protocol know longer flows.
        let protocols: &[Protocol] = match random.below(3) {
            0 => &[Protocol::Tcp],
            1 => &[Protocol::Udp, Protocol::Tcp],
            _ => &[Protocol::Tcp, Protocol::Tcp, Protocol::Tcp, Protocol::Udp],
        };
        let lives = (0..SERVICES as u8)
            .map(|number| Life::new(number, *random.pick(protocols), &mut random))
            .collect::<Result<Vec<_>>>()?;
        lives.iter().for_each(|life| life.note(tally));
        let mut round = Self {
            model: bench.model()?,
            bench,
            random,
            empty,
            lives,
            clock: 0,
            restarted: 0,
            drops: [0; DropReason::COUNT],
            steps: Vec::new(),
            failed: None,
            tally,
        };
        for (number, life) in round.lives.iter().enumerate() {
            round.steps.push((Some(number), life.words()));
        }
        round.clock = coarse_now().wrapping_add(round.model.settings.clock_offset_ns);
        for reason in DropReason::ALL {
            round.drops[*reason as usize] = round.bench.maps.drops(*reason)?;
        }
        Ok(round)
    }

    /// Runs it to its end, and takes the services away.
    ///
    /// # Errors
    /// What went wrong, and all steps that led there.
    pub(super) fn run(&mut self) -> Result<()> {
        let result = self.turns();
        result.with_context(|| self.story())
    }

    fn turns(&mut self) -> Result<()> {
        self.apply()?;
        for turn in 0..TURNS {
            // Most of the time as many flows are stored as come.
            let is_limited = self.random.once_in(6);
            self.bench.limit_flows(&mut self.model, is_limited)?;
            self.send_some()?;
            match self.random.below(16) {
                0..8 => self.change()?,
                8..14 => self.pass_times()?,
                14 => self.sweep()?,
                _ => {}
            }
            // In the middle, when there are flows and slots of all kinds.
            if turn == TURNS / 2 && self.random.once_in(ROUNDS_TO_RESTART) {
                self.restart()?;
            }
        }
        self.send_all()?;
        self.lives.clear();
        self.apply()?;
        self.sweep()
    }

    fn send_some(&mut self) -> Result<()> {
        for service in 0..self.lives.len() {
            for _ in 0..self.random.below(PACKETS + 1) {
                let tuple = self.random.below(TUPLES);
                self.send(service, tuple)?;
            }
        }
        Ok(())
    }

    /// A packet of every flow.
    fn send_all(&mut self) -> Result<()> {
        for service in 0..self.lives.len() {
            for tuple in 0..TUPLES {
                if self.lives[service].flows[tuple].is_some() {
                    self.send(service, tuple)?;
                }
            }
        }
        Ok(())
    }

    /// The lines of the service that failed, or of all.
    fn story(&self) -> String {
        let mut text = String::from("after these steps:\n");
        for (service, step) in &self.steps {
            if service.is_none() || self.failed.is_none() || *service == self.failed {
                let name = service.map_or(String::new(), |number| format!("service {number}: "));
                let _ = writeln!(text, "  {name}{step}");
            }
        }
        text
    }

    /// Puts the programs' clock to where the round's is.
    pub(super) fn set_clock(&mut self) -> Result<()> {
        self.model.now = self.clock;
        self.model.settings.clock_offset_ns = self.clock.wrapping_sub(coarse_now());
        self.bench.maps.set_settings(self.model.settings)
    }

    /// Tells the daemon what the services are now, and the model what the daemon made of it.
    fn apply(&mut self) -> Result<()> {
        self.set_clock()?;
        let plan = self.plan();
        self.bench.apply(&plan)?;
        self.adopt()
    }

    fn plan(&self) -> Plan {
        let mut plan = self.empty.clone();
        let there = self.lives.iter().filter(|life| !life.is_away);
        // The idle service stays the last one: its backend is made last.
        plan.services.splice(0..0, there.map(|life| life.service.clone()));
        plan
    }

    /// What a change did to slots and flows.
    fn adopt(&mut self) -> Result<()> {
        let (slots, services) = (self.model.slots.clone(), self.model.services.clone());
        self.bench.update(&mut self.model)?;
        for (key, service) in &services {
            if self.model.services.get(key) == Some(service) {
                self.tally
                    .note_slots(&slots[&service.index], &self.model.slots[&service.index]);
            }
        }
        compare_tracked_flows(&self.model.tracked, &self.bench.maps.tracked_flows()?)?;
        for life in &mut self.lives {
            life.lose(self.tally);
        }
        Ok(())
    }

    /// One change, or several in a row without a packet in between.
    fn change(&mut self) -> Result<()> {
        loop {
            self.change_lives();
            self.apply()?;
            if !self.random.once_in(4) {
                return Ok(());
            }
        }
    }

    fn change_lives(&mut self) {
        let is_moving = |slots: &Vec<SlotValue>| slots.iter().any(|slot| slot.moving_from().is_some());
        if self.model.slots.values().any(is_moving) {
            self.tally.note("change: while slots are moving");
        }
        for number in 0..self.lives.len() {
            if self.random.once_in(2) {
                continue;
            }
            for _ in 0..=self.random.below(2) {
                let life = &mut self.lives[number];
                let Some(kind) = life.change(&mut self.random) else {
                    continue;
                };
                self.tally.note(kind);
                let step = format!("{kind}: {}", life.backends());
                self.steps.push((Some(number), step));
            }
        }
    }

    /// Silences in a row: flows that have packets in between outlive the states of their slots, others are there until the last moment.
    fn pass_times(&mut self) -> Result<()> {
        for _ in 0..=self.random.below(3) {
            if !self.random.once_in(3) {
                self.send_all()?;
            }
            let whole = self.silence();
            let parts = *self.random.pick(&[1, 1, 3]);
            for _ in 0..parts {
                self.pass_time(whole / parts);
                if !self.random.once_in(5) {
                    self.sweep()?;
                }
            }
        }
        Ok(())
    }

    /// As long as a flow may be silent, a part of it, or more.
    fn silence(&mut self) -> Duration {
        let flows = self.lives.iter().flat_map(|life| {
            let protocol = life.service.protocol;
            life.flows.iter().flatten().map(move |flow| (protocol, *flow))
        });
        let flows: Vec<_> = flows.filter(|(_, flow)| !flow.is_lost).collect();
        let mut left = Duration::from_secs(1);
        if !flows.is_empty() {
            let (protocol, flow) = self.random.pick(&flows);
            let silent = Duration::from_nanos(self.clock - flow.last);
            left = flow.longest_silence(*protocol).saturating_sub(silent);
        }
        match self.random.below(8) {
            0..5 => left,
            5 => left / 2,
            6 => left + 3 * MARGIN,
            _ => Duration::from_secs(self.random.below(40) as u64),
        }
    }

    fn pass_time(&mut self, passed: Duration) {
        self.clock += passed.as_nanos() as u64;
        for life in &mut self.lives {
            life.expire(self.clock);
        }
        self.steps.push((None, format!("{passed:?} pass")));
    }

    /// The daemon's sweep.
    fn sweep(&mut self) -> Result<()> {
        self.steps.push((None, "sweep".to_owned()));
        self.set_clock()?;
        let theirs = self.bench.maps.tracked_flows()?;
        compare_tracked_flows(&self.model.tracked, &theirs)?;
        // When flows had their last packet is the programs' to say; their entries are what the sweep goes by.
        self.model.tracked = theirs;
        let slots = self.model.slots.clone();
        let offset = self.model.settings.clock_offset_ns;
        let now = || coarse_now().wrapping_add(offset);
        let before = now();
        self.bench.plane()?.expire_flows()?;
        let (ended, _) = sweep::adopt(self.bench, &mut self.model, before..=now())?;
        for (index, before) in &slots {
            self.tally.note_slots(before, &self.model.slots[index]);
        }
        self.tally.note("sweep");
        if ended > 0 {
            self.tally.note("sweep: ended flows");
        }
        Ok(())
    }

    /// The daemon is killed, and a new one starts, with the same services or with others.
    fn restart(&mut self) -> Result<()> {
        // Backends of before a restart and of after it are told apart by the wall clock, at one new backend a second (`Ids::adopt`).
        // Here are more of them: the newest one lives, and is found in the maps.
        let port = 1 + self.random.below(60_000) as u16;
        let idle = &mut self.empty.services[0].backends[0];
        idle.address.set_port(port);
        self.apply()?;
        self.steps.push((None, "restart".to_owned()));
        let is_plain = |slots: &Vec<SlotValue>| slots.iter().all(|slot| slot.previous == slot_state::PLAIN);
        if !self.model.slots.values().all(is_plain) {
            self.tally.note("restart: with slots that aren't plain");
        }
        if self.random.once_in(2) {
            self.change_lives();
            self.tally.note("restart: with a change");
        }
        self.set_clock()?;
        let plan = self.plan();
        self.bench.restart(&plan)?;
        // A new daemon writes its own budget.
        self.model.is_limited = false;
        self.adopt()?;
        self.restarted = self.clock;
        self.tally.note("restart");
        // As a daemon's first turn does.
        self.sweep()
    }
}
