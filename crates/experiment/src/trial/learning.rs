//! What an experiment with contextual allocation learns from its closed windows, and the contexts of the next one.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_contract::features::{UNIT_FEATURES, UnitHabits, UnitSeen, unit_features};
use farthing_types::{KeyHash, Money, Span};
use serde::{Deserialize, Serialize};

use super::units::Open;
use super::{Row, Trial};
use crate::allocation::{Allocation, KEPT_ALLOCATIONS};
use crate::contextual::{
    Contexts, Contextual, Learner, MAX_CONTEXTS, Placed, Predicted, Scored, Spent, Units, day_of, later_today, leanings, mean_pmf,
};
use crate::report::{Learned, LearnedVariant};
use crate::spec::{ExperimentSpec, MAX_VARIANTS};

/// Inputs of the model: the features and a constant.
const DIMS: usize = UNIT_FEATURES + 1;

/// All that contextual allocation remembers; about 40 bytes for each unit of the record, and what [`MAX_CONTEXTS`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Learning {
    contextual: Contextual,
    window_length: Span,
    learner: Learner,
    /// The window that was learned from last.
    learned: Option<i64>,
    spent: Spent,
    #[serde(with = "kept")]
    habits: HashMap<KeyHash, UnitHabits>,
    /// The contexts by which units were drawn, the earliest first.
    #[serde(skip)]
    published: Vec<Arc<Contexts>>,
}

/// What the units of a window are, to be learned from.
pub(super) type Lesson = (KeyHash, Open, Row);

impl Learning {
    pub(super) fn new(spec: &ExperimentSpec, contextual: Contextual) -> Self {
        Self {
            contextual,
            window_length: spec.window,
            learner: Learner::new(spec.variants.len(), DIMS),
            learned: None,
            spent: Spent::default(),
            habits: HashMap::new(),
            published: Vec::new(),
        }
    }

    fn drawn_by(&self, window: i64) -> Option<&Arc<Contexts>> {
        self.published.iter().rev().find(|contexts| contexts.window() <= window)
    }

    /// Learns from a window that is over, in the order of its units.
    fn learn(&mut self, window: i64, lessons: &[Lesson], cap: f64) {
        let since = self.learned.map_or(1, |learned| window.saturating_sub(learned).max(1));
        self.learned = Some(window);
        if let Some(half_life) = self.contextual.half_life {
            self.learner.forget(0.5f64.powf(since as f64 * self.window_length.as_secs_f64() / half_life.as_secs_f64()));
        }
        let contexts = self.drawn_by(window).cloned();
        let mut lost = 0.0;
        for (unit, open, row) in lessons {
            let share = (row.usd / cap).clamp(0.0, 1.0);
            // A window before the first contexts, or whose contexts a restart has taken, teaches habits alone.
            if let Some(placed) = contexts.as_deref().map(|contexts| contexts.of(unit.short())) {
                self.learner.take(row.variant, &inputs(&placed.features), share);
                lost += f64::from(placed.loss) * cap;
            }
            self.habits.entry(*unit).or_default().take(&open.seen(share));
        }
        self.learner.fit();
        self.spent.count((window, self.window_length), lost);
    }

    /// What windows of the day of `window` are expected to lose that are not counted yet.
    fn planned(&self, window: i64) -> f64 {
        let day = |window: i64| day_of(window, self.window_length);
        let open = self.published.iter().filter(|c| self.learned.is_none_or(|learned| c.window() > learned) && c.window() < window);
        open.filter(|c| day(c.window()) == day(window)).map(|c| c.planned_usd()).sum()
    }

    /// The units that cost most, by their digests.
    fn costliest(&self) -> Vec<(KeyHash, UnitHabits)> {
        let mut all: Vec<(KeyHash, UnitHabits)> = self.habits.iter().map(|(unit, habits)| (*unit, *habits)).collect();
        all.sort_unstable_by(|a, b| b.1.cost().total_cmp(&a.1.cost()).then(a.0.cmp(&b.0)));
        all.truncate(MAX_CONTEXTS);
        all
    }
}

impl Open {
    fn seen(&self, cost: f64) -> UnitSeen {
        let share = |count: f64| count / f64::from(self.requests.max(1));
        UnitSeen {
            requests: self.requests,
            cost,
            stale: share(self.stale),
            late: share(f64::from(self.late)),
            errors: share(f64::from(self.errors)),
        }
    }
}

fn inputs(features: &[f32; UNIT_FEATURES]) -> [f64; DIMS] {
    std::array::from_fn(|i| if i == 0 { 1.0 } else { f64::from(features[i - 1]) })
}

/// A unit that is placed: what is known of it, and whether it was asked for in the window that was closed last.
struct Standing {
    unit: u64,
    features: [f32; UNIT_FEATURES],
    scored: Scored,
    active: bool,
}

impl Trial {
    /// Learns from the units of the window that is closed, where allocation goes by context.
    pub(super) fn learn_contexts(&mut self, lessons: &[Lesson]) {
        let (window, Some(cap)) = (self.window, self.cap) else { return };
        let Some(learning) = &mut self.learning else { return };
        learning.learn(window, lessons, cap);
        let units = &self.units;
        learning.habits.retain(|unit, _| units.contains_key(unit));
    }

    /// Knows from now on by which contexts units are drawn. Call it with each snapshot that is published.
    pub fn follow(&mut self, allocations: &[Allocation]) {
        let Some(learning) = &mut self.learning else { return };
        for contexts in allocations.iter().filter_map(|a| a.contexts.as_ref()) {
            learning.published.retain(|known| known.window() != contexts.0.window());
            learning.published.push(contexts.0.clone());
        }
        learning.published.sort_by_key(|contexts| contexts.window());
        let too_many = learning.published.len().saturating_sub(KEPT_ALLOCATIONS);
        learning.published.drain(..too_many);
    }

    /// The contexts of all units in `window`, which has not begun, by what is known of windows that are over. `None` where allocation goes by no context, or
    /// before a cap is known.
    pub fn contexts(&self, spec: &ExperimentSpec, window: i64, live: [bool; MAX_VARIANTS]) -> Option<Contexts> {
        let (learning, cap) = (self.learning.as_ref()?, self.cap?);
        let begins = spec.begins(window);
        let eligible = &live[..self.names.len()];
        let ready = learning.learner.gamma(eligible).is_some();
        let stands = |unit: u64, habits: Option<&UnitHabits>, active: bool| {
            let features = unit_features(habits, begins);
            Standing { unit, features, scored: learning.learner.score(&inputs(&features), eligible), active }
        };
        let asked = |unit: &KeyHash| self.units.get(unit).is_some_and(|known| known.last_window == self.windows);
        let all: Vec<Standing> =
            learning.costliest().iter().map(|(unit, habits)| stands(unit.short(), Some(habits), asked(unit))).collect();
        let share = learning.contextual.uniform;
        let losses = |appetite: f64| -> f64 {
            all.iter().filter(|s| ready && s.active).map(|s| s.scored.loss(&s.scored.mixed(share, appetite)) * cap).sum()
        };
        let appetite = learning.contextual.budget.filter(|_| ready).map_or(1.0, |budget| {
            let money = (budget.as_usd_f64(), learning.planned(window));
            let left = learning.spent.left((window, learning.window_length), money);
            // The uniform slice goes on whatever comes: its money is set aside for the rest of the day.
            let (least, most) = (losses(0.0), losses(1.0));
            let for_slice = least * (1.0 + later_today(window, learning.window_length));
            let (wanted, free) = (most - least, left - for_slice);
            if wanted <= free { 1.0 } else { (free / wanted).clamp(0.0, 1.0) }
        });
        let place = |s: &Standing| {
            let pmf = if ready { s.scored.mixed(share, appetite) } else { spec.declared()[..self.names.len()].to_vec() };
            let loss = if ready { s.scored.loss(&pmf) as f32 } else { 0.0 };
            Placed { features: s.features, pmf: std::array::from_fn(|v| pmf.get(v).map_or(0.0, |p| *p as f32)), loss }
        };
        let told: Vec<Predicted> = all.iter().filter(|s| ready && s.active).map(|s| (s.features, s.scored.costs.clone())).collect();
        let (units, fresh): (Units, Placed) = (all.iter().map(|s| (s.unit, place(s))).collect(), place(&stands(0, None, false)));
        Some(Contexts {
            window,
            pmf: mean_pmf(&units, &fresh),
            units,
            fresh,
            planned_usd: losses(appetite),
            appetite,
            leanings: leanings(&told, cap),
        })
    }

    /// What was learned so far.
    pub(super) fn learned(&self) -> Option<Learned> {
        let learning = self.learning.as_ref()?;
        let contexts = learning.published.last();
        let leaning = |v: usize| contexts.and_then(|c| c.leanings().iter().find(|l| l.variant == v)).cloned();
        let rows = learning.learner.rows();
        let mean = contexts.map(|c| c.pmf());
        let variant = |v: usize| LearnedVariant {
            name: self.names[v].clone(),
            rows: rows.get(v).copied().unwrap_or(0.0),
            probability: mean.map(|pmf| pmf[v]),
            leaning: leaning(v),
        };
        Some(Learned {
            variants: (0..self.names.len()).map(variant).collect(),
            contexts: contexts.map_or(0, |c| c.len()),
            deviation_usd: learning.learner.deviation().zip(self.cap).map(|(deviation, cap)| deviation * cap),
            explored_usd: learning.spent.total(),
            explored_today_usd: learning.spent.today(),
            budget_usd: learning.contextual.budget.map(Money::as_usd_f64),
            appetite: contexts.map(|c| c.appetite()),
        })
    }

    /// The features by which a unit was drawn in a window; `None` where allocation goes by no context, or they are not known any more.
    pub(super) fn features_of(&self, unit: KeyHash, window: i64) -> Option<[f32; UNIT_FEATURES]> {
        Some(self.learning.as_ref()?.drawn_by(window)?.of(unit.short()).features)
    }
}

/// What is known of units in a kept record, by their digests' halves.
mod kept {
    use super::{Deserialize, HashMap, KeyHash, UnitHabits};
    use serde::{Deserializer, Serializer};

    type Line = (u64, u64, UnitHabits);

    pub fn serialize<S: Serializer>(habits: &HashMap<KeyHash, UnitHabits>, to: S) -> Result<S::Ok, S::Error> {
        let mut lines: Vec<Line> = habits.iter().map(|(key, h)| ((key.0 >> 64) as u64, key.0 as u64, *h)).collect();
        lines.sort_unstable_by_key(|line| (line.0, line.1));
        to.collect_seq(lines)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HashMap<KeyHash, UnitHabits>, D::Error> {
        let lines = Vec::<Line>::deserialize(from)?;
        Ok(lines.into_iter().map(|(high, low, habits)| (KeyHash(u128::from(high) << 64 | u128::from(low)), habits)).collect())
    }
}
