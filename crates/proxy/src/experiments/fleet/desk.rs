//! What the loop reads and writes of the records here, each under their lock and no longer than that.

use std::sync::Arc;
use std::time::Duration;

use farthing_experiment::fleet::{FleetNote, KEPT_WINDOWS, Published, attends};
use farthing_experiment::{Stage, Trial};
use farthing_fleet::BoardPlace;
use farthing_types::{Span, Time};
use tokio::time::Instant;

use super::super::Running;
use super::adopt::with_off;
use crate::state::State;

/// What is known here of an experiment.
pub struct Known {
    pub version: u64,
    pub evidence: u64,
    /// The last window whose rows are here.
    pub rows_to: i64,
    pub lacks_evidence: bool,
}

impl State {
    /// Whether there is any experiment that is a fleet's.
    pub(super) fn shares_experiments(&self) -> bool {
        self.trials.all.lock().values().any(|running| running.shared().is_some())
    }

    /// Makes reports of windows that are over. Who takes no part says so in them.
    pub(super) fn close_parts(&self, now: Time) {
        for running in self.trials.all.lock().values_mut() {
            let Running { spec, life, shared: Some(shared), .. } = running else { continue };
            let window = spec.window_at(now);
            if life.stage != Stage::Running && shared.refused.is_none() {
                shared.collected.rest(window);
                continue;
            }
            if shared.refused.is_some() {
                shared.collected.tear(window);
            }
            shared.collected.close(spec, now);
        }
    }

    pub(super) fn leave_parts(&self, now: Time) {
        for running in self.trials.all.lock().values_mut().filter(|running| running.life.stage == Stage::Running) {
            if let Running { spec, shared: Some(shared), .. } = running {
                shared.collected.leave(spec, now);
            }
        }
    }

    pub(super) fn places(&self, now: Time) -> Vec<(BoardPlace, Known)> {
        let all = self.trials.all.lock();
        let place = |(name, running): (&Arc<str>, &Running)| {
            let known = known(running)?;
            let lasts = if is_there(running) { lasts(running.spec.window) } else { Span::ZERO };
            Some((BoardPlace { name: name.to_string(), windows: attends(&running.spec, now), lasts }, known))
        };
        all.iter().filter_map(place).collect()
    }

    pub(super) fn known_of(&self, name: &str) -> Option<Known> {
        self.trials.all.lock().get(name).and_then(known)
    }

    /// How long reports and rows of an experiment are kept.
    pub(super) fn lasts(&self, name: &str) -> Span {
        self.trials.all.lock().get(name).map_or(Span::from_secs(3_600), |running| lasts(running.spec.window))
    }

    pub(super) fn take_seat(&self, seat: u64) {
        self.trials.all.lock().values_mut().filter_map(|running| running.shared_mut()).for_each(|shared| shared.collected.seated(seat));
    }

    pub(super) fn note_nothing(&self, name: &str) {
        if let Some(shared) = self.trials.all.lock().get_mut(name).and_then(|running| running.shared_mut()) {
            shared.nothing_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn brought_back(&self, name: &str, now: Time) -> Option<(u64, Published, Trial)> {
        let all = self.trials.all.lock();
        let running = all.get(name)?;
        // Who takes no part knows nothing that others should follow.
        let shared = running.shared().filter(|shared| shared.refused.is_none())?;
        let published = shared.published.as_ref()?.restored(shared.version, running.spec.window_at(now));
        Some((shared.version, published.with_evidence(shared.evidence), running.trial.clone()))
    }

    pub(super) fn untold_off(&self, now: Time) -> Vec<(String, u64, Published)> {
        let all = self.trials.all.lock();
        let untold = |(name, running): (&Arc<str>, &Running)| {
            let shared = running.shared()?;
            let published = shared.published.as_ref()?;
            let untold = shared.untold_off();
            if published.life.stage != Stage::Running || untold.is_empty() || shared.refused.is_some() {
                return None;
            }
            let window = running.spec.window_at(now);
            let mut next = published.living(with_off(&published.life, &untold, running, now), window);
            for off in &untold {
                let variant = running.spec.variants.get(off.variant).map_or("", |variant| &*variant.name);
                next.note(FleetNote {
                    number: 0,
                    at: now,
                    by: "guardrail".into(),
                    what: format!(
                        "variant {variant} is switched off: {} (evidence {:.0} on one instance)",
                        off.guard.as_str(),
                        off.evidence
                    ),
                    reason: None,
                    instance: self.instance_name(),
                });
            }
            Some((name.to_string(), shared.version, next))
        };
        all.iter().filter_map(untold).collect()
    }

    pub(super) fn unpublished(&self, now: Time, after: Duration) -> Vec<(String, Published, Option<Trial>)> {
        let all = self.trials.all.lock();
        let unpublished = |(name, running): (&Arc<str>, &Running)| {
            let shared = running.shared()?;
            let long = shared.nothing_since.is_some_and(|since| since.elapsed() >= after);
            let (published, evidence) = (shared.version == 0 && long).then(|| running.first_published(running.spec.window_at(now)))?;
            Some((name.to_string(), published, evidence))
        };
        all.iter().filter_map(unpublished).collect()
    }

    /// Experiments that are drafts, and are to be more by the configuration.
    pub(super) fn configured_orders(&self) -> Vec<(String, farthing_experiment::Order)> {
        let all = self.trials.all.lock();
        let order = |(name, running): (&Arc<str>, &Running)| {
            let known = running.shared()?.published.as_ref()?.life.stage == Stage::Draft;
            let order = super::super::orders::configured(&running.config)?;
            known.then(|| (name.to_string(), order))
        };
        all.iter().filter_map(order).collect()
    }

    pub(super) fn untold_reports(&self) -> Vec<(String, i64, Vec<u8>)> {
        let all = self.trials.all.lock();
        let measured = all.iter().filter(|(_, running)| is_there(running));
        let of = |(name, running): (&Arc<str>, &Running)| {
            let untold = running.shared().map(|shared| shared.collected.untold()).unwrap_or_default();
            untold.into_iter().map(|(window, bytes)| (name.to_string(), window, bytes)).collect::<Vec<_>>()
        };
        measured.flat_map(of).collect()
    }

    pub(super) fn report_told(&self, name: &str, window: i64) {
        if let Some(shared) = self.trials.all.lock().get_mut(name).and_then(|running| running.shared_mut()) {
            shared.collected.told(window);
        }
    }
}

/// Whether it serves in windows of the experiment: also where it takes no part, for then they do not count.
fn is_there(running: &Running) -> bool {
    running.life.stage == Stage::Running || running.shared().is_some_and(|shared| shared.refused.is_some())
}

/// Longer than windows are waited for.
fn lasts(window: Span) -> Span {
    window.saturating_mul(KEPT_WINDOWS as u32 + 2) + Span::from_secs(600)
}

fn known(running: &Running) -> Option<Known> {
    let shared = running.shared()?;
    let published = shared.published.as_ref();
    Some(Known {
        version: shared.version,
        evidence: shared.evidence,
        rows_to: shared.rows_to,
        lacks_evidence: published.is_some_and(|published| published.evidence != shared.evidence),
    })
}
