//! What the holder of an experiment's lease does: it decides about windows that are over, and steers by the evidence.

use std::sync::Arc;

use farthing_experiment::fleet::{Absent, Due, FleetNote, Folding, LeftOut, Part, Published, due};
use farthing_experiment::{Stage, Steered, Trial, UnitWindow, WholeWindow, steer};
use farthing_fleet::Fault;
use farthing_fleet::lease::Holding;
use farthing_types::Time;

use super::codec;
use super::instance_of;
use super::turn::{Change, Member};
use crate::state::State;

/// Windows that are decided about in one turn.
const AT_ONCE: usize = 8;

/// What is next with an experiment.
enum Step {
    /// What was published becomes this.
    Becomes(Box<Published>),
    /// A window is to be looked at.
    Window(i64, bool),
}

/// What came of a window.
struct Folded {
    published: Published,
    evidence: Option<Trial>,
    rows: Vec<UnitWindow>,
    packed: Vec<u8>,
}

impl Member {
    /// Decides about an experiment of the fleet, and, where it `steers`, moves what the evidence moves.
    pub(super) async fn decide(&self, name: &str, holding: Holding, steers: bool) {
        for _ in 0..AT_ONCE {
            match self.step(name, holding, steers).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.fleet.trouble(fault),
            }
        }
    }

    /// One step; whether there may be another.
    async fn step(&self, name: &str, holding: Holding, steers: bool) -> Result<bool, Fault> {
        let now = self.state.clock.now();
        let Some((over, step)) = self.state.next_step(name, now, steers) else { return Ok(false) };
        let change = |published| Change { name, over, becomes: 0, holding: Some(holding), published, evidence: None, decided: None };
        match step {
            Step::Becomes(published) => self.publish(change(*published)).await,
            Step::Window(window, late) => {
                let Some(folded) = self.fold(name, (window, late)).await? else { return Ok(false) };
                let decided = Some((window, folded.packed));
                let done = self.publish(Change { evidence: folded.evidence, decided, ..change(folded.published) }).await?;
                if done && let Some(spec) = self.state.spec_of(name) {
                    self.state.log_assignments(&spec, &folded.rows);
                }
                Ok(done)
            }
        }
    }

    /// What comes of a window that is over; `None` while it is waited for somebody.
    async fn fold(&self, name: &str, (window, late): (i64, bool)) -> Result<Option<Folded>, Fault> {
        let there = self.board.there(name, window).await?;
        if !late && (there.is_empty() || there.iter().any(|(_, length)| *length == 0)) {
            return Ok(None);
        }
        let Some((spec, published, trial)) = self.state.to_fold(name) else { return Ok(None) };
        let draw = self.state.draw;
        let folded = match Folding::new(&spec, &published, (&draw, window)) {
            _ if there.is_empty() => Err((Absent::Nobody, None)),
            Ok(mut folding) => {
                let mut added = Ok(());
                for (member, length) in &there {
                    // One after the other: what is held is one report, and the sum.
                    let bytes = if *length == 0 { None } else { Some(self.board.report_of(name, window, member).await?) };
                    let instance = instance_of(member);
                    let part = bytes.as_deref().map(Part::decode).transpose().map_err(|_| (Absent::Unreadable, Some(instance.clone())));
                    added = part.and_then(|part| folding.add(&instance, part.as_ref()));
                    if added.is_err() {
                        break;
                    }
                }
                added.map(|()| folding.whole())
            }
            Err(left_out) => Err(left_out),
        };
        let done = tokio::task::spawn_blocking(move || taken(&published, trial, (window, folded))).await;
        Ok(done.ok())
    }
}

/// The evidence with a window, or without it.
fn taken(published: &Published, trial: Trial, (window, folded): (i64, Result<WholeWindow, LeftOut>)) -> Folded {
    let whole = match folded {
        Ok(whole) => whole,
        Err(left_out) => {
            tracing::warn!(
                window,
                why = left_out.0.as_str(),
                instance = left_out.1.as_deref().unwrap_or(""),
                "a window of an experiment does not count"
            );
            return Folded { published: published.decided(window, Some(left_out)), evidence: None, rows: Vec::new(), packed: Vec::new() };
        }
    };
    let mut next = published.decided(window, None);
    next.evidence += 1;
    let mut trial = trial.keeping_rows();
    trial.know(&published.life.off);
    trial.take_window(whole);
    let rows = trial.take_closed();
    // Without them the evidence is as good; instances count what they lack.
    let packed = if rows.is_empty() { Vec::new() } else { codec::rows(&rows).unwrap_or_default() };
    Folded { published: next, evidence: Some(trial), rows, packed }
}

impl State {
    /// Experiments that are measured, and whether this instance is fit to decide about each: who takes no part, or lacks the evidence, is not.
    pub(super) fn deciding(&self) -> Vec<(String, bool)> {
        let all = self.trials.all.lock();
        let of = |(name, running): (&Arc<str>, &super::super::Running)| {
            let shared = running.shared()?;
            let has_evidence = shared.published.as_ref().is_some_and(|published| published.evidence == shared.evidence);
            let runs = running.life.stage == Stage::Running;
            (runs || shared.decides).then(|| (name.to_string(), runs && has_evidence && shared.refused.is_none()))
        };
        all.iter().filter_map(of).collect()
    }

    /// Notes which experiments this instance decides about.
    pub(super) fn note_deciding(&self, holds: impl Fn(&str) -> bool) {
        for (name, running) in self.trials.all.lock().iter_mut() {
            if let Some(shared) = running.shared_mut() {
                shared.decides = holds(name);
            }
        }
    }

    fn spec_of(&self, name: &str) -> Option<farthing_experiment::ExperimentSpec> {
        self.trials.all.lock().get(name).map(|running| running.spec.clone())
    }

    fn to_fold(&self, name: &str) -> Option<(farthing_experiment::ExperimentSpec, Published, Trial)> {
        let all = self.trials.all.lock();
        let running = all.get(name)?;
        let published = running.shared()?.published.clone()?;
        Some((running.spec.clone(), published, running.trial.clone()))
    }

    fn next_step(&self, name: &str, now: Time, steers: bool) -> Option<(u64, Step)> {
        let all = self.trials.all.lock();
        let running = all.get(name)?;
        let shared = running.shared()?;
        let published = shared.published.as_ref()?;
        // Without its evidence nothing can be decided: it comes with the next turn.
        if published.evidence != shared.evidence || published.life.stage != Stage::Running {
            return None;
        }
        match due(&running.spec, published.closed, now) {
            Due::Skip(upto) => return Some((shared.version, Step::Becomes(Box::new(published.without_upto(upto))))),
            Due::Window { window, .. } if !published.measures(window) => {
                return Some((shared.version, Step::Becomes(Box::new(published.rested(window)))));
            }
            Due::Window { window, late } => return Some((shared.version, Step::Window(window, late))),
            Due::Nothing => {}
        }
        let what = Steered { life: &running.life, spec: &running.spec, trial: &running.trial, draw: &self.draw, frozen: !self.may_act() };
        let turn = steers.then(|| steer(&what, now)).flatten()?;
        let mut next = published.living(turn.life, running.spec.window_at(now));
        for note in turn.notes {
            tracing::warn!(experiment = name, by = note.by, "{}", note.what);
            let (by, instance): (Arc<str>, _) = (note.by.into(), self.instance_name());
            next.note(FleetNote { number: 0, at: now, by, what: note.what, reason: None, instance });
        }
        Some((shared.version, Step::Becomes(Box::new(next))))
    }
}
