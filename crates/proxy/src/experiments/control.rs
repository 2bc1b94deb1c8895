//! The control loop over experiments, and keeping what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_contract::log;
use farthing_experiment::{Experiment, Life, Stage, Steered, Trial, UnitWindow, steer};
use farthing_types::Time;

use super::fleet::{Lineage, Shared};
use super::kept::Folder;
use super::tuning::RouteTuning;
use super::{AuditLine, Running};
use crate::state::State;

impl State {
    /// One turn of the control loop: switches that time or money turns, then the experiments.
    pub fn control(&self) {
        let now = self.clock.now();
        self.expire_bypass(now);
        self.follow_candidates();
        self.steer_candidates(now);
        if self.may_act() {
            self.judge_caches(now);
        }
        self.judge_overheads();
        self.steer_experiments(now);
        self.tune(now);
    }

    /// One turn of the control loop over the experiments: windows that are over are closed, guardrails switch variants off, ramps go on, the
    /// probabilities of the next window are published.
    pub(crate) fn steer_experiments(&self, now: Time) {
        let mut all = self.trials.all.lock();
        let mut changed = false;
        for running in all.values_mut().filter(|running| running.life.stage == Stage::Running) {
            running.close_ended(now);
            // What is a fleet's is moved by who decides for it; guardrails of each instance act at once.
            let frozen = running.shared.is_some() || !self.may_act();
            let what = Steered { life: &running.life, spec: &running.spec, trial: running.watches(), draw: &self.draw, frozen };
            let Some(turn) = steer(&what, now) else { continue };
            let switched_off = turn.life.off.len().saturating_sub(running.life.off.len());
            self.counters.variants_switched_off.fetch_add(switched_off as u64, Ordering::Relaxed);
            for note in turn.notes {
                tracing::warn!(experiment = %running.spec.name, by = note.by, "{}", note.what);
                running.unkept.notes.push(AuditLine { at: now, by: note.by.into(), what: note.what, reason: None });
            }
            let share = running.life.ramp.share;
            running.life = turn.life;
            if let Some(shared) = &mut running.shared {
                shared.switched_off(&running.life.off);
            } else {
                running.trial.ramped((share, running.life.ramp.share), running.spec.window_at(now));
            }
            running.trial.follow(&running.life.allocations);
            running.unkept.standing = true;
            if let Err(error) = running.renew() {
                tracing::error!(experiment = %running.spec.name, %error, "experiment snapshot not renewed");
            }
            if let Some(experiment) = &running.snapshot {
                self.log_allocation(experiment, now);
            }
            changed = true;
        }
        if changed && let Err(error) = self.publish_experiments(&all) {
            tracing::error!(%error, "experiment snapshots not published");
        }
    }

    /// The probabilities that were published last, as a decision: what each draw of their windows goes by.
    pub(super) fn log_allocation(&self, experiment: &Experiment, now: Time) {
        let (Some(log), Some(last)) = (&self.log, experiment.allocations().last()) else { return };
        let from = last.from.max(experiment.window(now));
        let pmf = experiment.pmf(from);
        log.write(log::Decision {
            ts_ns: now.nanos(),
            decision_id: self.ids.next(),
            kind: "allocation",
            eligible_mask: experiment.live().iter().enumerate().map(|(index, live)| u64::from(*live) << index).sum(),
            pmf: pmf.iter().take(experiment.variants().len()).map(|p| *p as f32).collect(),
            action: i32::try_from(experiment.spec().leader).unwrap_or_default(),
            action_value: last.ramp,
            by: "experiment".into(),
            experiment: Some(experiment.name().clone()),
            window: Some(from),
            ..log::Decision::default()
        });
    }

    /// What each variant changes, as decisions, so that the log tells what the names of variants in it mean.
    pub(super) fn log_variants(&self, experiment: &Experiment, now: Time) {
        let Some(log) = &self.log else { return };
        for (index, variant) in experiment.variants().iter().enumerate() {
            log.write(log::Decision {
                ts_ns: now.nanos(),
                decision_id: self.ids.next(),
                kind: "variant",
                eligible_mask: 1 << index,
                pmf: (0..experiment.variants().len()).map(|other| if other == index { 1.0 } else { 0.0 }).collect(),
                action: i32::try_from(index).unwrap_or_default(),
                by: format!("override:{}", variant.overrides).into(),
                experiment: Some(experiment.name().clone()),
                variant: Some(variant.name.clone()),
                window: Some(experiment.window(now)),
                ..log::Decision::default()
            });
        }
    }

    /// Keeps what has changed. Blocks; no request waits for it.
    pub fn keep_experiments(&self) {
        self.tell_named(&[]);
        let folder = self.trials.folder.lock();
        self.keep_tunings(&folder);
        let work: Vec<Work> = self.trials.all.lock().values_mut().filter_map(Running::take_unkept).collect();
        for mut work in work {
            let name = work.name.clone();
            let mut failed = None;
            for line in &work.notes {
                failed = folder.note(&name, line).err().or(failed);
            }
            if let Some((frozen, life)) = &work.standing {
                failed = folder.keep_standing(&name, (frozen, life), work.lineage.clone()).err().or(failed);
            }
            let (mut evidence, mut closed) = (Ok(None), Vec::new());
            if let Some((trial, rows, bytes)) = &work.evidence {
                let lines = rows.iter().map(UnitWindow::text).chain(work.lines.split_inclusive('\n').map(str::to_owned));
                evidence = folder.keep_evidence(&name, (trial, work.number), (lines, *bytes)).map(Some);
            }
            let mut all = self.trials.all.lock();
            let Some(running) = all.get_mut(&name) else { continue };
            match evidence {
                Ok(Some((bytes, left_out))) => {
                    running.rows_bytes = bytes;
                    running.trial.count_unexported(left_out);
                    closed = work.evidence.take().map(|(_, rows, _)| rows).unwrap_or_default();
                }
                Ok(None) => {}
                Err(error) => {
                    running.trial.put_back(work.evidence.take().map(|(_, rows, _)| rows).unwrap_or_default());
                    if let Some(shared) = &mut running.shared {
                        shared.put_back(std::mem::take(&mut work.lines));
                    }
                    running.unkept.evidence = true;
                    failed = Some(error);
                }
            }
            if let Some(error) = failed {
                // Notes are not tried again: some of them may be there already.
                running.unkept.standing |= work.standing.is_some();
                self.counters.experiments_unkept.fetch_add(1, Ordering::Relaxed);
                tracing::error!(experiment = %name, %error, "not kept: tried again with the next turn; a restart before forgets it");
            }
            let spec = running.spec.clone();
            drop(all);
            self.log_assignments(&spec, &closed);
        }
    }

    /// Before the experiments that they name.
    fn keep_tunings(&self, folder: &Folder) {
        let work: Vec<_> = self.trials.tuning.lock().iter_mut().filter_map(RouteTuning::take_unkept).collect();
        for work in work {
            if let Err(error) = folder.keep_tuning(&work) {
                self.counters.experiments_unkept.fetch_add(1, Ordering::Relaxed);
                tracing::error!(route = %work.route, %error, "what was tried is not kept: tried again with the next turn; a restart before forgets it");
                let mut all = self.trials.tuning.lock();
                if let Some(of) = all.iter_mut().find(|of| of.is_on(&work.route)) {
                    of.put_back(work);
                }
            }
        }
    }
}

struct Work {
    name: Arc<str>,
    notes: Vec<AuditLine>,
    standing: Option<(std::collections::BTreeMap<String, String>, Life)>,
    evidence: Option<(Trial, Vec<UnitWindow>, u64)>,
    /// Of a fleet: what was published, the number of its evidence, and rows that have come with it.
    lineage: Option<Lineage>,
    number: u64,
    lines: String,
}

impl Running {
    /// Closes the window before this one, once its late findings cannot come any more.
    pub(super) fn close_ended(&mut self, now: Time) {
        match &mut self.shared {
            Some(shared) => shared.collected.close(&self.spec, now),
            None => self.trial.close_before(self.spec.over(now)),
        }
    }

    fn take_unkept(&mut self) -> Option<Work> {
        let notes = std::mem::take(&mut self.unkept.notes);
        let standing = std::mem::take(&mut self.unkept.standing).then(|| (self.frozen.clone(), self.life.clone()));
        let ended = std::mem::take(&mut self.unkept.evidence) || self.trial.has_closed();
        let evidence = ended.then(|| {
            let rows = self.trial.take_closed();
            (self.trial.clone(), rows, self.rows_bytes)
        });
        let any = !notes.is_empty() || standing.is_some() || evidence.is_some();
        let lines = self.shared.as_mut().filter(|_| evidence.is_some()).map(|shared| std::mem::take(&mut shared.lines)).unwrap_or_default();
        let shared = self.shared.as_deref();
        any.then(|| Work {
            name: self.spec.name.clone(),
            notes,
            standing,
            evidence,
            lineage: shared.and_then(Shared::lineage),
            number: shared.map_or(0, Shared::evidence),
            lines,
        })
    }
}
