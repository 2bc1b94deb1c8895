//! Configured prices as the ledger's price book.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::{Config, Prices, TokenRates};
use farthing_ledger::{PriceBook, PriceSpec};

use crate::StartError;

/// The price book of a configuration.
///
/// # Errors
/// Prices that contradict each other, with the owner's name.
pub fn book(config: &Config) -> Result<PriceBook, StartError> {
    let providers: BTreeMap<Arc<str>, PriceSpec> =
        config.providers.iter().filter_map(|p| p.prices.as_ref().map(|prices| (p.name.clone(), spec(prices)))).collect();
    let routes = config.routes.iter().filter_map(|r| r.prices.as_ref().map(|prices| (r.name.clone(), spec(prices))));
    Ok(PriceBook::new(&providers, &routes.collect())?)
}

fn spec(prices: &Prices) -> PriceSpec {
    PriceSpec {
        free: prices.free,
        per_call: prices.per_call,
        per_kb: prices.per_kb,
        per_unit: prices.per_unit,
        targets: prices.targets.iter().map(|(name, rates)| (name.clone(), tokens(rates))).collect(),
        not_modified: prices.not_modified,
        errors_billed: prices.errors_billed,
        effective: prices.effective.clone(),
        source: prices.source.clone(),
    }
}

fn tokens(rates: &TokenRates) -> farthing_ledger::TokenRates {
    farthing_ledger::TokenRates {
        input: rates.input,
        cached_input: rates.cached_input,
        cache_write: rates.cache_write,
        output: rates.output,
        reasoning: rates.reasoning,
    }
}
