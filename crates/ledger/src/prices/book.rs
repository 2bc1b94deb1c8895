//! The snapshot and the arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Money, Rate, Usage};
use sha2::{Digest, Sha256};

use super::names::TargetRates;
use super::{Billable, PriceError, PriceSpec, TokenRates};

/// Bytes in the KB of [`PriceSpec::per_kb`].
const KB: i128 = 1024;
/// [`Rate::exact`] counts millionths of a nano-dollar.
const MILLION: i128 = 1_000_000;

/// An immutable snapshot of all prices. Share it as `Arc<PriceBook>`, replace it whole.
#[derive(Debug, Default)]
pub struct PriceBook {
    providers: BTreeMap<Arc<str>, Schedule>,
    routes: BTreeMap<Arc<str>, Schedule>,
    digest: Arc<str>,
}

#[derive(Debug)]
struct Schedule {
    spec: PriceSpec,
    targets: TargetRates,
}

impl PriceBook {
    /// Checks and compiles the specs.
    ///
    /// # Errors
    /// A negative rate, a nameless target, `free` together with rates, or an `effective` that is no date.
    pub fn new(providers: &BTreeMap<Arc<str>, PriceSpec>, routes: &BTreeMap<Arc<str>, PriceSpec>) -> Result<Self, PriceError> {
        let compile = |kind: &str, specs: &BTreeMap<Arc<str>, PriceSpec>| {
            let one = |(name, spec): (&Arc<str>, &PriceSpec)| {
                check(spec).map_err(|what| PriceError { owner: format!("{kind} `{name}`"), what })?;
                Ok((name.clone(), Schedule { spec: spec.clone(), targets: TargetRates::new(&spec.targets) }))
            };
            specs.iter().map(one).collect::<Result<BTreeMap<_, _>, PriceError>>()
        };
        Ok(Self { providers: compile("provider", providers)?, routes: compile("route", routes)?, digest: digest(providers, routes) })
    }

    /// Identifies the prices in the log and in metrics: 16 hexadecimal digits of a SHA-256 over all specs.
    pub fn digest(&self) -> Arc<str> {
        self.digest.clone()
    }

    /// What `call` costs, `None` when that is not known.
    ///
    /// The cost is the sum over the spec's meters, exact in 128-bit integers and rounded once, half away from zero.
    /// A meter whose amount is not known (no usage in the answer, no rate for the target) makes the call unpriced;
    /// amounts the spec does not meter are not charged.
    pub fn price(&self, call: &Billable<'_>) -> Option<Money> {
        let schedule = self.routes.get(call.route).or_else(|| self.providers.get(call.provider))?;
        schedule.price(call)
    }

    /// What a plain call of `route` costs before anything is known of its answer: the flat part of the price. `None`
    /// when the price depends on metered amounts or is not known.
    pub fn flat(&self, route: &str, provider: &str) -> Option<Money> {
        let spec = &self.routes.get(route).or_else(|| self.providers.get(provider))?.spec;
        let metered = spec.per_kb.is_some() || spec.per_unit.is_some() || !spec.targets.is_empty();
        match spec.per_call {
            _ if spec.free => Some(Money::ZERO),
            Some(rate) if !metered => Some(rate.cost(1)),
            _ => None,
        }
    }

    /// The most that a plain call of `route` can cost, all its `attempts` together. `None` where [`PriceBook::flat`] is.
    pub fn most(&self, route: &str, provider: &str, attempts: u32) -> Option<Money> {
        let spec = &self.routes.get(route).or_else(|| self.providers.get(provider))?.spec;
        let billed = if spec.errors_billed { attempts.max(1) } else { 1 };
        self.flat(route, provider).map(|price| price.times(i64::from(billed)))
    }
}

impl Schedule {
    fn price(&self, call: &Billable<'_>) -> Option<Money> {
        let spec = &self.spec;
        if spec.free {
            return Some(Money::ZERO);
        }
        match call.status {
            Some(200..=299) => self.metered(call),
            Some(304) => spec.not_modified.or(spec.per_call).map(|rate| rate.cost(1)),
            _ if !spec.errors_billed && self.knows_prices() => Some(Money::ZERO),
            // No body to meter: what is flat is charged.
            None => spec.per_call.map(|rate| rate.cost(1)),
            Some(_) => self.metered(call),
        }
    }

    fn knows_prices(&self) -> bool {
        let spec = &self.spec;
        spec.per_call.is_some() || spec.per_kb.is_some() || spec.per_unit.is_some() || !self.targets.is_empty()
    }

    fn metered(&self, call: &Billable<'_>) -> Option<Money> {
        if !self.knows_prices() {
            return None;
        }
        let spec = &self.spec;
        let mut exact = spec.per_call.map_or(0, |rate| rate.exact(1));
        if let Some(rate) = spec.per_unit {
            exact = exact.saturating_add(rate.exact(call.usage.units?));
        }
        if !self.targets.is_empty() {
            exact = exact.saturating_add(tokens(self.targets.find(call.target?)?, call.usage)?);
        }
        let by_bytes = match spec.per_kb {
            Some(rate) => rate.exact(call.bytes?),
            None => 0,
        };
        Some(round(exact.saturating_mul(KB).saturating_add(by_bytes), KB * MILLION))
    }
}

/// The exact cost of the token buckets; `None` when nothing is metered or a bucket has no rate.
fn tokens(rates: &TokenRates, usage: &Usage) -> Option<i128> {
    let buckets = [
        (usage.input, rates.input),
        (usage.cached_input, rates.cached_input.or(rates.input)),
        (usage.cache_write, rates.cache_write.or(rates.input)),
        (usage.output, rates.output),
        (usage.reasoning, rates.reasoning.or(rates.output)),
    ];
    if buckets.iter().all(|(count, _)| count.is_none()) {
        return None;
    }
    buckets.into_iter().try_fold(0_i128, |sum, (count, rate)| match (count, rate) {
        (None | Some(0), _) => Some(sum),
        (Some(count), rate) => Some(sum.saturating_add(rate?.exact(count))),
    })
}

fn round(value: i128, unit: i128) -> Money {
    let half = if value < 0 { -unit / 2 } else { unit / 2 };
    let nanos = value.saturating_add(half) / unit;
    Money::from_nanos(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

fn check(spec: &PriceSpec) -> Result<(), String> {
    let flat = [("per_call", spec.per_call), ("per_kb", spec.per_kb), ("per_unit", spec.per_unit), ("not_modified", spec.not_modified)];
    for (key, rate) in flat {
        check_rate(key, rate)?;
    }
    for (name, rates) in &spec.targets {
        if name.trim_end_matches('*').trim().is_empty() {
            return Err("`targets` holds a nameless target: name it as the provider does".to_owned());
        }
        let TokenRates { input, cached_input, cache_write, output, reasoning } = *rates;
        let all =
            [("input", input), ("cached_input", cached_input), ("cache_write", cache_write), ("output", output), ("reasoning", reasoning)];
        for (key, rate) in all {
            check_rate(&format!("targets.\"{name}\".{key}"), rate)?;
        }
    }
    let priced = flat.iter().any(|(_, rate)| rate.is_some()) || !spec.targets.is_empty();
    if spec.free && priced {
        return Err("`free = true` stands beside rates: keep one of them".to_owned());
    }
    match &spec.effective {
        Some(date) if !is_date(date) => Err(format!("`effective = \"{date}\"` is no date: write YYYY-MM-DD")),
        _ => Ok(()),
    }
}

fn check_rate(key: &str, rate: Option<Rate>) -> Result<(), String> {
    match rate {
        Some(rate) if rate.nanos_per_million() < 0 => Err(format!("`{key} = \"{rate}\"` is negative: a price is at least 0")),
        _ => Ok(()),
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |text: &str, digits: usize| (text.len() == digits).then(|| text.parse::<u32>().ok()).flatten();
    let [year, month, day] = parts[..] else { return false };
    number(year, 4).is_some()
        && number(month, 2).is_some_and(|m| (1..=12).contains(&m))
        && number(day, 2).is_some_and(|d| (1..=31).contains(&d))
}

fn digest(providers: &BTreeMap<Arc<str>, PriceSpec>, routes: &BTreeMap<Arc<str>, PriceSpec>) -> Arc<str> {
    // Sorted maps and fixed field order make the JSON text canonical; it holds strings and booleans only.
    let text = serde_json::to_vec(&(providers, routes)).unwrap_or_default();
    let hash = Sha256::digest(&text);
    hex::encode(&hash[..8]).into()
}
