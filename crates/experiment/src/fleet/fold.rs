//! Whether a window of a fleet is whole, and what it adds up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farthing_types::{Draw, KeyHash, Span, Time};
use serde::{Deserialize, Serialize};

use super::part::{Part, Sum};
use super::published::Published;
use crate::assign::{Assigned, Experiment};
use crate::life::Life;
use crate::spec::ExperimentSpec;
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

/// A window that is put together of the parts of all that were there in it, one after the other: what it adds up to, or why it is left out as a whole, and for whom.
///
/// Units are drawn here once more: each part must have the variants that the published allocation gives, so that whoever assigned by another one (it had not
/// heard, it has another seed) is found out. Units of a variant that was switched off in this window are left out, whether they were asked before that or after:
/// instances hear of it at different moments, and what is left is drawn as published among the other variants.
#[derive(Debug)]
pub struct Folding<'a> {
    spec: &'a ExperimentSpec,
    published: &'a Published,
    draw: &'a Draw,
    window: i64,
    /// As it assigned in the window, before anything was switched off in it.
    experiment: Experiment,
    units: BTreeMap<KeyHash, (Sum, Assigned)>,
    mixed: BTreeSet<KeyHash>,
    counts: Counts,
}

/// Why a window is absent, and for which instance.
pub type LeftOut = (Absent, Option<Arc<str>>);

impl<'a> Folding<'a> {
    /// Nothing yet of a window, under what was published.
    ///
    /// # Errors
    /// Nothing was to be measured in it.
    pub fn new(spec: &'a ExperimentSpec, published: &'a Published, (draw, window): (&'a Draw, i64)) -> Result<Self, LeftOut> {
        let before = |variant: usize| published.off_since(variant).is_some_and(|since| since < window);
        let off = published.life.off.iter().filter(|off| before(off.variant)).copied().collect();
        let Ok(Some(experiment)) = (Life { off, ..published.life.clone() }).snapshot(spec) else { return Err((Absent::Torn, None)) };
        let (units, mixed, counts) = (BTreeMap::new(), BTreeSet::new(), Counts::default());
        Ok(Self { spec, published, draw, window, experiment, units, mixed, counts })
    }

    /// Adds an instance's part; `None` where it has not reported. Units beyond what an experiment follows are left out, whatever their variant.
    ///
    /// # Errors
    /// Why the window is absent.
    pub fn add(&mut self, instance: &Arc<str>, part: Option<&Part>) -> Result<(), LeftOut> {
        let of = |why| (why, Some(instance.clone()));
        let part = part.ok_or_else(|| of(Absent::Unreported))?;
        if part.window != self.window {
            return Err(of(Absent::Unreadable));
        }
        if !part.whole {
            return Err(of(Absent::Torn));
        }
        self.counts.add(&part.counts);
        let begins = self.spec.begins(self.window);
        for sum in &part.sums {
            let assigned = self.experiment.assign(self.draw, sum.unit, begins);
            if !assigned.in_slice || !self.experiment.holds(self.draw, sum.unit, begins) {
                return Err(of(Absent::OtherAllocation));
            }
            if self.is_gone(assigned.variant) {
                self.mixed.insert(sum.unit);
                continue;
            }
            if sum.mixed || sum.variant != assigned.variant {
                return Err(of(Absent::OtherAllocation));
            }
            if let Some((whole, _)) = self.units.get_mut(&sum.unit) {
                whole.add(sum);
            } else if self.units.len() < self.spec.max_units {
                self.units.insert(sum.unit, (*sum, assigned));
            } else {
                self.counts.overflow += sum.observations();
            }
        }
        Ok(())
    }

    /// Whether a variant was switched off in this window, or later: then its units of this window are left out.
    fn is_gone(&self, variant: usize) -> bool {
        self.published.off_since(variant).is_some_and(|since| since >= self.window)
    }

    /// What it adds up to.
    pub fn whole(self) -> WholeWindow {
        let gone = std::array::from_fn(|variant| self.is_gone(variant));
        let (units, mixed) = (self.units.into_values().collect(), self.mixed.len() as u64);
        WholeWindow { window: self.window, units, gone, mixed, counts: self.counts }
    }
}
