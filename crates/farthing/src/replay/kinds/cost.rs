//! Kind `cost`: how many units a call will answer, by the predictor and by the rules; what a wrong reserve costs.

use std::sync::Arc;

use farthing_contract::features::{CallFacts, CostInput, CostStats};
use farthing_models::Kind;
use farthing_policy::cost::{Forecast, forecast};
use farthing_policy::{Guarded, Levels};
use farthing_replay::{Recipe, TokenCall};
use farthing_types::{Money, Rate, Span, VirtualClock};

use super::{Deciders, KindOutcome, KindReplay, Scene};

/// See the module.
pub struct CostReplay;

impl KindReplay for CostReplay {
    fn kind(&self) -> Kind {
        Kind::Cost
    }

    fn replay(&self, scene: &Scene<'_>) -> anyhow::Result<KindOutcome> {
        let Some(recipe) = scene.recipe else {
            anyhow::bail!("the requests' prompts and limits are known of generated worlds only: give --world")
        };
        let calls = recipe.token_calls(scene.trace, scene.seed);
        let Some(from) = scene.trace.events.get(scene.counted_from()).map(|e| e.at).filter(|_| !calls.is_empty()) else {
            anyhow::bail!("no route of this world is billed by the token (`tokens` in its recipe)");
        };
        let mut outcome = KindOutcome {
            measure: "reserve that is not used at 1/10, reserve that lacks at 9/10 of the output price".to_owned(),
            ..KindOutcome::default()
        };
        let mut deciders = Deciders::default();
        let mut ours = Walk::new(scene.bundle(Kind::Cost).levels(), recipe);
        let mut rules = Walk::new(Levels::default(), recipe);
        for call in &calls {
            let (a, b) = (ours.foretell(call, Some(&mut deciders).filter(|_| call.at >= from)), rules.foretell(call, None));
            if call.at >= from {
                let price = ours.price(call);
                outcome.money.first(u64::from(call.key), call.at, wrong(a, call, price).nanos());
                outcome.money.second(u64::from(call.key), call.at, wrong(b, call, price).nanos());
            }
        }
        outcome.deciders = deciders;
        Ok(outcome)
    }
}

/// What a reserve that is not the output costs: the loss whose best answer is the quantile nine tenths.
fn wrong(reserved: Option<Forecast>, call: &TokenCall, price: Rate) -> Money {
    let Some(reserved) = reserved.map(|f| f.p90) else { return price.cost(call.output) };
    let tenths = if reserved >= call.output { reserved - call.output } else { 9 * (call.output - reserved) };
    Rate::per_million(price.nanos_per_million() / 10).cost(tenths)
}

/// Forecasts call by call, as the proxy would make them.
struct Walk<'a> {
    guarded: Guarded,
    levels: Levels,
    stats: Vec<CostStats>,
    recipe: &'a Recipe,
}

impl<'a> Walk<'a> {
    fn new(levels: Levels, recipe: &'a Recipe) -> Self {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        Self { guarded, levels, stats: vec![CostStats::default(); recipe.routes.len()], recipe }
    }

    /// Dollars per million tokens are nano-dollars per million times 1e9 already.
    fn price(&self, call: &TokenCall) -> Rate {
        let tokens = self.recipe.routes.get(usize::from(call.route)).and_then(|r| r.tokens);
        Rate::per_million(tokens.map_or(0, |t| t.output_price.nanos()))
    }

    fn foretell(&mut self, call: &TokenCall, deciders: Option<&mut Deciders>) -> Option<Forecast> {
        let output_rate = Some(self.price(call).nanos_per_million());
        let stats = self.stats.get_mut(usize::from(call.route))?;
        let facts = CallFacts { prompt: Some(call.prompt), max_tokens: call.max_tokens, output_rate };
        let decision = forecast(&self.guarded, &self.levels, &CostInput { stats, facts, now: call.at });
        stats.on_call(call.at, Some(call.prompt), call.output, decision.foretold);
        if let (Some(deciders), Some(choice)) = (deciders, &decision.forecast) {
            deciders.count(&choice.by);
        }
        decision.forecast.map(|choice| choice.value)
    }
}
