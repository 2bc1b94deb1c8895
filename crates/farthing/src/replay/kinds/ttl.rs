//! Kind `ttl`: how long a copy is kept, by the predictor and by the rule.

use std::sync::Arc;

use farthing_contract::features::{Doubt, TtlInput};
use farthing_models::Kind;
use farthing_policy::{Guarded, Levels, TtlParams, TtlSource};
use farthing_replay::{Chooser, Engine, Event, EventKind, PassThroughAll};
use farthing_types::{Money, Span, VirtualClock};

use super::{Deciders, KindOutcome, KindReplay, Scene};

/// See the module.
pub struct TtlReplay;

impl KindReplay for TtlReplay {
    fn kind(&self) -> Kind {
        Kind::Ttl
    }

    fn replay(&self, scene: &Scene<'_>) -> anyhow::Result<KindOutcome> {
        let bundle = scene.bundle(Kind::Ttl);
        let kappa = |budget: f64| bundle.manifest().and_then(|manifest| manifest.kappa(budget));
        let params = |source: TtlSource| -> Vec<TtlParams> {
            let of = |r: &super::RouteScene| TtlParams { source, kappa: kappa(r.params.stale_budget), ..r.params };
            scene.routes.iter().map(of).collect()
        };
        let mut outcome = KindOutcome { measure: measure(scene), ..KindOutcome::default() };
        let mut predicted = Deciding::new(bundle.levels(), params(TtlSource::Model));
        run(scene, &mut predicted, &mut |event, nanos| outcome.money.first(u64::from(event.key), event.at, nanos));
        let mut rules = Deciding::new(Levels::default(), params(TtlSource::Rule));
        run(scene, &mut rules, &mut |event, nanos| outcome.money.second(u64::from(event.key), event.at, nanos));
        outcome.deciders = predicted.deciders;
        Ok(outcome)
    }
}

/// Watches the first part as a pass-through, replays the rest with `chooser` and tells the money of each read.
fn run(scene: &Scene<'_>, chooser: &mut Deciding, pay: &mut dyn FnMut(&Event, i64)) {
    let trace = scene.trace;
    let cut = scene.counted_from();
    let mut engine = Engine::new(trace);
    for (index, route) in scene.routes.iter().enumerate() {
        engine.set_route_budget(index, route.params.stale_budget);
    }
    engine.run(trace, &trace.events[..cut], &mut PassThroughAll);
    engine.drop_copies();
    for event in &trace.events[cut..] {
        let came = engine.run(trace, std::slice::from_ref(event), chooser);
        if event.kind == EventKind::Read
            && let Some(came) = came.routes.get(usize::from(event.route))
        {
            let stale = scene.routes.get(usize::from(event.route)).and_then(|r| r.price_stale).unwrap_or(Money::ZERO);
            pay(event, came.money_cost(stale).nanos());
        }
    }
}

fn measure(scene: &Scene<'_>) -> String {
    let mut prices: Vec<Money> = scene.routes.iter().filter_map(|r| r.price_stale).collect();
    prices.sort_unstable();
    prices.dedup();
    match prices.as_slice() {
        [] => "bill (stale answers have no price here)".to_owned(),
        [one] => format!("bill + stale answers at ${one}"),
        _ => "bill + stale answers at their route's price".to_owned(),
    }
}

/// The proxy's own decision, with a count of who made it.
struct Deciding {
    guarded: Guarded,
    levels: Levels,
    params: Vec<TtlParams>,
    deciders: Deciders,
    doubt: Doubt,
}

impl Deciding {
    /// The clock stands still, so no predictor is ever late.
    fn new(levels: Levels, params: Vec<TtlParams>) -> Self {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        Self { guarded, levels, params, deciders: Deciders::default(), doubt: Doubt::NEVER }
    }
}

impl Chooser for Deciding {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        self.doubt = Doubt::NEVER;
        let Some(params) = self.params.get(usize::from(event.route)) else { return Span::ZERO };
        let choice = self.guarded.decide(&self.levels, params, input).choice;
        self.deciders.count(&choice.by);
        self.doubt = choice.value.doubt;
        choice.value.fresh
    }

    fn doubt(&self) -> Doubt {
        self.doubt
    }
}
