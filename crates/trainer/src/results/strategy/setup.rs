//! Scenes: a trace with the prices and promises of its provider. Real traces have none, so one provider is assumed for each, the same for
//! all its routes; the figures are in docs/strategy.md.

use std::path::Path;
use std::sync::Arc;

use farthing_contract::features::BatchWindow;
use farthing_policy::strategy::{BatchTerms, Terms};
use farthing_policy::{Levels, TtlParams};
use farthing_replay::strategies::{DEFAULT_KAPPA, Model};
use farthing_replay::{Event, EventKind, LiveStatistics, Recipe, Trace, TraceRoute};
use farthing_types::{Money, Span, Time};

use crate::error::TrainError;
use crate::read::{PublicRow, PublicTrace, read_public};

/// The world of eight services.
const SERVICES: &str = include_str!("../../../../../data/services.toml");

/// A trace and what it costs.
pub struct Scene {
    pub name: String,
    pub trace: Trace,
    pub model: Model,
}

/// What is assumed of the provider of a real trace.
#[derive(Clone, Copy)]
pub struct Provider {
    /// Price of a call, nano-dollars; the mean by tokens where there are any.
    pub price: i64,
    /// Price of a stale answer, in calls.
    pub stale: i64,
    /// Price of a second of waiting, nano-dollars.
    pub wait: i64,
    /// Latency where the trace has none, ms.
    pub latency_ms: u64,
    /// Window, ms; most in a batch; thousandths of a call per batch and per item.
    pub batch: (u64, u32, u32, u32),
    /// Answers are sampled: nothing is kept or joined.
    pub sampled: bool,
}

/// A provider of data: a batch costs two calls, whatever it holds, up to a hundred.
pub const DATA: Provider = Provider { price: 1_000_000, stale: 10, wait: 0, latency_ms: 200, batch: (50, 100, 2_000, 0), sampled: false };
/// A provider of texts: half the price for whoever waits a minute; a second of waiting costs a hundredth of a cent.
pub const TEXTS: Provider =
    Provider { price: 0, stale: 0, wait: 100_000, latency_ms: 2_000, batch: (60_000, 1_000, 0, 500), sampled: true };
/// Dollars per million tokens, in nano-dollars: input, output.
pub const TOKEN_NANOS: (i64, i64) = (2_500, 10_000);

/// The generated world under a seed.
pub fn services(seed: u64) -> Result<Scene, TrainError> {
    let wrong = |reason: String| TrainError::Recipe { path: "data/services.toml".into(), reason };
    let recipe: Recipe = toml::from_str(SERVICES).map_err(|e| wrong(e.to_string()))?;
    let trace = recipe.generate(seed).map_err(|e| wrong(e.to_string()))?;
    Ok(Scene { name: format!("services, seed {seed}"), model: Model::of_recipe(&recipe), trace })
}

/// The recipe of the generated world.
pub fn services_recipe() -> Result<Recipe, TrainError> {
    toml::from_str(SERVICES).map_err(|e: toml::de::Error| TrainError::Recipe { path: "data/services.toml".into(), reason: e.to_string() })
}

/// Real changes under seeded reads. Pollers in the background: a batch may fill for a minute.
pub fn api_changes(path: &Path) -> Result<Scene, TrainError> {
    let provider = Provider { batch: (60_000, 100, 2_000, 0), ..DATA };
    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    Ok(scene(format!("api_changes, {name}"), &read_public(path)?, provider))
}

/// A trace under a provider.
pub fn scene(name: String, public: &PublicTrace, provider: Provider) -> Scene {
    let routes: Vec<TraceRoute> = public
        .endpoints
        .iter()
        .enumerate()
        .map(|(i, name)| TraceRoute { name: name.clone(), price: price(public, i as u32, provider), nondeterministic: provider.sampled })
        .collect();
    let (window_ms, max, per_call, per_item) = provider.batch;
    let batch = BatchTerms { window: BatchWindow { window: Span::from_millis(window_ms), max }, per_call, per_item };
    let terms = |route: &TraceRoute| Terms {
        price: route.price,
        stale_price: route.price.times(provider.stale),
        wait_price: Money::from_nanos(provider.wait),
        sla: None,
        batch: Some(batch),
    };
    let model = Model {
        terms: routes.iter().map(terms).collect(),
        latency: (0..routes.len()).map(|i| latency(public, i as u32, provider)).collect(),
        ttl: TtlParams { kappa: Some(DEFAULT_KAPPA), ..TtlParams::default() },
        ttl_levels: Levels { model: None, table: Some(Arc::new(LiveStatistics)) },
    };
    Scene { name, trace: Trace { routes, events: events(public) }, model }
}

/// Requests without a key get one of their own.
fn events(public: &PublicTrace) -> Vec<Event> {
    let mut numbers = std::collections::HashMap::new();
    let mut next = 0u32;
    let mut number = |key: Option<u64>| {
        let mut new = || {
            next += 1;
            next - 1
        };
        match key {
            Some(key) => *numbers.entry(key).or_insert_with(new),
            None => new(),
        }
    };
    let mut event = |row: &PublicRow| Event {
        at: Time::from_millis(row.at_ms),
        key: number(row.key),
        route: row.endpoint as u16,
        kind: if row.is_write { EventKind::Change } else { EventKind::Read },
        bytes: row.bytes,
    };
    public.rows.iter().map(&mut event).collect()
}

/// Price by tokens of a row, nano-dollars.
pub fn token_price(row: &PublicRow) -> Option<i64> {
    let (input, output) = (i64::try_from(row.tokens_in?).ok()?, i64::try_from(row.tokens_out?).ok()?);
    Some(input * TOKEN_NANOS.0 + output * TOKEN_NANOS.1)
}

fn price(public: &PublicTrace, endpoint: u32, provider: Provider) -> Money {
    let prices: Vec<i64> = public.rows.iter().filter(|r| r.endpoint == endpoint).filter_map(token_price).collect();
    let mean = prices.iter().sum::<i64>().checked_div(prices.len() as i64);
    Money::from_nanos(mean.filter(|p| *p > 0).unwrap_or(provider.price))
}

/// Middle latency of the route's calls.
fn latency(public: &PublicTrace, endpoint: u32, provider: Provider) -> Span {
    let mut all: Vec<f64> = public.rows.iter().filter(|r| r.endpoint == endpoint && !r.is_write).filter_map(|r| r.latency_ms).collect();
    all.sort_by(f64::total_cmp);
    let ms = all.get(all.len() / 2).copied().unwrap_or(provider.latency_ms as f64);
    Span::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}
