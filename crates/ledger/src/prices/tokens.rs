//! What tokens cost.

use std::collections::BTreeMap;

use farthing_types::{Factor, Rate, TokenRates, Usage};

use super::{Billable, Unpriced};
use crate::usage::service::USUAL;

/// The six rates of a target under the circumstances of one call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Six {
    pub(super) input: Option<Rate>,
    pub(super) cached_input: Option<Rate>,
    pub(super) cache_write: Option<Rate>,
    pub(super) cache_write_1h: Option<Rate>,
    pub(super) output: Option<Rate>,
    pub(super) reasoning: Option<Rate>,
}

impl Six {
    pub(super) fn of(rates: &TokenRates) -> Self {
        let TokenRates { input, cached_input, cache_write, cache_write_1h, output, reasoning, .. } = *rates;
        Self { input, cached_input, cache_write, cache_write_1h, output, reasoning }
    }

    /// These, and what they do not name from `usual`.
    fn over(self, usual: Self) -> Self {
        Self {
            input: self.input.or(usual.input),
            cached_input: self.cached_input.or(usual.cached_input),
            cache_write: self.cache_write.or(usual.cache_write),
            cache_write_1h: self.cache_write_1h.or(usual.cache_write_1h),
            output: self.output.or(usual.output),
            reasoning: self.reasoning.or(usual.reasoning),
        }
    }

    /// Each bucket's count and its rate, as providers bill it where it has none of its own.
    fn buckets(self, usage: &Usage) -> [(Option<u64>, Option<Rate>); 6] {
        let write = self.cache_write.or(self.input);
        [
            (usage.input, self.input),
            (usage.cached_input, self.cached_input.or(self.input)),
            (usage.cache_write, write),
            (usage.cache_write_1h, self.cache_write_1h.or(write)),
            (usage.output, self.output),
            (usage.reasoning, self.reasoning.or(self.output)),
        ]
    }
}

/// Rates of input by what the provider's prompt cache has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptRates {
    /// Plain.
    pub input: Rate,
    /// Read from it.
    pub read: Rate,
    /// Written to it for its usual lifetime.
    pub write: Rate,
    /// Written to it for an hour.
    pub write_1h: Rate,
}

/// The usual rates of a target.
pub(super) fn prompt(rates: &TokenRates) -> Option<PromptRates> {
    let six = Six::of(rates);
    let input = six.input?;
    let write = six.cache_write.unwrap_or(input);
    Some(PromptRates { input, read: six.cached_input.unwrap_or(input), write, write_1h: six.cache_write_1h.unwrap_or(write) })
}

/// Whether the target is charged by the token at all, under whatever circumstances: where no rate fits a call it is unpriced, not free.
pub(super) fn has_rates(rates: &TokenRates) -> bool {
    rates.buckets().iter().any(|(_, rate)| rate.is_some()) || rates.long.is_some() || !rates.service.is_empty()
}

/// The exact cost of the token buckets, in millionths of a nano-unit, and the factor that it is still to be multiplied by.
pub(super) fn exact(rates: &TokenRates, factors: &BTreeMap<String, Factor>, call: &Billable<'_>) -> Result<(i128, Factor), Unpriced> {
    let usage = call.usage;
    let input = [usage.input, usage.cached_input, usage.cache_write, usage.cache_write_1h];
    let length = input.into_iter().flatten().fold(0u64, u64::saturating_add);
    let (six, own) = in_force(rates, call.service, length);
    let buckets = six.buckets(usage);
    if buckets.iter().all(|(count, _)| count.is_none()) {
        return Err(Unpriced::NoUsage);
    }
    let sum = buckets.into_iter().try_fold(0_i128, |sum, (count, rate)| match (count, rate) {
        (None | Some(0), _) => Ok(sum),
        (Some(count), rate) => Ok(sum.saturating_add(rate.ok_or(Unpriced::NoRate)?.exact(count))),
    })?;
    // A tier of service with rates of its own needs no factor.
    let factor = match call.service.filter(|service| !own && !USUAL.contains(service)) {
        None => Factor::ONE,
        Some(service) => *factors.get(service).ok_or(Unpriced::UnknownService)?,
    };
    Ok((sum, factor))
}

/// The rates of a call of this service tier and input length, and whether the tier has its own.
pub(super) fn in_force(rates: &TokenRates, service: Option<&str>, input: u64) -> (Six, bool) {
    let long = |rates: &TokenRates| match &rates.long {
        Some(long) if input > long.over => Six::of(&long.rates).over(Six::of(rates)),
        _ => Six::of(rates),
    };
    match service.and_then(|service| rates.service.get(service)) {
        Some(own) => (long(own).over(long(rates)), true),
        None => (long(rates), false),
    }
}

/// The dearest rates that any circumstances may bring: per input token and per output token.
pub(super) fn dearest(rates: &TokenRates) -> (Rate, Rate) {
    let mut all = vec![Six::of(rates)];
    let mut add = |rates: &TokenRates, usual: Six| {
        let six = Six::of(rates).over(usual);
        all.push(six);
        if let Some(long) = &rates.long {
            all.push(Six::of(&long.rates).over(six));
        }
    };
    let usual = Six::of(rates);
    add(rates, usual);
    let long = rates.long.as_ref().map(|long| Six::of(&long.rates).over(usual));
    for own in rates.service.values() {
        add(own, usual);
        if let Some(long) = long {
            add(own, long);
        }
    }
    let input = all.iter().flat_map(|six| [six.input, six.cached_input, six.cache_write, six.cache_write_1h]).flatten().max();
    let output = all.iter().flat_map(|six| [six.output, six.reasoning]).flatten().max();
    (input.unwrap_or_default(), output.unwrap_or_default())
}
