//! Orders to an experiment of a fleet, given on any instance: published over the version that the giver knows, or not at all.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use farthing_experiment::fleet::{FleetNote, Published};
use farthing_experiment::{Experiment, Order, Stage, Trial};
use farthing_types::Time;
use tokio::time::Instant;

use super::super::orders::said;
use super::super::{ExperimentError, ExperimentView, Running};
use crate::StartError;
use crate::state::State;

/// Orders that wait at once.
const MOST: usize = 64;
/// An order that was not begun by then is not carried out.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);
/// So long its giver waits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// An order that is to be published.
pub struct Proposal {
    pub name: String,
    pub order: Order,
    pub reason: Option<String>,
    pub by: &'static str,
    pub until: Instant,
    answer: SyncSender<Result<ExperimentView, ExperimentError>>,
}

impl Proposal {
    /// One, and where its answer comes.
    pub fn new(name: &str, order: Order, (by, reason): (&'static str, Option<String>)) -> (Self, Answered) {
        let (answer, answered) = sync_channel(1);
        (Self { name: name.to_owned(), order, reason, by, until: Instant::now() + BEGUN_WITHIN, answer }, answered)
    }

    /// Tells its giver; one that waits no longer knows that it may be in force.
    pub fn answer(self, said: Result<ExperimentView, ExperimentError>) {
        let _gone = self.answer.try_send(said);
    }
}

/// Where the answer to an order comes.
pub type Answered = Receiver<Result<ExperimentView, ExperimentError>>;

fn away() -> ExperimentError {
    ExperimentError::Fleet(
        "nothing was done: the fleet's Redis does not answer, and an order holds for all instances or none; `farthing bypass` works without it",
    )
}

impl State {
    /// Gives an order to the fleet and waits for what becomes of it. Blocks.
    pub(in crate::experiments) fn order_in_fleet(
        &self,
        name: &str,
        order: &Order,
        reason: &str,
    ) -> Result<ExperimentView, ExperimentError> {
        self.hand_in(name, order.clone(), ("operator", Some(reason.to_owned())))?.recv_timeout(ANSWERED_WITHIN).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => {
                    ExperimentError::Fleet("the fleet's Redis does not answer: look with `show` whether the order is in force")
                }
                RecvTimeoutError::Disconnected => away(),
            })
        })
    }

    fn hand_in(&self, name: &str, order: Order, why: (&'static str, Option<String>)) -> Result<Answered, ExperimentError> {
        let (proposal, answered) = Proposal::new(name, order, why);
        let mut waiting = self.trials.desk.proposals.lock();
        if waiting.len() >= MOST {
            return Err(away());
        }
        waiting.push_back(proposal);
        drop(waiting);
        self.trials.desk.wake.notify_one();
        Ok(answered)
    }

    /// Orders that wait; those that have waited too long are told so.
    pub(super) fn proposals(&self) -> Vec<Proposal> {
        let waiting = std::mem::take(&mut *self.trials.desk.proposals.lock());
        let now = Instant::now();
        let (timely, late): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|proposal| now < proposal.until);
        late.into_iter().for_each(|proposal| proposal.answer(Err(away())));
        timely
    }

    /// Has orders that waited in vain told.
    pub(super) fn refuse_late(&self) {
        let now = Instant::now();
        let mut waiting = self.trials.desk.proposals.lock();
        while waiting.front().is_some_and(|proposal| now >= proposal.until) {
            if let Some(proposal) = waiting.pop_front() {
                proposal.answer(Err(away()));
            }
        }
    }

    /// What an order makes of an experiment as it was published last; with the evidence where that begins anew.
    pub(super) fn proposed(&self, proposal: &Proposal, now: Time) -> Result<(Published, Option<Trial>), ExperimentError> {
        let all = self.trials.all.lock();
        let known = || all.keys().map(ToString::to_string).collect();
        let running = all.get(&*proposal.name).ok_or_else(|| ExperimentError::Unknown { given: proposal.name.clone(), known: known() })?;
        if let Some(why) = running.shared().and_then(|shared| shared.refused()) {
            return Err(ExperimentError::Refused(why.to_owned()));
        }
        let (mut next, trial) = running.ordered_in_fleet(&proposal.order, now)?;
        let mut candidate = Running { life: next.life.clone(), ..running.clone() };
        candidate.renew()?;
        let others = |other: &&Running| other.spec.name != candidate.spec.name && !other.gives_way_to(&candidate);
        self.allow(&candidate, all.values().filter(others))?;
        next.note(FleetNote {
            number: 0,
            at: now,
            by: proposal.by.into(),
            what: said(&proposal.order, running.life.stage, &next.life),
            reason: proposal.reason.clone(),
            instance: self.instance_name(),
        });
        Ok((next, trial))
    }

    pub(super) fn instance_name(&self) -> std::sync::Arc<str> {
        self.fleet.as_ref().map_or_else(|| "".into(), |fleet| fleet.identity().name.clone())
    }
}

impl Running {
    fn ordered_in_fleet(&self, order: &Order, now: Time) -> Result<(Published, Option<Trial>), ExperimentError> {
        let published = self.shared().and_then(|shared| shared.published.as_ref()).ok_or_else(away)?;
        let before = published.life.stage;
        let window = self.spec.window_at(now);
        let next = published.ordered(order, &self.spec, (now, window));
        let mut next = next.map_err(|source| ExperimentError::Order { name: self.spec.name.clone(), source })?;
        if before == Stage::Draft {
            next.frozen = self.frozen.clone();
        }
        if before == Stage::Running || next.life.stage != Stage::Running {
            return Ok((next, None));
        }
        let experiment = Experiment::new(self.spec.clone()).map_err(StartError::from)?;
        next.evidence += 1;
        Ok((next, Some(Trial::new(&experiment))))
    }
}
