//! Evidence for kind `ttl`: replays of held-out reads.

use std::sync::Arc;

use farthing_contract::features::{HeadFacts, KeyStats, RouteStats, TTL_OUTPUTS, TtlInput, ttl_features};
use farthing_policy::ttl::Survival;
use farthing_policy::{Levels, Predictor, TtlParams, TtlSource};
use farthing_replay::{BlockOutcome, Decided, Engine, Event, EventKind, FixedCurves, LiveStatistics, Outcome, PassThroughAll, Trace};
use farthing_types::{Money, Span, Time};

use super::{Amount, Block, CalibrationBin, Champion, Evidence, Judgement, Opponent, Rival, Setting, Size, judge};
use crate::card::Curve;
use crate::evaluate::Comparison;
use crate::predictor::Trees;
use crate::trees::Ensemble;

/// Bisections when a competitor is tuned: its setting to 1 %.
const TUNING: usize = 10;
/// Price ratios between which predictors are tuned.
const KAPPAS: (f64, f64) = (1e-4, 10.0);
/// Base TTLs between which the rule is tuned, seconds.
const BASES: (f64, f64) = (1.0, 86_400.0);
/// Inputs kept for timing.
const SAMPLES: usize = 64;

/// What is judged, and under which operating point.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// It as the only predictor.
    pub levels: &'a Levels,
    /// Price of a call over the price of a stale answer.
    pub kappa: f64,
    /// Largest share of stale answers, to which each route is steered.
    pub stale_budget: f64,
}

/// Settings of competitors that have been tuned to the candidate's stale share already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuned {
    /// The rule's base TTL, seconds.
    pub rule_base_s: Option<f64>,
    /// The price ratio of the live statistics.
    pub live_kappa: Option<f64>,
}

/// The competitors.
pub struct Rivals<'a> {
    /// The present champion, or why there is none.
    pub champion: Result<&'a Champion, &'a str>,
    /// What is known of rules and live statistics; `None` leaves them out.
    pub tuned: Option<Tuned>,
}

/// Judges an ensemble at the operating point of a comparison on the same events, whose competitors are tuned already.
pub fn judge_model(
    at: (&Trace, usize),
    model: &Ensemble,
    comparison: &Comparison,
    (champion, seed): (Result<&Champion, &str>, u64),
) -> Judgement {
    let levels = Trees::levels(model);
    let kappa = comparison.model.setting.unwrap_or(KAPPAS.0);
    let candidate = Candidate { levels: &levels, kappa, stale_budget: comparison.stale_budget };
    let tuned = Tuned { rule_base_s: comparison.rule.setting, live_kappa: comparison.live.setting };
    let (mut evidence, samples) = evidence(at, &candidate, &Rivals { champion, tuned: Some(tuned) });
    if !samples.is_empty() {
        evidence.size = Size::of(model, |n, row| samples[n % samples.len()].features(row));
    }
    judge(&evidence, &Setting { seed, ..Setting::default() })
}

/// Factors between the settings of a curve's points, around the one in force.
const CURVE: [f64; 7] = [0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Bills against stale shares on everything from event `cut` on: the model and the rule at settings around theirs, and the best fixed TTLs that
/// hindsight finds at the model's stale shares.
pub fn curves((trace, cut): (&Trace, usize), model: &Ensemble, comparison: &Comparison) -> Vec<Curve> {
    let field = Field::new(trace, cut);
    let levels = Trees::levels(model);
    let (kappa, base) = (comparison.model.setting.unwrap_or(KAPPAS.0), comparison.rule.setting.unwrap_or(60.0));
    let of = |outcome: &Outcome| (outcome.total().stale_share(), outcome.total().bill_share());
    let model: Vec<_> = CURVE.iter().map(|f| of(&field.unsteered(&levels, (kappa * f).min(KAPPAS.1)).0)).collect();
    let rule: Vec<_> = CURVE.iter().map(|f| of(&field.rule((base * f).clamp(BASES.0, BASES.1)).0)).collect();
    let fixed = FixedCurves::of(trace, field.events);
    let requests = field.events.iter().filter(|e| e.kind == EventKind::Read).count() as f64;
    let shares = || model.iter().map(|p| p.0);
    let global: Vec<_> = shares().map(|share| of(&fixed.best_global(share).outcome)).collect();
    let per_route: Vec<_> = shares().map(|share| of(&fixed.best_per_route((share * requests) as u64).outcome)).collect();
    let named = [("model", model), ("rules", rule), ("best fixed TTL", global), ("best fixed TTL per route", per_route)];
    named.into_iter().map(|(name, points)| Curve { name: name.to_owned(), points }).collect()
}

/// Predicted and observed changes by the next read on everything from event `cut` on.
pub fn calibration((trace, cut): (&Trace, usize), levels: &Levels) -> Vec<CalibrationBin> {
    Field::new(trace, cut).calibration(levels).0
}

/// The pairs behind [`calibration`]: at each read the predicted probability of a change by the key's next read, and whether it came.
pub fn foretold((trace, cut): (&Trace, usize), levels: &Levels) -> Vec<(f64, bool)> {
    Field::new(trace, cut).foretold(levels).0
}

/// Replays the candidate and its competitors on everything from event `cut` on. `size` is left for the caller.
pub fn evidence((trace, cut): (&Trace, usize), candidate: &Candidate<'_>, rivals: &Rivals<'_>) -> (Evidence, Vec<Sample>) {
    let field = Field::new(trace, cut);
    let played = field.steered(candidate.levels, candidate.kappa, candidate.stale_budget);
    let share = played.0.total().stale_share();
    let mut found = Vec::new();
    if let Ok(champion) = rivals.champion {
        found.push(field.champion(champion, field.tuned(&champion.levels, share, candidate.stale_budget)));
    }
    if let Some(known) = rivals.tuned {
        found.extend(field.rules_and_live(share, known));
    }
    let (calibration, samples) = field.calibration(candidate.levels);
    let mut evidence = field.evidence((candidate.kappa, played), found);
    evidence.calibration = Some(calibration);
    evidence.no_champion = rivals.champion.err().unwrap_or_default().to_owned();
    (evidence, samples)
}

/// Two predictors as equals: each is steered to the budget from its own operating point (`kappas`), then both are tuned in hindsight
/// to at most the smaller of the two stale shares. Tuning one alone would find it better than itself.
pub fn duel((trace, cut): (&Trace, usize), (a, b): (&Champion, &Champion), kappas: [f64; 2], budget: f64) -> Evidence {
    let field = Field::new(trace, cut);
    let share = |(side, kappa): (&Champion, f64)| field.steered(&side.levels, kappa, budget).0.total().stale_share();
    let share = share((a, kappas[0])).min(share((b, kappas[1])));
    let theirs = field.champion(b, field.tuned(&b.levels, share, budget));
    field.evidence(field.tuned(&a.levels, share, budget), vec![theirs])
}

/// The price of a stale answer at an operating point.
fn exchange(price: Money, kappa: f64) -> Money {
    Money::from_nanos((price.nanos() as f64 / kappa.max(1e-6)) as i64)
}

fn block(outcome: &BlockOutcome) -> Block {
    Block { key: u64::from(outcome.key), route: u32::from(outcome.route), day: outcome.day }
}

fn amount(outcome: &BlockOutcome) -> Amount {
    Amount { requests: outcome.requests, money: outcome.bill, stale: outcome.stale }
}

type Played = (Outcome, Vec<BlockOutcome>);

/// What is replayed, from which state.
struct Field<'a> {
    trace: &'a Trace,
    events: &'a [Event],
    start: Engine,
}

impl<'a> Field<'a> {
    /// From event `cut` on; statistics are those of a proxy that passed everything before through, the cache is empty.
    fn new(trace: &'a Trace, cut: usize) -> Self {
        let (before, events) = trace.events.split_at(cut.min(trace.events.len()));
        let mut start = Engine::new(trace);
        start.run(trace, before, &mut PassThroughAll);
        start.drop_copies();
        Self { trace, events, start }
    }

    fn play(&self, mut engine: Engine, levels: &Levels, params: TtlParams) -> Played {
        let mut chooser = Decided::new(levels, vec![params; self.trace.routes.len()]);
        engine.run_blocks(self.trace, self.events, &mut chooser)
    }

    /// As the proxy runs it: the operating point, moved by each route's measured staleness.
    fn steered(&self, levels: &Levels, kappa: f64, budget: f64) -> Played {
        let mut engine = self.start.clone();
        engine.set_stale_budget(budget);
        self.play(engine, levels, TtlParams { kappa: Some(kappa), stale_budget: budget, ..TtlParams::default() })
    }

    /// Steered, its operating point tuned in hindsight to at most this stale share.
    fn tuned(&self, levels: &Levels, share: f64, budget: f64) -> (f64, Played) {
        tuned(share, KAPPAS, |kappa| self.steered(levels, kappa, budget))
    }

    fn champion(&self, champion: &Champion, played: (f64, Played)) -> Rival {
        self.rival(Opponent::Champion, &champion.name, played)
    }

    /// What was played against the rivals; calibration and size are left for the caller.
    fn evidence(&self, (kappa, (_, blocks)): (f64, Played), rivals: Vec<Rival>) -> Evidence {
        Evidence {
            routes: self.trace.routes.iter().map(|r| r.name.clone()).collect(),
            stale_prices: self.trace.routes.iter().map(|r| exchange(r.price, kappa)).collect(),
            blocks: blocks.iter().map(block).collect(),
            ours: blocks.iter().map(amount).collect(),
            rivals,
            no_champion: String::new(),
            calibration: None,
            size: Size::default(),
        }
    }

    fn unsteered(&self, levels: &Levels, kappa: f64) -> Played {
        self.play(self.start.clone(), levels, TtlParams { kappa: Some(kappa), steer: false, ..TtlParams::default() })
    }

    fn rule(&self, base_s: f64) -> Played {
        let base = Span::try_from_secs_f64(base_s).unwrap_or_default();
        self.play(self.start.clone(), &Levels::default(), TtlParams { source: TtlSource::Rule, base, ..TtlParams::default() })
    }

    fn rules_and_live(&self, share: f64, known: Tuned) -> [Rival; 2] {
        let rule = known.rule_base_s.map_or_else(|| tuned(share, BASES, |base| self.rule(base)), |base| (base, self.rule(base)));
        let zeros = Levels { model: None, table: Some(Arc::new(LiveStatistics)) };
        let play = |kappa| self.unsteered(&zeros, kappa);
        let live = known.live_kappa.map_or_else(|| tuned(share, KAPPAS, play), |kappa| (kappa, play(kappa)));
        [self.rival(Opponent::Rules, "base TTL", rule), self.rival(Opponent::Live, "kappa", live)]
    }

    fn rival(&self, opponent: Opponent, what: &str, (setting, played): (f64, Played)) -> Rival {
        Rival { opponent, setting: format!("{what} {setting:.4}"), amounts: played.1.iter().map(amount).collect() }
    }

    /// Predicted and observed changes by the next read, all reads passed through; and inputs of decisions to time.
    fn calibration(&self, levels: &Levels) -> (Vec<CalibrationBin>, Vec<Sample>) {
        let (pairs, samples) = self.foretold(levels);
        (CalibrationBin::deciles(pairs), samples)
    }

    fn foretold(&self, levels: &Levels) -> (Vec<(f64, bool)>, Vec<Sample>) {
        let Some(predictor) = levels.model.as_deref().or(levels.table.as_deref()) else { return (Vec::new(), Vec::new()) };
        let mut ahead = Ahead::of(self.trace, self.events);
        let (mut pairs, mut samples) = (Vec::new(), Vec::new());
        let every = (self.events.len() / SAMPLES).max(1);
        let mut chooser = |event: &Event, input: &TtlInput<'_>| {
            if let Some((gap, changed)) = ahead.next(event.key) {
                pairs.extend(probability(predictor, input, gap).map(|p| (p, changed)));
            }
            if samples.len() < SAMPLES && pairs.len() >= samples.len() * every {
                samples.push(Sample { key: *input.key, route: input.route.clone(), head: input.head, now: input.now });
            }
            Span::ZERO
        };
        self.start.clone().run(self.trace, self.events, &mut chooser);
        (pairs, samples)
    }
}

/// Probability that the next read, `gap` seconds on, finds a change, as the decision sees it; `None` when the predictor does not answer.
fn probability(predictor: &dyn Predictor, input: &TtlInput<'_>, gap: f64) -> Option<f64> {
    let mut outputs = [0.0; TTL_OUTPUTS];
    predictor.predict(&ttl_features(input), &mut outputs).ok()?;
    Some(Survival::corrected(input, &outputs).found_by_next(gap))
}

/// The lowest bill whose stale share is at most `share`, by bisection of the setting on a log scale.
fn tuned(share: f64, (mut low, mut high): (f64, f64), play: impl Fn(f64) -> Played) -> (f64, Played) {
    let mut best = (low, play(low));
    for _ in 0..TUNING {
        let middle = (low * high).sqrt();
        let tried = play(middle);
        let (this, so_far) = (tried.0.total(), best.1.0.total());
        if this.stale_share() > share {
            high = middle;
            continue;
        }
        low = middle;
        if this.bill <= so_far.bill || so_far.stale_share() > share {
            best = (middle, tried);
        }
    }
    best
}

/// For each key its reads to come: seconds since the one before, and whether the answer had changed in between.
struct Ahead(Vec<std::collections::VecDeque<(f64, bool)>>);

impl Ahead {
    fn of(trace: &Trace, events: &[Event]) -> Self {
        let mut reads = vec![std::collections::VecDeque::new(); trace.keys()];
        let mut last: Vec<Option<Time>> = vec![None; reads.len()];
        let mut changed = vec![false; reads.len()];
        for event in events {
            let key = event.key as usize;
            if event.kind == EventKind::Change {
                changed[key] = true;
                continue;
            }
            let always = trace.routes.get(usize::from(event.route)).is_some_and(|r| r.nondeterministic);
            if let Some(before) = last[key].replace(event.at) {
                reads[key].push_back((event.at.since(before).as_secs_f64(), changed[key] || always));
            }
            changed[key] = false;
        }
        Self(reads)
    }

    /// What the next read of the key will see; called once per read of it.
    fn next(&mut self, key: u32) -> Option<(f64, bool)> {
        self.0.get_mut(key as usize)?.pop_front()
    }
}

/// The input of one decision.
#[derive(Clone, Debug)]
pub struct Sample {
    key: KeyStats,
    route: RouteStats,
    head: HeadFacts,
    now: Time,
}

impl Sample {
    /// Its features, computed as the proxy does.
    pub fn features(&self, into: &mut [f32]) {
        let Self { key, route, head, now } = self;
        into.copy_from_slice(&ttl_features(&TtlInput { key, route, head: *head, now: *now }));
    }
}
