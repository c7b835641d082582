//! Wishes: granted all together where that works, else each by itself; written down and answered.

use super::{
    Core, Refusal, RefusalKind, Trigger, Want, Wish, core::error_now, desired::Desired, overrides::Override,
    saved::Saved,
};
use crate::{admin::status::ChangeAnswer, config::Loaded, model::EndpointId};
use std::{collections::BTreeMap, sync::Arc};
use tracing::{error, warn};

impl Core {
    /// Grants what can be granted; returns whether anything was.
    pub(super) fn grant(&mut self, wishes: Vec<Wish>) -> bool {
        if let Some(busy) = self.busy() {
            for wish in wishes {
                self.answer(wish, Err(busy.clone()));
            }
            return false;
        }
        let mut desired = self.desired.clone();
        let trigger = wishes.iter().find_map(Wish::trigger);
        let reloaded = trigger.map(|trigger| self.load(trigger));
        if let Some(Ok(config)) = &reloaded {
            desired.set_config(Arc::clone(config));
        }
        let mut possible = Vec::new();
        for wish in wishes {
            let outcome = match (&wish.what, &reloaded) {
                (Want::Reload(_), Some(Err(refusal))) => Err(refusal.clone()),
                (Want::Reload(_), _) => Ok(()),
                (Want::SetEndpoint(id, patch), _) => desired.set_endpoint(id, *patch),
            };
            match outcome {
                Ok(()) => possible.push(wish),
                Err(refusal) => self.answer(wish, Err(refusal)),
            }
        }
        if possible.is_empty() {
            return false;
        }
        // Before anything changes: whoever asks for a durable change is told if it can't be.
        let before = self.saved.kept().clone();
        if possible.iter().any(Wish::is_durable)
            && let Err(error) = self.saved.store(&desired.overrides.durable())
        {
            return self.refuse(possible, RefusalKind::Disk, &error);
        }
        match self.install(desired) {
            Ok(answer) => {
                if possible.iter().any(|wish| wish.trigger().is_some()) {
                    self.refused_config = None;
                }
                for wish in possible {
                    let answer = self.with_own_warnings(&wish, answer.clone());
                    self.answer(wish, Ok(answer));
                }
                true
            }
            Err(error) => {
                self.keep(&before);
                self.refuse(possible, RefusalKind::Kernel, &error.to_string())
            }
        }
    }

    /// The file made to hold this; a disk that can't is a warning, since what it is about has happened.
    pub(super) fn keep(&mut self, durable: &BTreeMap<EndpointId, Override>) {
        if let Err(error) = self.saved.store(durable) {
            warn!("durable overrides are not kept: {error}");
        }
    }

    fn with_own_warnings(&self, wish: &Wish, mut answer: ChangeAnswer) -> ChangeAnswer {
        if let Want::SetEndpoint(id, _) = &wish.what
            && self.desired.overrides.is_covered(id)
        {
            let warning = format!(
                "{id}: what was set durably is back at the next start, unless this is set with \"durable\": true"
            );
            answer.warnings.push(warning);
        }
        answer
    }

    /// Writes down what became of a wish and tells the one who waits; one who went away is no matter.
    fn answer(&self, wish: Wish, outcome: Result<ChangeAnswer, Refusal>) {
        let written = match &outcome {
            Ok(answer) => Ok(Some(answer.generation)),
            Err(refusal) => Err(&*refusal.error),
        };
        self.companions
            .audit
            .write(&wish.origin, &wish.what.to_string(), written);
        if let Some(waiting) = wish.outcome {
            let _gone = waiting.send(outcome);
        }
    }

    /// After a rotation: opens the files of logs by their names again.
    pub(super) fn reopen_logs(&self) {
        self.plane.l7().reopen_logs();
        self.companions.audit.reopen();
    }

    /// Goes back to what ran before, then finds out which of several wishes is the guilty one.
    fn refuse(&mut self, wishes: Vec<Wish>, kind: RefusalKind, error: &str) -> bool {
        self.settle();
        if wishes.len() > 1 {
            return wishes
                .into_iter()
                .fold(false, |granted, wish| self.grant(vec![wish]) | granted);
        }
        let mut remedy = format!("nothing changed: generation {} goes on", self.snapshot.generation);
        if kind == RefusalKind::Disk {
            remedy +=
                "; make room and let weir write there, set another state_directory, or leave \"durable\" out";
        }
        let refusal = Refusal::new(kind, error, remedy);
        for wish in wishes {
            match wish.what {
                Want::Reload(trigger) => self.note_refused_config(trigger, &refusal),
                Want::SetEndpoint(..) => error!("not changed: {}", refusal.error),
            }
            self.answer(wish, Err(refusal.clone()));
        }
        false
    }

    fn load(&mut self, trigger: Trigger) -> Result<Arc<Loaded>, Refusal> {
        let path = self.path.display();
        let goes_on = format!("generation {} goes on", self.snapshot.generation);
        let refusal = if !self.path.exists() {
            let remedy = format!("{goes_on}; put the file back to change anything, stop weir to end it");
            Refusal::new(RefusalKind::Config, format!("{path} is gone"), remedy)
        } else {
            self.free_unused();
            match self.loader.load(&self.path) {
                Ok(config) => {
                    self.referenced.set(&config.referenced_files, config.read_since);
                    return Ok(Arc::new(config));
                }
                Err(errors) => {
                    self.referenced
                        .set(errors.referenced_files(), errors.read_since());
                    let remedy = format!("{goes_on}; correct the file and it is read again");
                    Refusal::new(RefusalKind::Config, errors.to_string(), remedy)
                }
            }
        };
        self.note_refused_config(trigger, &refusal);
        Err(refusal)
    }

    fn note_refused_config(&mut self, trigger: Trigger, refusal: &Refusal) {
        error!("config refused ({trigger}); {}", refusal.remedy);
        refusal.error.lines().for_each(|line| error!("{line}"));
        self.refused_config = Some(error_now(format!("{}; {}", refusal.error, refusal.remedy)));
    }
}

impl Wish {
    pub(super) fn trigger(&self) -> Option<Trigger> {
        match self.what {
            Want::Reload(trigger) => Some(trigger),
            Want::SetEndpoint(..) => None,
        }
    }

    fn is_durable(&self) -> bool {
        matches!(self.what, Want::SetEndpoint(_, patch) if patch.durable)
    }
}

/// Forgets durable overrides of endpoints that the config no longer has; returns what there is to say of it.
pub(super) fn forget_gone(desired: &mut Desired, saved: &mut Saved) -> Vec<String> {
    let gone = desired.overrides.reconcile(&desired.clusters);
    let stored = saved.store(&desired.overrides.durable());
    gone.iter()
        .map(|id| format!("{id} is gone: its durable override is forgotten"))
        .chain(
            stored
                .err()
                .map(|error| format!("durable overrides are not kept: {error}")),
        )
        .collect()
}
