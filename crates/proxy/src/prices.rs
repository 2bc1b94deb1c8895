//! Configured prices as the ledger's price book.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::Config;
use farthing_ledger::{PriceBook, PriceError, PriceSpec};

/// The price book of a configuration.
///
/// # Errors
/// Prices that contradict each other, with the owner's name.
pub fn book(config: &Config) -> Result<PriceBook, PriceError> {
    let providers: BTreeMap<Arc<str>, PriceSpec> =
        config.providers.iter().filter_map(|p| p.prices.clone().map(|prices| (p.name.clone(), prices))).collect();
    let routes = config.routes.iter().filter_map(|r| r.prices.clone().map(|prices| (r.name.clone(), prices)));
    PriceBook::new(&providers, &routes.collect())
}
