//! `advise`: what a log says that Farthing could save, and the configuration that does it.
//!
//! The log is cut by time. On the first part each way of saving is tried on each route by replay through the proxy's own decisions
//! ([`field`]), and the best setting within a staleness budget is chosen; what it saves is counted on the rest, starting from an empty
//! proxy, with a bootstrap interval ([`interval`]). What is advised is exactly what was counted.

pub mod bundle;
pub mod facts;
pub mod field;
pub mod interval;
mod text;
mod toml;
mod ways;

use farthing_config::HoldoutConfig;
use farthing_policy::Levels;
use serde::Serialize;

use crate::error::TrainError;
use crate::read::Observed;
use bundle::Published;
use facts::Facts;
use field::{Field, Nature, Part, RouteRun};
use interval::{GROUPS, Saving, saving};
pub use toml::{Base, settings_of};
use ways::{Choice, Tried, Way};

/// Budgets that are shown beside the one that is asked for.
const BUDGETS: [f64; 3] = [0.0, 0.001, 0.01];
/// Requests below which nothing can be said.
const FEWEST: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Largest share of stale answers of what is advised.
    pub stale: f64,
    /// Share of the time on which settings are chosen.
    pub train_share: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { stale: 0.005, train_share: 0.6, seed: 1 }
    }
}

/// One way of saving on one route, within one budget.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The way.
    pub way: Way,
    /// Largest share of stale answers.
    pub stale_budget: f64,
    /// What was chosen, as the configuration says it; none when nothing is within the budget.
    pub setting: Option<String>,
    /// What it saves on the held-out part.
    pub saving: Saving,
    /// Stale answers there, over all answers.
    pub stale_share: f64,
}

/// What any TTL would save in calls where it is not known when answers change.
#[derive(Clone, Debug, Serialize)]
pub struct Potential {
    /// TTL, seconds.
    pub ttl_s: u64,
    /// Share of the spend.
    pub saving: f64,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteAdvice {
    /// What the log says of it.
    pub facts: Facts,
    /// What each way saves within each budget.
    pub lines: Vec<Line>,
    /// What is advised: `mode` and, in mode `learned`, who chooses the TTL.
    pub advised: String,
    /// What that saves.
    pub saving: Saving,
    /// Where it is not known when answers change: what TTLs would save.
    pub potential: Vec<Potential>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    /// Files read.
    pub files: usize,
    /// Requests read.
    pub requests: usize,
    /// Older requests left out.
    pub left_out: u64,
    /// First and last request, ns.
    pub from_ns: i64,
    /// See `from_ns`.
    pub to_ns: i64,
    /// Where the log was cut, ns.
    pub cut_ns: i64,
    /// Budget of what is advised.
    pub stale_budget: f64,
    /// By route, the dearest first.
    pub routes: Vec<RouteAdvice>,
    /// What the priced requests of the held-out part would have cost, nano-dollars.
    pub base_nanousd: i64,
    /// What they cost under the advice, held-out keys included, nano-dollars.
    pub bill_nanousd: i64,
    /// Saving in money over the priced routes, the holdout taken off.
    pub saving: Saving,
    /// Saving in calls over all routes, the holdout taken off.
    pub calls_saving: Saving,
    /// Saving in calls over the routes without a price, the holdout taken off.
    pub unpriced_saving: Saving,
    /// Stale answers over all answers.
    pub stale_share: f64,
    /// Routes without a price.
    pub unpriced: Vec<String>,
    /// The configuration.
    pub toml: String,
    /// All of it in a sentence.
    pub sentence: String,
}

/// Advises.
///
/// # Errors
/// When the log is too short to say anything, or the base configuration cannot be used.
pub fn advise(observed: &Observed, table: Option<&Published>, base: &Base, options: Options) -> Result<Advice, TrainError> {
    let (Some(first), Some(last)) = (observed.asks.first(), observed.asks.last()) else {
        return Err(TrainError::TooLittle("the log holds no requests".to_owned()));
    };
    if observed.asks.len() < FEWEST || last.at_ns == first.at_ns {
        let what = format!(
            "{} requests within {:.1} s; advice needs at least {FEWEST} over some time",
            observed.asks.len(),
            (last.at_ns - first.at_ns) as f64 / 1e9
        );
        return Err(TrainError::TooLittle(what));
    }
    let field = Field::of(observed);
    let cut_ns = first.at_ns + ((last.at_ns - first.at_ns) as f64 * options.train_share) as i64;
    let cut = field.at(cut_ns);
    let train = Part { from: (0, 0), to: cut.0, times: (i64::MIN, cut_ns) };
    let rest = Part { from: cut, to: field.trace.events.len(), times: (cut_ns, i64::MAX) };
    let mut budgets: Vec<f64> = BUDGETS.into_iter().chain([options.stale]).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    let tried = Tried::new(&field, train, table, &budgets);
    let work = Work { field: &field, rest, tried: &tried, table, seed: options.seed };
    let mut chosen = tried.advised(options.stale);
    let mut run = work.run(&chosen, options.stale);
    let mut advice = Advice {
        files: observed.files,
        requests: observed.asks.len(),
        left_out: observed.left_out,
        from_ns: first.at_ns,
        to_ns: last.at_ns,
        cut_ns,
        stale_budget: options.stale,
        routes: Vec::new(),
        base_nanousd: 0,
        bill_nanousd: 0,
        saving: Saving::default(),
        calls_saving: Saving::default(),
        unpriced_saving: Saving::default(),
        stale_share: 0.0,
        unpriced: Vec::new(),
        toml: String::new(),
        sentence: String::new(),
    };
    work.total(&mut advice, &run);
    let (money, calls) = (advice.saving.is_worth(), advice.unpriced_saving.is_worth());
    if !(money && calls) {
        // A saving that is none is worth no change, not even on the route where most of it is. Money and calls are not added up: what
        // one of them is worth says nothing of the other.
        let idle = |nature: &Nature| if nature.price.is_some() { !money } else { !calls };
        chosen.iter_mut().zip(&field.natures).filter(|(_, nature)| idle(nature)).for_each(|(choice, _)| *choice = Choice::observe());
        run = work.run(&chosen, options.stale);
        work.total(&mut advice, &run);
    }
    advice.toml = toml::render(observed, &chosen, base, options.stale)?;
    let mut routes = work.routes(facts::facts(observed, &field.natures), &budgets, (&chosen, &run));
    advice.unpriced = routes.iter().filter(|r| r.facts.spend_nanousd.is_none()).map(|r| r.facts.route.clone()).collect();
    routes.sort_by_key(|r| std::cmp::Reverse((r.facts.spend_nanousd, r.facts.requests)));
    advice.routes = routes;
    advice.sentence = text::sentence(&advice);
    Ok(advice)
}

struct Work<'a> {
    field: &'a Field,
    rest: Part,
    tried: &'a Tried<'a>,
    table: Option<&'a Published>,
    seed: u64,
}

impl Work<'_> {
    fn run(&self, choices: &[Choice], budget: f64) -> Vec<RouteRun> {
        let none = Levels::default();
        let settings: Vec<_> = choices.iter().map(|c| c.setting).collect();
        self.field.play(self.rest, &settings, self.table.map_or(&none, |t| &t.levels), budget)
    }

    fn routes(&self, facts: Vec<Facts>, budgets: &[f64], (chosen, run): (&[Choice], &[RouteRun])) -> Vec<RouteAdvice> {
        let mut lines: Vec<Vec<Line>> = facts.iter().map(|_| Vec::new()).collect();
        for way in Way::ALL {
            for budget in way.budgets(budgets) {
                let choices = self.tried.within(*way, *budget);
                // The best of nothing but what was told before is not told again.
                let new = |c: &Option<Choice>| c.as_ref().is_some_and(|c| *way != Way::Best || c.setting.ttl.is_some());
                if !choices.iter().any(new) {
                    continue;
                }
                let filled: Vec<Choice> = choices.iter().map(|c| c.clone().unwrap_or_else(Choice::observe)).collect();
                let runs = self.run(&filled, *budget);
                for ((choice, run), into) in choices.iter().zip(&runs).zip(&mut lines) {
                    let setting = choice.as_ref().map(|c| c.name.clone());
                    into.push(Line {
                        way: *way,
                        stale_budget: *budget,
                        setting,
                        saving: saving(&run.groups, self.seed),
                        stale_share: run.stale_share(),
                    });
                }
            }
        }
        let potential = self.potential();
        let each = facts.into_iter().zip(lines).zip(chosen.iter().zip(run)).enumerate();
        each.map(|(route, ((facts, lines), (choice, run)))| RouteAdvice {
            potential: if facts.known {
                Vec::new()
            } else {
                potential
                    .iter()
                    .map(|(ttl_s, runs)| Potential { ttl_s: *ttl_s, saving: runs.get(route).map_or(0.0, RouteRun::saving) })
                    .collect()
            },
            facts,
            lines,
            advised: choice.name.clone(),
            saving: saving(&run.groups, self.seed),
        })
        .collect()
    }

    /// What TTLs would save whatever the staleness; only asked where that is not known.
    fn potential(&self) -> Vec<(u64, Vec<RouteRun>)> {
        if self.field.natures.iter().all(|n| n.known) {
            return Vec::new();
        }
        let of = |ttl_s: u64| {
            let choices: Vec<Choice> = self.field.natures.iter().map(|_| ways::fixed(farthing_types::Span::from_secs(ttl_s))).collect();
            (ttl_s, self.run(&choices, 1.0))
        };
        [10, 60, 300, 3_600].into_iter().map(of).collect()
    }

    /// Sums over the routes; a part of the keys is held out to prove the saving, which costs its share of it.
    fn total(&self, advice: &mut Advice, runs: &[RouteRun]) {
        let kept = 1.0 - HoldoutConfig::default().share;
        let less = |s: Saving| Saving { share: s.share * kept, low: s.low * kept, high: s.high * kept };
        let nothing = || vec![(0i64, 0i64); GROUPS];
        let (mut money, mut calls, mut unpriced) = (nothing(), nothing(), nothing());
        let add = |sums: &mut Vec<(i64, i64)>, groups: &[(i64, i64)]| {
            sums.iter_mut().zip(groups).for_each(|(sum, (a, b))| *sum = (sum.0.saturating_add(*a), sum.1.saturating_add(*b)));
        };
        let (mut stale, mut requests) = (0, 0);
        for (run, nature) in runs.iter().zip(&self.field.natures) {
            (stale, requests) = (stale + run.stale, requests + run.requests);
            add(&mut calls, &run.counts);
            if nature.price.is_some() {
                add(&mut money, &run.groups);
            } else {
                add(&mut unpriced, &run.counts);
            }
        }
        let sum = |of: fn(&(i64, i64)) -> i64| money.iter().map(of).fold(0i64, i64::saturating_add);
        advice.base_nanousd = sum(|g| g.0);
        let saved = advice.base_nanousd - sum(|g| g.1);
        advice.bill_nanousd = advice.base_nanousd - (saved as f64 * kept).round() as i64;
        advice.saving = less(saving(&money, self.seed));
        advice.calls_saving = less(saving(&calls, self.seed));
        advice.unpriced_saving = less(saving(&unpriced, self.seed));
        advice.stale_share = stale as f64 / requests.max(1) as f64;
    }
}

impl Advice {
    /// Whether there is anything to save, in money or, on routes without a price, in calls.
    pub fn pays(&self) -> bool {
        self.saving.is_worth() || self.unpriced_saving.is_worth()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        text::text(self)
    }
}
