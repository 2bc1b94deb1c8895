//! Whether a window of a fleet is whole, and what it adds up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Draw, KeyHash, Span, Time};
use serde::{Deserialize, Serialize};

use super::part::{Part, Sum};
use super::published::Published;
use crate::assign::{Assigned, Experiment};
use crate::life::Life;
use crate::spec::{ExperimentSpec, SpecError};
use crate::trial::{Counts, WholeWindow};

/// Windows for which is waited at most: of earlier ones nothing is kept.
pub const KEPT_WINDOWS: i64 = 4;

/// Why a window is not in the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absent {
    /// An instance that was there has not reported in time: it was killed, stopped, or cut off.
    Unreported,
    /// An instance has not seen all that it served in the window, or not by what was published.
    Torn,
    /// An instance gave units other variants than the published allocation does.
    OtherAllocation,
    /// A report cannot be read.
    Unreadable,
    /// What was published was lost meanwhile.
    Lost,
    /// Nobody was there, or nobody decided for too long.
    Nobody,
}

impl Absent {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreported => "unreported",
            Self::Torn => "torn",
            Self::OtherAllocation => "other-allocation",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::Nobody => "nobody",
        }
    }
}

/// What is to be done about windows that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Windows up to this one are too old: they are left out.
    Skip(i64),
    /// This window can be decided about when all have reported; without waiting for them where `late`.
    Window {
        /// The window.
        window: i64,
        /// Whether who has not reported has missed it.
        late: bool,
    },
}

/// How long after a window's late findings its reports are waited for. With a burn-in of a sixth it is over before half of the next window is, when probabilities
/// are published.
fn grace(spec: &ExperimentSpec) -> Span {
    spec.window / 4
}

/// How long before a window begins an instance says that it will be there.
pub fn ahead(spec: &ExperimentSpec) -> Span {
    (spec.window / 4).min(Span::from_secs(60))
}

/// The windows in which an instance may serve now, or soon.
pub fn attends(spec: &ExperimentSpec, now: Time) -> [i64; 2] {
    [spec.window_at(now), spec.window_at(now + ahead(spec))]
}

/// The next window to decide about, when those up to `closed` are.
pub fn due(spec: &ExperimentSpec, closed: i64, now: Time) -> Due {
    let running = spec.window_at(now);
    if closed < running.saturating_sub(KEPT_WINDOWS + 1) {
        return Due::Skip(running.saturating_sub(KEPT_WINDOWS + 1));
    }
    let window = closed.saturating_add(1);
    let over = spec.begins(window.saturating_add(1)) + spec.burn_in;
    if window >= running || now < over {
        return Due::Nothing;
    }
    Due::Window { window, late: now >= over + grace(spec) }
}

/// What parts of a window are judged by.
#[derive(Debug)]
pub struct Folding<'a> {
    /// The experiment.
    pub spec: &'a ExperimentSpec,
    /// As it was published.
    pub published: &'a Published,
    /// The source of draws.
    pub draw: &'a Draw,
}

impl Folding<'_> {
    /// The experiment as it assigned in a window, before anything was switched off in it.
    fn as_of(&self, window: i64) -> Result<Option<Experiment>, SpecError> {
        let before = |variant: usize| self.published.off_since(variant).is_some_and(|since| since < window);
        let off = self.published.life.off.iter().filter(|off| before(off.variant)).copied().collect();
        Life { off, ..self.published.life.clone() }.snapshot(self.spec)
    }

    fn was_switched_off(&self, variant: usize, window: i64) -> bool {
        self.published.off_since(variant).is_some_and(|since| since >= window)
    }
}

/// The parts of all that were there in a window, by instance: what it adds up to, or why it is left out as a whole, and for whom.
///
/// Units are drawn here once more: each part must have the variants that the published allocation gives, so that whoever assigned by another one (it had not
/// heard, it has another seed) is found out. Units of a variant that was switched off in this window are left out, whether they were asked before that or after:
/// instances hear of it at different moments, and what is left is drawn as published.
///
/// # Errors
/// Why the window is absent.
pub fn fold(what: &Folding<'_>, window: i64, parts: &[(Arc<str>, Option<Part>)]) -> Result<WholeWindow, (Absent, Option<Arc<str>>)> {
    let of = |why, instance: &Arc<str>| (why, Some(instance.clone()));
    let mut units: BTreeMap<KeyHash, (Sum, Assigned)> = BTreeMap::new();
    let (mut counts, mut mixed) = (Counts::default(), std::collections::BTreeSet::new());
    let Ok(Some(experiment)) = what.as_of(window) else { return Err((Absent::Torn, None)) };
    let begins = what.spec.begins(window);
    for (instance, part) in parts {
        let part = part.as_ref().ok_or_else(|| of(Absent::Unreported, instance))?;
        if part.window != window {
            return Err(of(Absent::Unreadable, instance));
        }
        if !part.whole {
            return Err(of(Absent::Torn, instance));
        }
        counts.add(&part.counts);
        for sum in &part.sums {
            let assigned = experiment.assign(what.draw, sum.unit, begins);
            if !assigned.in_slice || !experiment.holds(what.draw, sum.unit, begins) {
                return Err(of(Absent::OtherAllocation, instance));
            }
            if what.was_switched_off(assigned.variant, window) {
                mixed.insert(sum.unit);
                continue;
            }
            if sum.mixed || sum.variant != assigned.variant {
                return Err(of(Absent::OtherAllocation, instance));
            }
            units.entry(sum.unit).and_modify(|(whole, _)| whole.add(sum)).or_insert((*sum, assigned));
        }
    }
    Ok(WholeWindow { window, units: units.into_values().collect(), mixed: mixed.len() as u64, counts })
}
