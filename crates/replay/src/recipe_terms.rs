//! What a generated route charges and promises besides the price of a call, and how many tokens its calls have.

use farthing_contract::features::BatchWindow;
use farthing_policy::strategy::{BatchTerms, Terms};
use farthing_types::{Draw, DrawKind, Money, Span, Time};
use serde::{Deserialize, Serialize};

use crate::event::{EventKind, Trace};
use crate::recipe::{Recipe, RecipeError, RecipeRoute, within};

/// Prices and promises of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeTerms {
    /// Price of one stale answer; the recipe's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_price: Option<Money>,
    /// Price of one second that a client waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_price: Option<Money>,
    /// Latency that clients are promised, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_ms: Option<u32>,
    /// Batching, where there is a format and a price for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<RecipeBatch>,
}

/// A batch of `n` costs `price x (per_call + per_item x n)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeBatch {
    /// How long the first request waits, ms.
    pub window_ms: u32,
    /// Most requests in a batch.
    pub max: u32,
    /// Prices of a call, once per batch.
    pub per_call: f64,
    /// Prices of a call, for each item.
    pub per_item: f64,
}

/// Calls billed by the token: the prompt is log-normal, the answer is log-normal around a power of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeTokens {
    /// Middle prompt.
    pub prompt: f64,
    /// Standard deviation of its log.
    pub prompt_sigma: f64,
    /// Middle answer to a middle prompt.
    pub output: f64,
    /// Standard deviation of the log of the answer, for one prompt.
    pub output_sigma: f64,
    /// How the log of the answer rises with the log of the prompt.
    pub slope: f64,
    /// Limit that requests name, and cut the answer.
    pub max: u32,
    /// Share of the requests that name it.
    pub limited: f64,
    /// Dollars per million prompt tokens.
    pub input_price: Money,
    /// Dollars per million answer tokens.
    pub output_price: Money,
}

/// One generated call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCall {
    /// When.
    pub at: Time,
    /// Index of the route.
    pub route: u16,
    /// Number of the key.
    pub key: u32,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// The limit that the request names.
    pub max_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output: u64,
}

impl RecipeTerms {
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self, place: &dyn Fn(&str) -> String) -> Result<(), RecipeError> {
        let Some(batch) = self.batch else { return Ok(()) };
        within(&place("terms.batch.max"), f64::from(batch.max), 1.0, 1e6)?;
        within(&place("terms.batch.per_call"), batch.per_call, 0.0, 1e6)?;
        within(&place("terms.batch.per_item"), batch.per_item, 0.0, 1e3)
    }
}

impl RecipeTokens {
    pub(crate) fn check(&self, place: &dyn Fn(&str) -> String) -> Result<(), RecipeError> {
        within(&place("tokens.prompt"), self.prompt, 1.0, 1e7)?;
        within(&place("tokens.prompt_sigma"), self.prompt_sigma, 0.0, 4.0)?;
        within(&place("tokens.output"), self.output, 1.0, 1e7)?;
        within(&place("tokens.output_sigma"), self.output_sigma, 0.0, 4.0)?;
        within(&place("tokens.slope"), self.slope, -2.0, 2.0)?;
        within(&place("tokens.max"), f64::from(self.max), 1.0, 1e9)?;
        within(&place("tokens.limited"), self.limited, 0.0, 1.0)
    }

    /// The call of request number `n`: a function of seed and number alone.
    fn call(&self, draw: &Draw, n: u128) -> (u64, Option<u64>, u64) {
        let uniform = |kind: i64| draw.uniform(DrawKind::Sample, "tokens", n, kind);
        let normal = |kind: i64| (-2.0 * uniform(kind).max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform(kind + 1)).cos();
        let above = self.prompt_sigma * normal(0);
        let log_output = self.output.ln() + self.slope * above + self.output_sigma * normal(2);
        let whole = |log: f64| log.exp().round().clamp(1.0, 1e9) as u64;
        let limit = u64::from(self.max);
        let named = (uniform(4) < self.limited).then_some(limit);
        (whole(self.prompt.ln() + above), named, whole(log_output).min(limit))
    }
}

impl RecipeRoute {
    /// The terms of the route; a stale answer costs the recipe's price unless the route names one.
    pub fn strategy_terms(&self, recipe: &Recipe) -> Terms {
        let thousandths = |prices: f64| (prices * 1e3).round().clamp(0.0, 1e9) as u32;
        let batch = |b: &RecipeBatch| BatchTerms {
            window: BatchWindow { window: Span::from_millis(u64::from(b.window_ms)), max: b.max },
            per_call: thousandths(b.per_call),
            per_item: thousandths(b.per_item),
        };
        Terms {
            price: self.price,
            stale_price: self.terms.stale_price.unwrap_or(recipe.stale_price),
            wait_price: self.terms.wait_price.unwrap_or(Money::ZERO),
            sla: self.terms.sla_ms.map(|ms| Span::from_millis(u64::from(ms))),
            batch: self.terms.batch.as_ref().map(batch),
        }
    }
}

impl Recipe {
    /// The calls behind the reads of routes that are billed by the token, as if nothing were cached.
    pub fn token_calls(&self, trace: &Trace, seed: u64) -> Vec<TokenCall> {
        let draw = Draw::new(seed);
        let call = |(n, event): (usize, &crate::event::Event)| {
            let tokens = self.routes.get(usize::from(event.route))?.tokens?;
            let (prompt, max_tokens, output) = tokens.call(&draw, n as u128);
            Some(TokenCall { at: event.at, route: event.route, key: event.key, prompt, max_tokens, output })
        };
        trace.events.iter().enumerate().filter(|(_, e)| e.kind == EventKind::Read).filter_map(call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: &str = r#"
        seed = 1
        start_s = 0
        duration_s = 20000.0
        rate = 1.0
        zipf = 0.5
        stale_price = "0.01"
        [[routes]]
        name = "chat"
        keys = 10
        weight = 1.0
        price = "0.001"
        process = { kind = "nondeterministic" }
        terms = { sla_ms = 900, wait_price = "0.002", batch = { window_ms = 50, max = 8, per_call = 1.5, per_item = 0.25 } }
        tokens = { prompt = 1000.0, prompt_sigma = 0.5, output = 100.0, output_sigma = 0.4, slope = 0.5, max = 300, limited = 0.25, input_price = "2.5", output_price = "10" }
    "#;

    #[test]
    fn tokens_follow_their_recipe() {
        let recipe: Recipe = toml::from_str(TOKENS).unwrap();
        let trace = recipe.generate(1).unwrap();
        let calls = recipe.token_calls(&trace, 1);
        assert_eq!(calls, recipe.token_calls(&trace, 1));
        let share = |of: &dyn Fn(&TokenCall) -> bool| calls.iter().filter(|c| of(c)).count() as f64 / calls.len() as f64;
        assert!((share(&|c| c.prompt <= 1_000) - 0.5).abs() < 0.02 && (share(&|c| c.output <= 100) - 0.5).abs() < 0.02);
        assert!((share(&|c| c.max_tokens.is_some()) - 0.25).abs() < 0.02 && share(&|c| c.output > 300) == 0.0);
    }

    #[test]
    fn terms_are_read_and_checked() {
        let recipe: Recipe = toml::from_str(TOKENS).unwrap();
        let terms = recipe.routes[0].strategy_terms(&recipe);
        assert_eq!((terms.sla, terms.stale_price), (Some(Span::from_millis(900)), Money::from_nanos(10_000_000)));
        assert_eq!(terms.batch.unwrap().bill(terms.price, 4), Money::from_nanos(2_500_000));
        let wrong: Recipe = toml::from_str(&TOKENS.replace("limited = 0.25", "limited = 1.25")).unwrap();
        assert!(wrong.check().unwrap_err().to_string().contains("routes.chat.tokens.limited"));
    }

    #[test]
    fn a_recipe_without_terms_is_written_as_before() {
        let text = include_str!("../../../data/demo.toml");
        let recipe: Recipe = toml::from_str(text).unwrap();
        let written = serde_json::to_string(&recipe).unwrap();
        assert!(!written.contains("terms") && !written.contains("tokens"));
    }
}
