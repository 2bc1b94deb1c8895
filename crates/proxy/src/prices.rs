//! Configured prices as the ledger's price book.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use farthing_config::Config;
use farthing_ledger::prices::restore;
use farthing_ledger::{LogHandle, PriceBook, PriceError, PriceSpec, Volumes};
use farthing_types::{Span, Time};

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

/// How long the journal of a run that was killed may take to be put into files at the start.
const RECOVERY: Span = Span::from_secs(30);

/// The volumes of the month so far, as the log in `dir` has them. A log that cannot be read leaves what was read of it, and says so: prices
/// with tiers or a free quota start too low in the month then.
pub fn volumes(book: &PriceBook, (log, dir): (&LogHandle, &Path), now: Time) -> Volumes {
    // What a run that was killed has left in the journal is put into files first: it was billed, too.
    if book.has_meters()
        && let Err(error) = log.flush(RECOVERY)
    {
        tracing::warn!(%error, "the journal was not read to its end before the month's volumes: they may lack its last calls");
    }
    let (volumes, problem) = restore::volumes(book, dir, now);
    if let Some(problem) = problem {
        tracing::warn!(%problem, "the month's volumes are not complete: prices with tiers or free amounts start anew");
    }
    for (key, amount) in volumes.iter() {
        tracing::info!(owner = %key.owner, meter = %key.meter, month = key.month.text(), %amount, "volume of the month so far");
    }
    volumes
}
