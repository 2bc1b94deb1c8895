//! The most that a call can cost, before it is sent.

use farthing_types::{Factor, Meter, MeterSource, Money, Time};

use super::amount::NANO;
use super::schedule::{Schedule, counted};
use super::{Amount, PriceBook, tokens};
use crate::usage::RequestFacts;

/// What is known of a call before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The route: its own prices come first.
    pub route: &'a str,
    /// The provider that would bill.
    pub provider: &'a str,
    /// The target named in the request.
    pub target: Option<&'a str>,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// Most output tokens of one choice that the request allows; `None`: it does not say.
    pub max_output: Option<u64>,
    /// Answers that it asks for at once; 0 counts as 1.
    pub choices: u32,
    /// Attempts that may be made, the first included; 0 counts as 1.
    pub attempts: u32,
    /// When it would begin.
    pub at: Time,
    /// The request refers to images, audio or files, or to text that the provider keeps: its tokens are not bounded by its bytes.
    pub media: bool,
    /// What stands for the service tier that it asks for, where that costs more than the usual one.
    pub service: Option<&'a str>,
    /// Its tokens are not billed with it: see [`crate::usage::Billing::Never`].
    pub unbilled: bool,
}

impl<'a> Ask<'a> {
    /// The ask of a request whose body was read.
    pub fn of((route, provider): (&'a str, &'a str), facts: &'a RequestFacts, body_bytes: u64, (attempts, at): (u32, Time)) -> Self {
        Self {
            route,
            provider,
            target: facts.target.as_deref(),
            body_bytes,
            max_output: facts.max_output,
            choices: facts.choices.unwrap_or(1),
            attempts,
            at,
            media: facts.media,
            service: facts.service.as_deref(),
            unbilled: false,
        }
    }
}

impl PriceBook {
    /// The most that a call can cost, all its attempts together; `None` where nothing bounds it.
    ///
    /// A token is at least one byte of the request, so its bytes bound the input; the output is bounded by the request or by the
    /// target's own `max_output`. Every token costs the dearest rate that long inputs, caches and service tiers may bring. Bytes of the
    /// answer, and amounts that it holds, have no bound but a meter's `at_most`. An answer that confirms a copy which the provider was
    /// not asked about is asked for a second time, beyond this bound.
    pub fn bound(&self, ask: &Ask<'_>) -> Option<Money> {
        let schedule = self.schedule((ask.route, ask.provider), ask.at).ok()?;
        let spec = &schedule.spec;
        if spec.free {
            return Some(Money::ZERO);
        }
        if !spec.is_priced() || spec.per_kb.is_some() || spec.per_unit.is_some() {
            return None;
        }
        let one = schedule.one_at_most(ask)?;
        let confirmed = spec.not_modified.map_or(Money::ZERO, |rate| schedule.confirmed(rate));
        let billed = if spec.errors_billed { ask.attempts.max(1) } else { 1 };
        Some(one.max(confirmed).times(i64::from(billed)))
    }
}

impl Schedule {
    /// The most that one billed attempt costs.
    fn one_at_most(&self, ask: &Ask<'_>) -> Option<Money> {
        let mut meters = bounded(&self.spec.meters)?;
        if self.targets.is_empty() || ask.unbilled {
            return Some(self.at_most(&meters, 0, Factor::ONE));
        }
        let rates = self.targets.find(ask.target?)?;
        meters.extend(bounded(&rates.meters)?);
        if !tokens::has_rates(rates) {
            return Some(self.at_most(&meters, 0, Factor::ONE));
        }
        // Without a rate of its own for input, what other circumstances cost bounds nothing; and what they cost has to be known.
        let known = |service| rates.service.contains_key(service) || self.spec.service.contains_key(service);
        if ask.media || rates.input.is_none() || !ask.service.is_none_or(known) {
            return None;
        }
        let (input, output) = tokens::dearest(rates);
        let choices = u64::from(ask.choices.max(1));
        let most = match ask.max_output.or(rates.max_output) {
            Some(most) => most.saturating_mul(choices),
            // What has no rate for output has none: embeddings.
            None if output.nanos_per_million() == 0 => 0,
            None => return None,
        };
        let exact = input.exact(ask.body_bytes).saturating_add(output.exact(most));
        let dearest = self.spec.service.values().copied().chain([Factor::ONE]).max_by_key(|factor| {
            let (times, over) = factor.parts();
            u128::from(times) * u128::from(1_000_000_000 / over)
        });
        Some(self.at_most(&meters, exact, dearest.unwrap_or(Factor::ONE)))
    }
}

/// Each meter with the most that it can count of one call, in billionths; `None` when one is not bounded. Discounts count nothing.
fn bounded(meters: &[Meter]) -> Option<Vec<(&Meter, u128)>> {
    let most = |meter: &Meter| match (&meter.source, meter.at_most) {
        (MeterSource::Call, _) => Some(counted(meter, Amount::units(1)).nano()),
        (_, Some(most)) if meter.round_up => Some(u128::from(most) * NANO),
        (_, Some(most)) => Some(u128::from(most) * NANO * u128::from(meter.unit_size)),
        _ => None,
    };
    meters.iter().filter(|meter| !meter.discount).map(|meter| Some((meter, most(meter)?))).collect()
}
