//! What a strategy predictor learns from: a trace with the prices and promises of its routes.

use std::path::Path;

use farthing_contract::bundle::disk;
use farthing_contract::features::BatchWindow;
use farthing_policy::strategy::{BatchTerms, Terms};
use farthing_policy::{Levels, TtlParams};
use farthing_replay::strategies::{DEFAULT_KAPPA, Model};
use farthing_replay::{LiveStatistics, RecipeTerms, Trace};
use farthing_types::{Money, Span};
use serde::Deserialize;

use crate::error::TrainError;
use crate::evaluate::{read_recipe, stream};
use crate::history::History;
use crate::read::{Files, read_latencies, read_log};

/// Latency of a call where the log has none.
const USUAL_LATENCY: Span = Span::from_millis(100);

/// A trace and its model.
pub struct Source {
    /// Reads and changes.
    pub trace: Trace,
    /// Prices, promises, latencies, the live TTL decision.
    pub model: Model,
    /// Digest of where it comes from.
    pub digest: String,
    /// Whether it is a generated world, which knows nothing of the deployment that will run the predictor.
    pub generated: bool,
}

/// Prices and promises that a log does not hold, as a TOML file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsFile {
    /// Price of one stale answer, in prices of a call, for routes that name none; default 10.
    #[serde(default = "ten")]
    pub stale_calls: f64,
    /// Routes by name.
    #[serde(default)]
    pub routes: Vec<RouteTerms>,
}

fn ten() -> f64 {
    10.0
}

/// One route of a terms file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTerms {
    /// The route's name in the log.
    pub name: String,
    /// Its prices and promises.
    pub terms: RecipeTerms,
}

impl TermsFile {
    /// What holds where there is no file.
    pub fn usual() -> Self {
        Self { stale_calls: ten(), routes: Vec::new() }
    }

    /// Reads a terms file.
    ///
    /// # Errors
    /// Names the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        toml::from_str(&text).map_err(|e| TrainError::Recipe { path: path.to_path_buf(), reason: e.to_string() })
    }

    /// The terms of a route whose calls cost `price`.
    pub fn of(&self, name: &str, price: Money) -> Terms {
        let given = self.routes.iter().find(|r| r.name == name).map(|r| r.terms.clone()).unwrap_or_default();
        let thousandths = |prices: f64| (prices * 1e3).round().clamp(0.0, 1e9) as u32;
        let stale = price.times((self.stale_calls * 1e3).round().clamp(0.0, 1e12) as i64).nanos() / 1_000;
        Terms {
            price,
            stale_price: given.stale_price.unwrap_or(Money::from_nanos(stale)),
            wait_price: given.wait_price.unwrap_or(Money::ZERO),
            sla: given.sla_ms.map(|ms| Span::from_millis(u64::from(ms))),
            batch: given.batch.map(|b| BatchTerms {
                window: BatchWindow { window: Span::from_millis(u64::from(b.window_ms)), max: b.max },
                per_call: thousandths(b.per_call),
                per_item: thousandths(b.per_item),
            }),
        }
    }
}

impl Source {
    /// A generated world.
    ///
    /// # Errors
    /// When the recipe is wrong.
    pub fn of_recipe(path: &Path, seed: u64) -> Result<Self, TrainError> {
        let recipe = read_recipe(path)?;
        let wrong = |e: farthing_replay::RecipeError| TrainError::Recipe { path: path.to_path_buf(), reason: e.to_string() };
        let trace = recipe.generate(seed).map_err(wrong)?;
        let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
        let digest = disk::sha256(&[bytes.as_slice(), &seed.to_le_bytes()].concat());
        Ok(Self { trace, model: Model::of_recipe(&recipe), digest, generated: true })
    }

    /// The log of a proxy, with the terms that it does not hold.
    ///
    /// # Errors
    /// When the log cannot be read or holds nothing.
    pub fn of_log(from: &(impl Files + ?Sized), terms: &TermsFile) -> Result<Self, TrainError> {
        let log = read_log(from)?;
        let latencies = read_latencies(from)?;
        let history = History::of(&log);
        let mut trace = stream::of_log(&log, &[]);
        if trace.events.is_empty() {
            return Err(TrainError::TooLittle("the log holds no request whose answers are known".to_owned()));
        }
        for route in &mut trace.routes {
            route.nondeterministic = history.nondeterministic.contains(&route.name);
        }
        let model = Model {
            terms: trace.routes.iter().map(|r| terms.of(&r.name, r.price)).collect(),
            latency: trace.routes.iter().map(|r| latencies.get(&r.name).copied().unwrap_or(USUAL_LATENCY)).collect(),
            ttl: TtlParams { kappa: Some(DEFAULT_KAPPA), ..TtlParams::default() },
            ttl_levels: Levels { model: None, table: Some(std::sync::Arc::new(LiveStatistics)) },
        };
        Ok(Self { trace, model, digest: log.digest, generated: false })
    }
}
