//! What a call costs: an immutable snapshot of price specs with a digest.
//!
//! A provider has one [`PriceSpec`]; a route may bring its own, which then replaces the provider's for that route (a
//! local contract beats a list price). The sum over all meters of a call is exact and rounded once. A price that is
//! not known stays `None`: it is counted as unpriced, never taken for free.
//!
//! Tiers and free quotas need the amounts of the month so far; they will become further fields of [`PriceSpec`] and
//! [`Billable`], the snapshot stays immutable.

mod book;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use farthing_types::{Rate, Usage};
use serde::{Deserialize, Serialize};

pub use book::PriceBook;

/// Rates per token for one target (an LLM or another thing named in the request).
///
/// A bucket of [`Usage`] that is reported but has no rate here falls back as the providers bill it: `cached_input` and
/// `cache_write` to `input`, `reasoning` to `output`. Without that either, the call is unpriced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenRates {
    /// Dollars per uncached input token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Rate>,
    /// Dollars per input token read from the provider's prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Rate>,
    /// Dollars per input token written to the provider's prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Rate>,
    /// Dollars per output token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Rate>,
    /// Dollars per reasoning token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Rate>,
}

/// What a provider (or, by local contract, a route) charges. All meters given are summed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSpec {
    /// Costs nothing, by agreement: the one way to say that a price is zero without rates.
    pub free: bool,
    /// Dollars per call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_call: Option<Rate>,
    /// Dollars per 1,024 bytes of answer body, charged by the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_kb: Option<Rate>,
    /// Dollars per unit of the route's own meter ([`Usage::units`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_unit: Option<Rate>,
    /// Token rates by target. A name matches itself and itself plus a release suffix (`gpt-4o` also prices
    /// `gpt-4o-2024-08-06`, not `gpt-4o-mini`); a name that ends in `*` matches whatever begins so. An exact name
    /// wins, then the longest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, TokenRates>,
    /// Dollars per answer with status 304; when absent, a 304 costs what `per_call` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_modified: Option<Rate>,
    /// Whether answers other than 2xx and 304, and calls without an answer, are charged like the rest.
    pub errors_billed: bool,
    /// Date from which the prices hold, `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<String>,
    /// Where the prices come from: a page, a contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One attempt of a call, as far as its price depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Billable<'a> {
    /// The route: its own prices come first.
    pub route: &'a str,
    /// The provider that bills.
    pub provider: &'a str,
    /// The target named in the answer, or else in the request.
    pub target: Option<&'a str>,
    /// What the provider says it metered.
    pub usage: &'a Usage,
    /// Status of the answer; `None` when no head arrived although the request was sent.
    pub status: Option<u16>,
    /// Body bytes received; `None` when unknown.
    pub bytes: Option<u64>,
}

/// A price spec that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prices of {owner}: {what}")]
pub struct PriceError {
    /// ``provider `x` `` or ``route `x` ``.
    pub owner: String,
    /// The key and the remedy.
    pub what: String,
}
