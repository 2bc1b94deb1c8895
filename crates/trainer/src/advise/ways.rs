//! Ways of saving, and the best setting of each on a route within a budget, as the first part of the log shows it.

use farthing_policy::{Levels, TtlParams, TtlSource};
use farthing_types::Span;
use serde::Serialize;

use super::bundle::Published;
use super::field::{Field, Part, RouteRun, Setting};

/// A way of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Concurrent identical requests share a call.
    Dedupe,
    /// That, and the lifetimes that the origin gives.
    Respect,
    /// One TTL per route.
    Fixed,
    /// The rule: a base TTL times a factor by what was seen of the key.
    Rule,
    /// The survival table of the published bundle with live statistics.
    Table,
    /// The best of all.
    Best,
}

impl Way {
    /// All ways, in the order in which they are told.
    pub const ALL: &'static [Self] = &[Self::Dedupe, Self::Respect, Self::Fixed, Self::Rule, Self::Table, Self::Best];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dedupe => "dedupe",
            Self::Respect => "what the origin allows",
            Self::Fixed => "fixed TTL",
            Self::Rule => "rule",
            Self::Table => "shipped table",
            Self::Best => "best of these",
        }
    }

    /// The budgets under which it differs.
    pub fn budgets(self, all: &[f64]) -> &[f64] {
        match self {
            Self::Dedupe | Self::Respect => all.get(..1).unwrap_or_default(),
            _ => all,
        }
    }
}

/// A setting of a route and its name in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The way it belongs to.
    pub way: Way,
    /// The setting.
    pub setting: Setting,
    /// `fixed:300s`, `rule, base 60s`, `respect` ...
    pub name: String,
}

impl Choice {
    /// Nothing is changed.
    pub fn observe() -> Self {
        Self { way: Way::Dedupe, setting: Setting::OBSERVE, name: "observe".to_owned() }
    }
}

/// TTLs that are tried, seconds.
const TTLS: [u64; 21] =
    [1, 5, 15, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400];
/// Base TTLs of the rule that are tried, seconds.
const BASES: [u64; 6] = [15, 60, 300, 1_200, 3_600, 14_400];
/// Share of a budget that may be used on the first part: what follows is not what was.
const MARGIN: f64 = 0.8;
/// How much more a later candidate must save to be preferred to an earlier, simpler one.
const BETTER: f64 = 0.002;

/// A time as the configuration writes it.
pub fn seconds(s: u64) -> String {
    match s {
        _ if s > 0 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        _ if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        _ => format!("{s}s"),
    }
}

/// A fixed TTL.
pub fn fixed(ttl: Span) -> Choice {
    let setting = Setting::with(TtlSource::Fixed(ttl), TtlParams { max: ttl.max(TtlParams::default().max), ..TtlParams::default() });
    Choice { way: Way::Fixed, setting, name: format!("fixed:{}", seconds(ttl.as_secs())) }
}

fn rule(base_s: u64) -> Choice {
    let params = TtlParams { base: Span::from_secs(base_s), ..TtlParams::default() };
    Choice { way: Way::Rule, setting: Setting::with(TtlSource::Rule, params), name: format!("rule, base {}", seconds(base_s)) }
}

fn table(published: &Published, budget: f64) -> Choice {
    let params = TtlParams { kappa: published.manifest.kappa(budget), stale_budget: budget, ..TtlParams::default() };
    Choice { way: Way::Table, setting: Setting::with(TtlSource::Table, params), name: format!("table, budget {budget}") }
}

/// What a candidate came to on the first part, by route.
struct Trial {
    choice: Choice,
    /// The budget it was made for; none fits all.
    budget: Option<f64>,
    /// Saving, stale answers, requests by route.
    routes: Vec<(f64, u64, u64)>,
}

/// All candidates tried on the first part.
pub struct Tried<'a> {
    field: &'a Field,
    trials: Vec<Trial>,
}

impl<'a> Tried<'a> {
    /// Tries everything.
    pub fn new(field: &'a Field, train: Part, published: Option<&Published>, budgets: &[f64]) -> Self {
        let none = Levels::default();
        let levels = published.map_or(&none, |p| &p.levels);
        let plain = |way, setting, name: &str| (Choice { way, setting, name: name.to_owned() }, None);
        let mut candidates = vec![plain(Way::Dedupe, Setting::DEDUPE, "dedupe"), plain(Way::Respect, Setting::RESPECT, "respect")];
        // Without knowing when answers change no TTL can be advised, so none is tried.
        let judged = field.natures.iter().any(|n| n.known && !n.nondeterministic);
        let (ttls, bases, published) = if judged { (&TTLS[..], &BASES[..], published) } else { (&[][..], &[][..], None) };
        candidates.extend(ttls.iter().map(|s| (fixed(Span::from_secs(*s)), None)));
        candidates.extend(bases.iter().map(|s| (rule(*s), None)));
        candidates.extend(published.iter().flat_map(|p| budgets.iter().filter(|b| **b > 0.0).map(|b| (table(p, *b), Some(*b)))));
        let figures = |run: &RouteRun| (run.saving(), run.stale, run.requests);
        let trial = |(choice, budget): (Choice, Option<f64>)| {
            let settings = vec![choice.setting; field.trace.routes.len()];
            let runs = field.play(train, &settings, levels, budget.unwrap_or(1.0));
            Trial { routes: runs.iter().map(figures).collect(), choice, budget }
        };
        Self { field, trials: candidates.into_iter().map(trial).collect() }
    }

    /// The best setting of a way on each route within a budget; none where there is none.
    pub fn within(&self, way: Way, budget: f64) -> Vec<Option<Choice>> {
        (0..self.field.trace.routes.len()).map(|route| self.best(route, budget, |c| way == Way::Best || c.way == way)).collect()
    }

    /// What is advised: the best of all where it saves anything, else nothing is changed.
    pub fn advised(&self, budget: f64) -> Vec<Choice> {
        let each = |route| self.best(route, budget, |c| c.way != Way::Dedupe).filter(|c| self.saving(route, c) > BETTER);
        (0..self.field.trace.routes.len()).map(|route| each(route).unwrap_or_else(Choice::observe)).collect()
    }

    fn saving(&self, route: usize, choice: &Choice) -> f64 {
        self.trials.iter().find(|t| t.choice == *choice).and_then(|t| t.routes.get(route)).map_or(0.0, |r| r.0)
    }

    fn best(&self, route: usize, budget: f64, of: impl Fn(&Choice) -> bool) -> Option<Choice> {
        let mut best: Option<(f64, &Trial)> = None;
        for trial in self.trials.iter().filter(|t| of(&t.choice) && t.budget.is_none_or(|b| b == budget)) {
            let Some((saving, stale, requests)) = trial.routes.get(route).copied() else { continue };
            if !self.allowed(route, trial, budget, (stale, requests)) {
                continue;
            }
            if best.is_none_or(|(most, _)| saving > most + BETTER) {
                best = Some((saving, trial));
            }
        }
        best.map(|(_, trial)| trial.choice.clone())
    }

    /// Whether a candidate keeps a budget on a route. One stale answer more than was seen is assumed, so that a few requests
    /// without any prove nothing; for a budget of zero none may have been seen.
    fn allowed(&self, route: usize, trial: &Trial, budget: f64, (stale, requests): (u64, u64)) -> bool {
        // Two askers want two samples: not even a call under way is shared.
        if self.field.natures.get(route).is_some_and(|n| n.nondeterministic) {
            return false;
        }
        if trial.choice.setting.ttl.is_none() {
            return true;
        }
        let judged = self.field.natures.get(route).is_some_and(|n| n.known && !n.nondeterministic);
        let assumed = (stale + 1) as f64 / (requests + 1) as f64;
        judged && if budget == 0.0 { stale == 0 } else { assumed <= MARGIN * budget }
    }
}
