//! What a call costs: an immutable snapshot of price specs with a digest.
//!
//! A provider has one [`PriceSpec`]; a route may bring its own, which then replaces the provider's for that route (a
//! local contract beats a list price). The sum over all meters of a call is exact and rounded once. A price that is
//! not known stays unknown, with its reason ([`Unpriced`]): it is counted, never taken for free.
//!
//! Meters with tiers or a free quota need the volumes of the month so far ([`Volumes`]): an argument of [`PriceBook::price`], whose
//! result says how they grow. Several versions of the prices may follow each other; the one in force at the call's start is taken.

mod amount;
mod book;
mod bound;
#[cfg(test)]
mod bound_tests;
mod check;
mod explain;
pub mod import;
mod names;
pub mod restore;
mod schedule;
#[cfg(test)]
mod tests;
mod tokens;
mod volumes;

use std::fmt;
use std::sync::Arc;

use farthing_types::{Money, Time, Usage};

pub use farthing_types::{PriceSpec, TokenRates};

pub use amount::{Amount, Amounts};
pub use book::{PriceBook, Reads};
pub use bound::Ask;
pub use explain::PriceLine;
pub use tokens::PromptRates;
pub use volumes::{Month, VolumeKey, Volumes};

/// One attempt of a call, as far as its price depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Billable<'a> {
    /// The route: its own prices come first.
    pub route: &'a str,
    /// The provider that bills.
    pub provider: &'a str,
    /// The target named in the answer, or else in the request.
    pub target: Option<&'a str>,
    /// When the call began: which version of the prices holds, and which month it counts for.
    pub at: Time,
    /// What the provider says it metered.
    pub usage: &'a Usage,
    /// What stands at the places that meters read.
    pub amounts: &'a Amounts,
    /// The service tier that answered (`batch`, `priority` ...), as the provider names it.
    pub service: Option<&'a str>,
    /// Its tokens are not billed with it, whatever its answer tells: see [`crate::usage::Billing::Never`].
    pub unbilled: bool,
    /// Status of the answer; `None` when no head arrived although the request was sent.
    pub status: Option<u16>,
    /// Body bytes received; `None` when unknown.
    pub bytes: Option<u64>,
}

/// The price of one attempt, and by how much it raises the volumes of its month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    /// What it costs.
    pub cost: Money,
    /// What the meters counted, by meter, in the order of the price spec: billed units where started ones are charged whole, else what
    /// the source counts.
    pub metered: Vec<(Arc<str>, Amount)>,
    /// The volumes of the month that it raises: the metered amounts.
    pub volumes: Vec<(VolumeKey, Amount)>,
}

impl Priced {
    pub(crate) fn of(cost: Money) -> Self {
        Self { cost, ..Self::default() }
    }

    /// Counts the call in `volumes`.
    pub fn enter(&self, volumes: &mut Volumes) {
        self.volumes.iter().for_each(|(key, amount)| volumes.add(key.clone(), *amount));
    }
}

/// Why a price is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unpriced {
    /// Neither route nor provider has prices.
    NoPrices,
    /// The call began before the first prices hold.
    NotYetEffective,
    /// Priced by target, and neither request nor answer names one.
    NoTarget,
    /// The target has no rates.
    UnknownTarget,
    /// Priced by the token, and the answer reports none.
    NoUsage,
    /// Tokens of a kind for which the target has no rate.
    NoRate,
    /// A service tier answered of which the prices say nothing.
    UnknownService,
    /// A required meter found no amount in the answer.
    NoAmount,
    /// Priced by the byte, and the answer was not received whole.
    NoBytes,
}

impl Unpriced {
    /// Every value, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::NoPrices,
        Self::NotYetEffective,
        Self::NoTarget,
        Self::UnknownTarget,
        Self::NoUsage,
        Self::NoRate,
        Self::UnknownService,
        Self::NoAmount,
        Self::NoBytes,
    ];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPrices => "no-prices",
            Self::NotYetEffective => "not-yet-effective",
            Self::NoTarget => "no-target",
            Self::UnknownTarget => "unknown-target",
            Self::NoUsage => "no-usage",
            Self::NoRate => "no-rate",
            Self::UnknownService => "unknown-service",
            Self::NoAmount => "no-amount",
            Self::NoBytes => "no-bytes",
        }
    }

    /// The value of a stable string.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoPrices => "write [providers.NAME.prices], or free = true by agreement",
            Self::NotYetEffective => "give prices that hold already, or an earlier `effective`",
            Self::NoTarget => "the request names no target: price the route by call, or send a `model`",
            Self::UnknownTarget => "add the target under `prices.targets`, or import a price map (farthing prices import)",
            Self::NoUsage => "the answer reports no usage: set include_usage, or price the target by call",
            Self::NoRate => "add the missing rate to the target",
            Self::UnknownService => "add the service tier's factor under `prices.service`, or its rates to the target",
            Self::NoAmount => "correct the meter's pointer or header, or set required = false",
            Self::NoBytes => "the transfer broke off; nothing to correct in the prices",
        }
    }
}

impl fmt::Display for Unpriced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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
