//! The daemon's end in order: first it isn't ready, then its listeners close and connections finish, then it is gone.

use super::{Core, Refusal, RefusalKind, service};
use crate::{
    admin::{
        Origin,
        drain::{DrainOrder, DrainState, DrainStatus, pid_namespace},
    },
    config,
    model::DrainTimes,
};
use std::{process, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use tracing::info;

/// How often it is looked whether the last connection has ended.
const LOOK: Duration = Duration::from_millis(100);

/// Longest that either part may be asked to take.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A drain that is under way.
#[derive(Clone, Copy)]
pub(super) struct Draining {
    stage: Stage,
    timeout: Duration,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Listeners close then.
    Notice(Instant),
    /// Connections end by then.
    Closing(Instant),
}

/// A wish to begin a drain, or to end it (without an order), and who waits for the answer.
pub struct DrainWish {
    pub(super) order: Option<DrainOrder>,
    pub(super) origin: Origin,
    pub(super) asker: oneshot::Sender<Result<DrainStatus, Refusal>>,
}

impl Core {
    /// Whether traffic should be sent here, and what becomes of it.
    pub fn drain_status(&self) -> DrainStatus {
        let (state, next) = match self.draining.map(|draining| draining.stage) {
            None => (DrainState::Serving, None),
            Some(Stage::Notice(until)) => (DrainState::Notice, Some(until)),
            Some(Stage::Closing(until)) => (DrainState::Closing, Some(until)),
        };
        let workers = self.plane.l7().counters();
        DrainStatus {
            ready: state == DrainState::Serving,
            state,
            seconds_left: next.map(|next| next.saturating_duration_since(Instant::now()).as_secs()),
            connections: workers.map(|worker| worker.connections.value()).sum(),
            pid: process::id(),
            pid_namespace: pid_namespace(),
        }
    }

    /// Begins a drain, changes the times of the one that is under way, or ends it.
    pub(super) fn wish_drain(&mut self, wish: DrainWish) {
        let (what, outcome) = match &wish.order {
            Some(order) => match times(order, self.snapshot.settings.drain) {
                Ok(times) => (
                    format!("drain: notice {:?}, timeout {:?}", times.notice, times.timeout),
                    self.begin_drain(times),
                ),
                Err(refusal) => ("drain".into(), Err(refusal)),
            },
            None => ("drain ended".into(), self.end_drain()),
        };
        let generation = self.snapshot.generation;
        let written = outcome.as_ref().map(|()| Some(generation));
        let written = written.map_err(|refusal| &*refusal.error);
        self.companions.audit.write(&wish.origin, &what, written);
        let answer = outcome.map(|()| self.drain_status());
        let _gone = wish.asker.send(answer);
    }

    fn begin_drain(&mut self, times: DrainTimes) -> Result<(), Refusal> {
        if self.is_handing_over {
            return Err(self.busy().unwrap_or_else(Refusal::stopping));
        }
        let now = Instant::now();
        let closes = matches!(
            self.draining,
            Some(Draining {
                stage: Stage::Closing(_),
                ..
            })
        );
        let stage = if closes {
            Stage::Closing(now + times.timeout)
        } else {
            info!(
                "draining: not ready any more; listeners close in {:?}, connections end {:?} later",
                times.notice, times.timeout
            );
            Stage::Notice(now + times.notice)
        };
        self.draining = Some(Draining {
            stage,
            timeout: times.timeout,
        });
        if closes {
            self.plane.l7_mut().leave((now + times.timeout).into_std());
        }
        Ok(())
    }

    fn end_drain(&mut self) -> Result<(), Refusal> {
        match self.draining.map(|draining| draining.stage) {
            None => Ok(()),
            Some(Stage::Notice(_)) => {
                self.draining = None;
                info!("ready again: the drain was ended");
                Ok(())
            }
            Some(Stage::Closing(_)) => Err(Refusal::new(
                RefusalKind::Stopping,
                "the listeners are closed already",
                "let the daemon end and start it again",
            )),
        }
    }

    /// When [`Core::advance_drain`] is due.
    pub(super) fn drain_alarm(&self) -> Option<Instant> {
        match self.draining?.stage {
            Stage::Notice(until) => Some(until),
            Stage::Closing(_) => Some(Instant::now() + LOOK),
        }
    }

    /// Takes the next step; returns whether that was the last.
    pub(super) fn advance_drain(&mut self) -> bool {
        match &mut self.draining {
            // An upgrade that is under way decides first who closes what.
            Some(Draining { stage, timeout }) if !self.is_handing_over => match *stage {
                Stage::Notice(until) if Instant::now() >= until => {
                    let until = Instant::now() + *timeout;
                    *stage = Stage::Closing(until);
                    service::stopping();
                    self.plane.forget_sockets();
                    self.plane.l7_mut().leave(until.into_std());
                    let left = self.drain_status().connections;
                    info!("draining: listeners closed; connections left: {left}");
                    false
                }
                Stage::Notice(_) => false,
                Stage::Closing(_) => self.plane.l7().has_ended(),
            },
            _ => false,
        }
    }

    /// Why nothing can be changed or handed over while the daemon is about to end.
    pub(super) fn closing(&self) -> Option<Refusal> {
        let draining = self.draining?;
        matches!(draining.stage, Stage::Closing(_)).then(|| {
            Refusal::new(
                RefusalKind::Stopping,
                "weir drains: its listeners are closed",
                "ask again when it has been started",
            )
        })
    }
}

fn times(order: &DrainOrder, config: DrainTimes) -> Result<DrainTimes, Refusal> {
    let read = |key: &str, typed: &Option<String>, default| match typed {
        None => Ok(default),
        Some(typed) => config::duration(typed, &(Duration::ZERO..=LONGEST))
            .map_err(|why| Refusal::new(RefusalKind::Invalid, format!("{key}: {why}"), "as in the config")),
    };
    Ok(DrainTimes {
        notice: read("notice", &order.notice, config.notice)?,
        timeout: read("timeout", &order.timeout, config.timeout)?,
    })
}
