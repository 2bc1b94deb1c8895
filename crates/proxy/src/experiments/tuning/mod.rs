//! Numbers of plans that move by experiments of the proxy's own (docs/experiments.md): one on a route at a time, each between its bounds. What is tried
//! next, and what a verdict leads to, is pure ([`farthing_experiment::tuning`]); here is who begins and ends those experiments, and what is kept.
//!
//! What is kept of a route names an experiment before there is a file of it, so a start always finds what was under way; the value in force is written
//! after the experiment was decided for it, and found out again where that did not come about.

mod turn;

use std::collections::VecDeque;
use std::sync::Arc;

use farthing_config::{Config, ExperimentConfig, TuneConfig, VariantConfig};
use farthing_experiment::tuning::{Candidate, Knob, Outcome, Search};
use farthing_experiment::{Answer, UnitKind};
use farthing_types::{Money, Overrides, RouteName, Span, Time};
use serde::{Deserialize, Serialize};

use crate::StartError;
use crate::route::RouteState;
use crate::state::State;

/// What names of these experiments begin with; the configuration has none of them.
const PREFIX: &str = "tune.";
/// The variant that has the value in force, and the one that has the other.
const VARIANTS: [&str; 2] = ["in-force", "candidate"];
/// Experiments that are told of afterwards.
const MOST_PAST: usize = 32;
/// Length of a window where each is one observation, and where it has many.
const WINDOWS: (Span, Span) = (Span::from_secs(300), Span::from_secs(6 * 3_600));
/// Units of each variant before anything is told.
const MIN_UNITS: u64 = 20;
/// Time that may be lost of what counts against `within`.
const LOST: Span = Span::from_secs(3_600);

/// Whether an experiment is one of the proxy's own.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// An experiment that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// When it ended.
    pub at: Time,
    /// Its name.
    pub name: Arc<str>,
    /// What it was about.
    pub knob: Knob,
    /// The value that was in force.
    pub from: f64,
    /// The one that was tried.
    pub to: f64,
    /// Why that one.
    pub why: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The verdict, as it stood at the end.
    pub verdict: String,
    /// What a month costs more under it, dollars; `None` where that was not known.
    pub usd_per_month: Option<f64>,
}

/// The experiment under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trying {
    name: Arc<str>,
    knob: Knob,
    candidate: Candidate,
    /// For how long it was looked at; time under a freeze does not count.
    spent: Span,
}

/// What is kept of a route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    searches: Vec<Search>,
    trying: Option<Trying>,
    /// The experiment that ended last; it is shown until the next ends.
    finished: Option<Arc<str>>,
    /// Number of the next experiment.
    next: u64,
    past: VecDeque<Past>,
}

/// One route.
pub(super) struct RouteTuning {
    route: Arc<RouteState>,
    config: TuneConfig,
    standing: Standing,
    /// What has to end first.
    waits: Option<String>,
    looked: Time,
    /// What of `spent` was not written down.
    unwritten: Span,
    unkept: bool,
    /// Experiments whose files are not needed any more.
    removed: Vec<Arc<str>>,
}

/// What is kept of a route, and whose files go.
pub(super) struct Work {
    pub(super) route: RouteName,
    pub(super) standing: Standing,
    pub(super) removed: Vec<Arc<str>>,
}

/// One number, for status pages.
#[derive(Clone, Debug)]
pub struct KnobView {
    /// Which.
    pub knob: Knob,
    /// As configured.
    pub configured: f64,
    /// In force.
    pub value: f64,
    /// Between which it may be.
    pub bounds: (f64, f64),
    /// Since when nothing is left to try in this round.
    pub settled: Option<Time>,
    /// Rounds that have begun.
    pub rounds: u32,
}

/// The experiment under way, for status pages.
#[derive(Clone, Debug)]
pub struct TryingView {
    /// Its name.
    pub name: Arc<str>,
    /// What it is about.
    pub knob: Knob,
    /// The value that is tried.
    pub candidate: Candidate,
    /// The verdict as it stands.
    pub verdict: String,
    /// How much time is left to show something.
    pub left: Span,
}

/// How the numbers of a route stand.
#[derive(Clone, Debug)]
pub struct TuningView {
    /// The route.
    pub route: RouteName,
    /// Its numbers.
    pub knobs: Vec<KnobView>,
    /// The experiment under way.
    pub trying: Option<TryingView>,
    /// What has to end first: `experiment NAME`, or `the canary on the route`.
    pub waits: Option<String>,
    /// What was tried, the latest last.
    pub past: Vec<Past>,
}

impl RouteTuning {
    fn new(route: &Arc<RouteState>, config: &TuneConfig, (kept, now): (Option<Standing>, Time)) -> Self {
        let mut kept = kept.unwrap_or_default();
        let search = |(knob, start, bounds): (Knob, f64, (f64, f64))| {
            let of = |search: &&Search| search.knob() == knob;
            Search::new(knob, start, bounds).or_kept(kept.searches.iter().find(of).cloned())
        };
        let searches: Vec<Search> = starts(route, config).into_iter().map(search).collect();
        let goes_on = |trying: &Trying| {
            let of = searches.iter().find(|search| search.knob() == trying.knob);
            of.is_some_and(|search| search.value() == trying.candidate.against && search.settled().is_none())
        };
        if kept.trying.as_ref().is_some_and(|trying| !goes_on(trying)) {
            kept.trying = None;
        }
        Self {
            route: route.clone(),
            config: config.clone(),
            standing: Standing { searches, ..kept },
            waits: None,
            looked: now,
            unwritten: Span::ZERO,
            unkept: true,
            removed: Vec::new(),
        }
    }

    /// Puts the values that differ from the configured ones in force.
    fn apply(&self) {
        for search in self.standing.searches.iter().filter(|search| search.value() != search.start()) {
            self.route.tuned.put(search.knob(), search.value());
        }
    }

    fn search(&mut self, knob: Knob) -> Option<&mut Search> {
        self.standing.searches.iter_mut().find(|search| search.knob() == knob)
    }

    fn experiment(&self, trying: &Trying) -> ExperimentConfig {
        let Trying { name, knob, candidate, .. } = trying;
        let variant = |name: &str, overrides: Overrides| VariantConfig { name: name.into(), share: 0.5, overrides };
        let (from, to) = (knob.text(candidate.against), knob.text(candidate.value));
        let blocks = knob.unit() == UnitKind::Block;
        ExperimentConfig {
            name: name.clone(),
            hypothesis: format!("{} of {to} costs less than {from} ({})", knob.as_str(), candidate.why),
            // A wait that is worth something is part of what is compared.
            metric: if self.route.route.price_wait > Money::ZERO { "with-waiting" } else { "money-cost" },
            margin: self.config.margin,
            worthwhile: self.config.worthwhile,
            start: "running",
            routes: vec![self.route.route.name.clone()],
            variants: vec![variant(VARIANTS[0], knob.overrides(candidate.against)), variant(VARIANTS[1], knob.overrides(candidate.value))],
            unit: Some(knob.unit().as_str()),
            window: self.config.window.unwrap_or(if blocks { WINDOWS.0 } else { WINDOWS.1 }),
            slice: 1.0,
            ramp: vec![1.0],
            latency: self.config.latency,
            min_units: MIN_UNITS,
            alpha: Search::alpha(),
            ..ExperimentConfig::default()
        }
    }

    fn view(&self, verdict: impl Fn(&str) -> Option<Answer>) -> TuningView {
        let knob = |search: &Search| KnobView {
            knob: search.knob(),
            configured: search.start(),
            value: search.value(),
            bounds: search.bounds(),
            settled: search.settled(),
            rounds: search.rounds(),
        };
        let trying = self.standing.trying.as_ref().map(|trying| TryingView {
            name: trying.name.clone(),
            knob: trying.knob,
            candidate: trying.candidate.clone(),
            verdict: verdict(&trying.name).map_or_else(String::new, |answer| answer.line),
            left: self.config.within.saturating_sub(trying.spent),
        });
        TuningView {
            route: self.route.route.name.clone(),
            knobs: self.standing.searches.iter().map(knob).collect(),
            trying,
            waits: self.waits.clone(),
            past: self.standing.past.iter().cloned().collect(),
        }
    }

    /// What has changed since the last time.
    pub(super) fn take_unkept(&mut self) -> Option<Work> {
        let any = std::mem::take(&mut self.unkept) || self.unwritten >= LOST;
        any.then(|| {
            self.unwritten = Span::ZERO;
            let removed = std::mem::take(&mut self.removed);
            Work { route: self.route.route.name.clone(), standing: self.standing.clone(), removed }
        })
    }

    /// Whether it is about that route.
    pub(super) fn is_on(&self, route: &RouteName) -> bool {
        self.route.route.name == *route
    }

    /// What was taken could not be kept: it is tried again.
    pub(super) fn put_back(&mut self, work: Work) {
        self.unkept = true;
        self.removed.extend(work.removed);
    }
}

/// What may be moved on a route, where it begins, and its bounds; times in milliseconds.
fn starts(route: &RouteState, config: &TuneConfig) -> Vec<(Knob, f64, (f64, f64))> {
    let millis = |span: Span| span.as_secs_f64() * 1e3;
    let both = |(low, high): (Span, Span)| (millis(low), millis(high));
    let window = route.route.batch.as_ref().and_then(|batch| match batch.window {
        farthing_config::BatchWindow::Fixed(window) => Some(millis(window)),
        farthing_config::BatchWindow::Auto | farthing_config::BatchWindow::Learned => None,
    });
    let of = |knob: Knob| match knob {
        Knob::BatchWindow => window.zip(config.batch_window.map(both)),
        Knob::RefreshAhead => config.refresh_ahead.map(|bounds| (millis(route.route.refresh_ahead), both(bounds))),
        Knob::PrefetchConfidence => config.prefetch_confidence.map(|bounds| (route.route.prefetch_confidence, bounds)),
    };
    Knob::ALL.into_iter().filter_map(|knob| of(knob).map(|(start, bounds)| (knob, start, bounds))).collect()
}

impl State {
    /// Takes up what was found for routes, and the experiments that were under way. Blocks on small files.
    ///
    /// # Errors
    /// A kept file that is damaged.
    pub(crate) fn open_tuning(&self, config: &Config, now: Time) -> Result<(), StartError> {
        let folder = self.trials.folder.lock().clone();
        let mut all = Vec::new();
        for route in &config.routes {
            let Some((tune, route)) = route.tune.as_ref().zip(self.route_named(&route.name)) else { continue };
            let kept = folder.tuning(&route.route.name)?;
            let mut of = RouteTuning::new(&route, tune, (kept, now));
            of.apply();
            if let Some(trying) = of.standing.trying.clone() {
                let taken = Config { experiments: vec![of.experiment(&trying)], ..Config::default() };
                if let Err(error) = self.open_experiments(&taken, now) {
                    tracing::warn!(experiment = %trying.name, %error, "not gone on with: it is begun anew");
                    of.standing.trying = None;
                    of.removed.push(trying.name);
                }
            }
            all.push(of);
        }
        *self.trials.tuning.lock() = all;
        Ok(())
    }

    /// How the numbers stand that experiments may move.
    pub fn tunings(&self, now: Time) -> Vec<TuningView> {
        let verdict = |name: &str| self.trials.view(name, now).and_then(|view| view.answers.into_iter().next());
        self.trials.tuning.lock().iter().map(|of| of.view(verdict)).collect()
    }
}
