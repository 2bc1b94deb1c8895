//! Kind `strategy`: which combination of strategies a request gets, by the predictor and by the rules.

use std::sync::Arc;

use farthing_models::Kind;
use farthing_policy::strategy::{Ask, Mix, StrategyParams, decide};
use farthing_policy::{Guarded, Levels};
use farthing_replay::strategies::{Judged, MixChooser, Model, RouteView, Run, may, simulate};
use farthing_types::{By, Span, Time, VirtualClock};

use super::{Deciders, KindOutcome, KindReplay, Scene};

/// See the module.
pub struct StrategyReplay;

impl KindReplay for StrategyReplay {
    fn kind(&self) -> Kind {
        Kind::Strategy
    }

    fn replay(&self, scene: &Scene<'_>) -> anyhow::Result<KindOutcome> {
        let Some(recipe) = scene.recipe else { anyhow::bail!("a log does not hold the prices of batches and of waiting: give --world") };
        let model = Model::of_recipe(recipe);
        let judged = Judged::from(scene.trace, scene.counted_from());
        let mut predicted = Deciding::new(scene.bundle(Kind::Strategy).levels(), scene);
        let ours = simulate(scene.trace, &model, judged, &mut predicted);
        let rules = simulate(scene.trace, &model, judged, &mut Deciding::new(Levels::default(), scene));
        let mut outcome = KindOutcome {
            deciders: predicted.deciders,
            measure: "bill + stale answers + waiting, at the route's prices; blocks are a route for a two-hundredth of the time".to_owned(),
            ..KindOutcome::default()
        };
        tell(&ours, &model, |block, nanos| outcome.money.first(block, Time::from_nanos(0), nanos));
        tell(&rules, &model, |block, nanos| outcome.money.second(block, Time::from_nanos(0), nanos));
        Ok(outcome)
    }
}

/// Money of each route in each block, under a number of its own.
fn tell(run: &Run, model: &Model, mut pay: impl FnMut(u64, i64)) {
    for (block, route, nanos) in run.costs(model) {
        pay(((route as u64) << 40) | block as u64, nanos);
    }
}

/// The proxy's own decision, with a count of who made those that are counted.
struct Deciding {
    guarded: Guarded,
    levels: Levels,
    params: StrategyParams,
    from: Time,
    deciders: Deciders,
}

impl Deciding {
    /// The clock stands still, so no predictor is ever late.
    fn new(levels: Levels, scene: &Scene<'_>) -> Self {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        let from = scene.trace.events.get(scene.counted_from()).map_or(Time::from_nanos(i64::MAX), |e| e.at);
        Self { guarded, levels, params: StrategyParams::default(), from, deciders: Deciders::default() }
    }
}

impl MixChooser for Deciding {
    fn mix(&mut self, view: &RouteView<'_>) -> (Mix, bool) {
        let ask = Ask { input: view.input, terms: view.terms, params: &self.params, allowed: may(view) };
        let choice = decide(&self.guarded, &self.levels, &ask).choice;
        if view.input.now >= self.from {
            self.deciders.count(&choice.by);
        }
        (choice.value, matches!(choice.by, By::Model(_) | By::Table(_)))
    }
}
