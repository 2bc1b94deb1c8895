//! Guardrails at work: failures and late answers are taken while the window runs, stale ones when it is closed.

use farthing_types::KeyHash;

use super::units::{Unit, Watched};
use super::{Observation, Trial, pair_propensity};
use crate::assign::Assigned;
use crate::guard::{GuardKind, SwitchOff};
use crate::spec::MAX_VARIANTS;
use crate::unit::UnitKind;

/// A unit is handed to the guardrails as soon as it has had so many requests in a window, so that they act within it.
const GUARD_AFTER: u32 = 5;

impl Trial {
    /// Counts a request for the guardrails; whether one has tripped by it.
    pub(super) fn watch(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) -> bool {
        if seen.requests == 0 || assigned.window < self.guard_from {
            return false;
        }
        // Of a whole route the first few requests of a window would tell little.
        let enough = if self.unit == UnitKind::Block { u32::MAX } else { GUARD_AFTER };
        let entry = self.units.entry(unit).or_default();
        let mut before = None;
        if entry.watched.is_none_or(|w| w.window < assigned.window) {
            before = entry.watched.take().filter(|w| !w.done && w.requests > 0);
        }
        let watched = entry.watched.get_or_insert(Watched {
            window: assigned.window,
            variant: assigned.variant,
            pmf: assigned.pmf,
            requests: 0,
            errors: 0,
            late: 0,
            done: false,
        });
        let mut now = None;
        if watched.window == assigned.window {
            watched.done |= watched.variant != assigned.variant;
            watched.requests = watched.requests.saturating_add(seen.requests);
            watched.errors = watched.errors.saturating_add(seen.errors);
            watched.late = watched.late.saturating_add(seen.late);
            if !watched.done && watched.requests >= enough {
                watched.done = true;
                now = Some(*watched);
            }
        }
        let mut tripped = false;
        for watched in [before, now].into_iter().flatten() {
            tripped |= self.take(&watched);
        }
        tripped
    }

    /// Hands over the units of closed windows that had few requests.
    pub(super) fn flush_guards(&mut self) {
        let ended = |unit: &mut Unit, window: i64| {
            let watched = unit.watched.filter(|w| w.window <= window)?;
            unit.watched = None;
            Some(watched).filter(|w| !w.done && w.requests > 0)
        };
        let window = self.window;
        let mut units: Vec<(KeyHash, Watched)> =
            self.units.iter_mut().filter_map(|(key, unit)| ended(unit, window).map(|watched| (*key, watched))).collect();
        crate::guard::by_unit(&mut units);
        for (_, watched) in units {
            self.take(&watched);
        }
    }

    fn take(&mut self, watched: &Watched) -> bool {
        let share = |count: u32| (f64::from(count) / f64::from(watched.requests.max(1))).min(1.0);
        let of = (watched.variant, &watched.pmf);
        let errors = self.guard(GuardKind::Errors, of, share(watched.errors));
        self.guard(GuardKind::Latency, of, share(watched.late)) | errors
    }

    /// Takes a unit-window's share; whether a variant is to be switched off by it.
    pub(super) fn guard(&mut self, kind: GuardKind, (variant, pmf): (usize, &[f32; MAX_VARIANTS]), share: f64) -> bool {
        let mut tripped = false;
        for challenger in 1..self.names.len() {
            if variant != 0 && variant != challenger {
                continue;
            }
            let Some(propensity) = pair_propensity(pmf, challenger) else { continue };
            let guard = &mut self.guards[challenger - 1][kind as usize];
            guard.add(variant == challenger, propensity, share);
            if guard.tripped_at(self.guard_alpha) && self.off[challenger].is_none() {
                self.off[challenger] = Some(SwitchOff { variant: challenger, guard: kind, evidence: guard.evidence() });
                tripped = true;
            }
        }
        tripped
    }

    /// Variants whose guardrail has tripped.
    pub fn switch_off(&self) -> impl Iterator<Item = SwitchOff> + '_ {
        self.off.iter().flatten().copied()
    }

    /// The strongest evidence of harm of any variant that is not switched off; 1 is none.
    pub fn harm(&self) -> f64 {
        let live = self.guards.iter().enumerate().filter(|(index, _)| self.off[index + 1].is_none());
        live.flat_map(|(_, guards)| guards).map(crate::guard::Guard::evidence).fold(0.0, f64::max)
    }
}
