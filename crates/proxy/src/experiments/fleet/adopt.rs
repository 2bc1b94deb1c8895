//! Taking over what the fleet has published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_experiment::fleet::Published;
use farthing_experiment::{Experiment, Life, Stage, SwitchOff, Trial, fleet::FLEET_ALPHA};
use farthing_types::Time;

use super::super::{AuditLine, Running, spec};
use super::{Shared, SharedWindows};
use crate::state::State;

/// What has come of an experiment.
pub struct News {
    /// Its version.
    pub version: u64,
    /// The document, or why it cannot be read here.
    pub published: Result<Published, String>,
    /// Its evidence, where that is news.
    pub evidence: Option<Trial>,
    /// Rows of the windows in it that are not here yet.
    pub lines: String,
}

/// A life in which variants are off that were switched off here.
pub fn with_off(life: &Life, off: &[SwitchOff], running: &Running, now: Time) -> Life {
    life.without_variants(off, &running.spec, (now, running.spec.window_at(now)))
}

impl State {
    /// Takes over what has come. From then on this instance assigns by it.
    pub(super) fn adopt_published(&self, name: &str, news: News) {
        let now = self.clock.now();
        let mut all = self.trials.all.lock();
        // Out of the list while others are looked at; nobody sees that.
        let Some(mut running) = all.remove(name) else { return };
        let before = running.life.clone();
        let was_refused = running.shared().is_some_and(|shared| shared.refused.is_some());
        let logged = running.adopt(news, now);
        let takes_part = running.shared().is_some_and(|shared| shared.refused.is_none());
        if takes_part && (was_refused || running.life.stage != before.stage) {
            let allowed = self.allow(&running, all.values().filter(|other| !other.gives_way_to(&running)));
            match allowed {
                // What the proxy tries by itself is given up for it.
                Ok(()) => all.retain(|_, other| !other.gives_way_to(&running)),
                Err(error) => running.refuse(error.to_string(), now),
            }
        }
        let newly_off = running.life.off.len().saturating_sub(before.off.len());
        self.counters.variants_switched_off.fetch_add(newly_off as u64, Ordering::Relaxed);
        if let Some(snapshot) = &running.snapshot {
            if before.stage != running.life.stage {
                self.log_variants(snapshot, now);
            }
            if logged {
                self.log_allocation(snapshot, now);
            }
        }
        all.insert(running.spec.name.clone(), running);
        if let Err(error) = self.publish_experiments(&all) {
            tracing::error!(%error, "experiment snapshots not published");
        }
        drop(all);
        self.trials.wake.notify_one();
    }

    /// What cannot be taken part in here, for the list of parts.
    pub fn experiments_problem(&self) -> Option<String> {
        let all = self.trials.all.lock();
        all.iter().find_map(|(name, running)| Some(format!("experiment {name}: {}", running.shared()?.refused()?)))
    }

    /// Experiments of the fleet, whether this instance decides about them, and their windows by what became of them.
    pub fn experiment_windows(&self) -> Vec<SharedWindows> {
        let all = self.trials.all.lock();
        let of = |(name, running): (&Arc<str>, &Running)| {
            let shared = running.shared()?;
            Some(SharedWindows { experiment: name.clone(), decides: shared.decides(), outcomes: shared.windows() })
        };
        all.iter().filter_map(of).collect()
    }
}

impl Running {
    /// Whether the probabilities that hold have changed.
    fn adopt(&mut self, news: News, now: Time) -> bool {
        let window = self.spec.window_at(now);
        let (own, was_refused) = (self.frozen.clone(), self.shared().is_some_and(|shared| shared.refused.is_some()));
        let before = self.life.clone();
        let Some(shared) = self.shared_mut() else { return false };
        shared.version = news.version;
        shared.nothing_since = None;
        let published = match news.published.and_then(|published| fits(&published, &own).map(|()| published)) {
            Ok(published) => published,
            Err(why) => {
                self.refuse(why, now);
                return false;
            }
        };
        shared.refused = None;
        let noted = shared.published.as_ref().map_or(0, Published::last_note);
        shared.collected.acknowledge(published.closed);
        shared.own_off.retain(|off| published.life.off.iter().all(|known| known.variant != off.variant));
        let own_off = shared.own_off.clone();
        let lines: Vec<AuditLine> = published.notes.iter().filter(|note| note.number > noted).map(line).collect();
        let of = (published.evidence, published.life.started, published.closed);
        let life = with_off(&published.life, &own_off, self, now);
        let Some(shared) = self.shared_mut() else { return false };
        shared.published = Some(published);
        shared.collected.follow((&before, &life), window);
        if was_refused {
            // It has begun with every unit on the route's plan.
            shared.collected.tear(window);
        }
        self.life = life;
        if let Some(trial) = news.evidence {
            self.take_evidence(trial, of, news.lines);
        }
        self.trial.know(&self.life.off);
        self.trial.follow(&self.life.allocations);
        self.unkept.notes.extend(lines);
        self.unkept.standing = true;
        if let Err(error) = self.renew() {
            self.refuse(error.to_string(), now);
        }
        // Contexts come anew with each version.
        let drawn = |life: &Life| life.allocations.iter().map(|a| (a.from, a.pmf, a.ramp)).collect::<Vec<_>>();
        drawn(&self.life) != drawn(&before) || self.life.stage != before.stage
    }

    fn take_evidence(&mut self, mut trial: Trial, (number, began, closed): (u64, Option<Time>, i64), lines: String) {
        trial.guard_at(FLEET_ALPHA);
        let restarts = self.shared().is_some_and(|shared| shared.began != began);
        let rows = lines.lines().count() as u64;
        let known = if restarts { 0 } else { self.trial.unit_windows() };
        let missing = trial.unit_windows().saturating_sub(known).saturating_sub(rows);
        self.trial = trial;
        if restarts {
            self.rows_bytes = 0;
        }
        let Some(shared) = self.shared_mut() else { return };
        if restarts {
            shared.rows_missing = 0;
            shared.lines.clear();
        }
        (shared.evidence, shared.began, shared.rows_to) = (number, began, closed);
        shared.rows_missing += missing;
        shared.lines += &lines;
        self.unkept.evidence = true;
    }

    /// Takes no part: every unit has the route's plan here, and windows in which that is so do not count.
    fn refuse(&mut self, why: String, now: Time) {
        tracing::error!(experiment = %self.spec.name, why, "this instance takes no part: windows that it serves in do not count");
        let window = self.spec.window_at(now);
        self.snapshot = None;
        if let Some(shared) = self.shared_mut() {
            shared.refused = Some(why);
            shared.collected.tear(window);
        }
    }

    pub(in crate::experiments) fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    pub(in crate::experiments) fn shared_mut(&mut self) -> Option<&mut Shared> {
        self.shared.as_deref_mut()
    }

    /// The first document, by what is known here.
    pub(super) fn first_published(&self, window: i64) -> (Published, Option<Trial>) {
        let published = Published::first(self.frozen.clone(), self.life.clone(), window);
        if self.life.stage != Stage::Running {
            // What is over keeps its evidence, of whoever comes first.
            return (published.with_evidence(1), Some(self.trial.clone()));
        }
        // Each instance had a record of its own, and they have drawn by shares of their own: what they saw cannot be put together.
        let anew = Experiment::new(self.spec.clone()).ok().map(|experiment| Trial::new(&experiment));
        (published.with_evidence(1), anew)
    }
}

/// Whether an experiment is the same here as what was published; a draft may be changed.
fn fits(published: &Published, own: &BTreeMap<String, String>) -> Result<(), String> {
    let changed = spec::changed(&published.frozen, own);
    if changed.is_empty() || published.life.stage == Stage::Draft {
        Ok(())
    } else {
        Err(format!("the fleet runs it with another {}: configure it alike on all instances", changed.join(", ")))
    }
}

fn line(note: &farthing_experiment::fleet::FleetNote) -> AuditLine {
    AuditLine { at: note.at, by: note.by.clone(), what: format!("{} ({})", note.what, note.instance), reason: note.reason.clone() }
}
